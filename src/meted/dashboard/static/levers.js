// Levers: rollouts that run, with the saving so far, and the receipts of those that ended.

import { count, duration, el, number, table } from "./format.js";
import { svg } from "./svg.js";

const ENDED = ["promoted", "returned"];
const SHOWN_RECEIPTS = 12;
const WIDTH = 360;
const HEIGHT = 46;

/** Cards of the rollouts that run. */
export function showRollouts(place, rollouts) {
  place.replaceChildren(...rollouts.filter((one) => !ENDED.includes(one.phase)).map(card));
}

/** A table of receipts, newest first. */
export function showReceipts(place, receipts) {
  if (receipts.length === 0) {
    place.replaceChildren(el("p", "empty", ["No receipt yet. ", el("code", "", "meted rollout start NAME")]));
    return;
  }
  const newest = [...receipts].reverse();
  const rows = newest.slice(0, SHOWN_RECEIPTS).map((one) => [
    [[el("strong", "", one.id), el("div", "hint", `${one.lever}: ${one.from} → ${one.to}`)]],
    [share(one.predicted), "number extra"],
    [share(one.measured), "number"],
    [el("span", `status ${one.status}`, one.status.replace("_", " "), { title: one.reason })],
  ]);
  const parts = [table([["Receipt"], ["Predicted", "number extra"], ["Measured", "number"], ["Status"]], rows)];
  if (newest.length > SHOWN_RECEIPTS) parts.push(el("p", "empty", `and ${newest.length - SHOWN_RECEIPTS} earlier; see meted savings`));
  place.replaceChildren(...parts);
}

function card(one) {
  const saving = one.measured ?? one.so_far;
  const head = el("header", "", [el("h3", "", one.name), el("span", "status running", one.phase)]);
  const rows = [
    ["From", one.first.configuration],
    ["To", one.second.configuration],
    ["Serves now", one.serving],
    ["This turn", one.waiting ?? turn(one.turn)],
    ["Blocks", `${count(one.blocks_done)} of ${count(one.blocks_most)} at most, ${count(one.void)} void`],
    ["Quality", one.quality?.reason ?? "–"],
  ];
  const facts = el("dl", "pairs", rows.flatMap(([name, value]) => [el("dt", "", name), el("dd", "", value)]));
  const seen = [
    el("div", "name", one.measured ? "Saving at the last look" : "Saving so far, to be seen only"),
    el("div", "value", share(saving)),
    interval(saving, one.predicted, one.measured != null),
  ];
  return el("article", "card job", [head, el("div", "body", [facts, el("div", "", seen)])]);
}

function turn(now) {
  if (!now) return "–";
  if (now.waits_for_replicas) return "waits until both versions can serve";
  return now.seconds_left == null ? now.arm : `${now.arm} version, ${duration(now.seconds_left)} left`;
}

/** A share with its interval: 12.0 % (8.1 to 15.8). */
function share(estimate) {
  if (!estimate) return "–";
  const [low, middle, high] = [estimate.low, estimate.expected, estimate.high].map((one) => number(100 * one, 1));
  return low === high ? `${middle} %` : `${middle} % (${low} to ${high})`;
}

/** The interval on a line with nothing saved marked, and what was predicted; green once it holds. */
function interval(saving, predicted, looked) {
  if (!saving) return el("p", "empty", "Three pairs of blocks tell the first.");
  const shown = [0, saving.low, saving.high, predicted.low, predicted.high].map((one) => Math.max(-1, Math.min(1, one)));
  const low = Math.min(...shown) - 0.02;
  const high = Math.max(...shown) + 0.02;
  const x = (value) => ((Math.max(low, Math.min(high, value)) - low) / (high - low)) * WIDTH;
  const good = looked && saving.low > 0 ? " good" : "";
  const label = `saves ${share(saving)}, predicted ${share(predicted)}`;
  return svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "interval", role: "img", "aria-label": label }, [
    svg("line", { x1: x(0), x2: x(0), y1: 4, y2: 30, class: "zero" }),
    svg("text", { x: x(0), y: 43, class: "tick", "text-anchor": "middle" }, "0"),
    svg("line", { x1: x(saving.low), x2: x(saving.high), y1: 17, y2: 17, class: `span${good}` }),
    svg("circle", { cx: x(saving.expected), cy: 17, r: 5, class: `dot${good}` }),
    svg("line", { x1: x(predicted.expected), x2: x(predicted.expected), y1: 8, y2: 26, class: "predicted" }, svg("title", {}, "predicted")),
  ]);
}
