// The last search of each deployment: what each way to serve costs, and how long its first token takes.

import { el, number, table } from "./format.js";
import { svg, ticks } from "./svg.js";

const WIDTH = 560;
const HEIGHT = 260;
const EDGE = { left: 56, right: 12, top: 10, bottom: 40 };

export function showFronts(place, fronts) {
  if (fronts.length === 0) {
    place.replaceChildren(el("p", "empty", ["No search yet. ", el("code", "", "meted optimise serving")]));
    return;
  }
  place.replaceChildren(...fronts.map(front));
}

function front({ deployment, at, points }) {
  const when = new Date(at * 1000);
  const head = el("p", "hint", [`${deployment}, searched `, el("time", "", when.toLocaleString("en", { hourCycle: "h23" }), { datetime: when.toISOString() })]);
  return el("figure", "front", [head, plot(deployment, points), list(points)]);
}

function plot(deployment, points) {
  const drawn = points.filter((one) => one.usd_per_million != null && one.ttft_p95_ms != null);
  if (drawn.length === 0) return el("p", "empty", "Nothing was measured.");
  const xs = ticks(Math.max(...drawn.map((one) => one.ttft_p95_ms)));
  const ys = ticks(Math.max(...drawn.map((one) => one.usd_per_million)));
  const x = (value) => EDGE.left + (value / xs.at(-1)) * (WIDTH - EDGE.left - EDGE.right);
  const y = (value) => HEIGHT - EDGE.bottom - (value / ys.at(-1)) * (HEIGHT - EDGE.top - EDGE.bottom);
  const grid = ys.flatMap((value) => [
    svg("line", { x1: EDGE.left, x2: WIDTH - EDGE.right, y1: y(value), y2: y(value), class: "grid" }),
    svg("text", { x: EDGE.left - 6, y: y(value) + 4, class: "tick", "text-anchor": "end" }, said(value)),
  ]);
  const below = xs.map((value) => svg("text", { x: x(value), y: HEIGHT - EDGE.bottom + 16, class: "tick", "text-anchor": "middle" }, said(value)));
  const names = [
    svg("text", { x: WIDTH - EDGE.right, y: HEIGHT - 4, class: "tick", "text-anchor": "end" }, "TTFT p95, ms"),
    svg("text", { x: 0, y: HEIGHT - 4, class: "tick" }, "$ per million tokens ↑"),
  ];
  const edge = best(drawn).map((one) => `${x(one.ttft_p95_ms)},${y(one.usd_per_million)}`).join(" ");
  // The chosen one is drawn last, so that nothing lies over it.
  const dots = [...drawn].sort((a, b) => a.chosen - b.chosen).map((one) =>
    svg("circle", { cx: x(one.ttft_p95_ms), cy: y(one.usd_per_million), r: one.chosen ? 7 : 4.5, class: `point ${kind(one)}` }, svg("title", {}, sentence(one))),
  );
  const label = `Cost against time to first token of ${deployment}, ${drawn.length} ways to serve`;
  return svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "pareto", role: "img", "aria-label": label }, [
    ...grid, ...below, ...names, svg("polyline", { points: edge, class: "edge" }), ...dots,
  ]);
}

/** Those that no other usable way beats in both, fastest first. */
function best(points) {
  const usable = points.filter((one) => !one.rejected);
  const sorted = usable.sort((a, b) => a.ttft_p95_ms - b.ttft_p95_ms || a.usd_per_million - b.usd_per_million);
  let least = Infinity;
  return sorted.filter((one) => {
    if (one.usd_per_million >= least) return false;
    least = one.usd_per_million;
    return true;
  });
}

function list(points) {
  const order = { chosen: 0, usable: 1, rejected: 2 };
  const cost = (one) => one.usd_per_million ?? Infinity;
  const rows = [...points]
    .sort((a, b) => order[kind(a)] - order[kind(b)] || cost(a) - cost(b))
    .map((one) => [
      [[one.key, one.rejected ? el("div", "hint", one.rejected) : null]],
      [one.usd_per_million == null ? "–" : `$${said(one.usd_per_million)}`, "number"],
      [one.ttft_p95_ms == null ? "–" : `${said(one.ttft_p95_ms)} ms`, "number"],
      [one.loss == null ? "–" : number(one.loss, 3), "number extra"],
      [el("span", `status ${one.chosen ? "done" : ""}`, kind(one))],
    ]);
  return table([["Way to serve"], ["Per million", "number"], ["TTFT p95", "number"], ["Loss", "number extra"], [""]], rows);
}

function kind(point) {
  if (point.chosen) return "chosen";
  return point.rejected ? "rejected" : "usable";
}

function sentence(one) {
  const parts = [`${one.key}: $${said(one.usd_per_million)} per million, ${said(one.ttft_p95_ms)} ms`];
  if (one.loss != null) parts.push(`loss ${number(one.loss, 3)}`);
  return [...parts, one.rejected ?? (one.chosen ? "chosen" : null)].filter(Boolean).join("; ");
}

/** Three digits that say something. */
function said(value) {
  return Number(value.toPrecision(3)).toLocaleString("en", { maximumFractionDigits: 9 });
}
