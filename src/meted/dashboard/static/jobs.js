// Jobs, trainings and searches: how far, how well, how much.

import { Chart } from "./charts.js";
import { count, dollars, el, number } from "./format.js";

const FINAL = ["done", "failed", "cancelled"];
const SHOWN_FINAL = 3;
const UNITS = { training: "Step", variants: "Levers tried", serving: "Requests measured" };
const cards = new Map();

/** Show the jobs that are under way and the last that ended, newest first. */
export function showJobs(place, jobs) {
  const newest = [...jobs].reverse();
  const open = newest.filter((job) => !FINAL.includes(job.status));
  const ended = newest.filter((job) => FINAL.includes(job.status));
  const shown = [...open, ...ended.slice(0, SHOWN_FINAL)];
  for (const [name, card] of cards) {
    if (!shown.some((job) => job.name === name)) {
      card.chart.remove();
      cards.delete(name);
    }
  }
  const nodes = shown.map((job) => {
    if (!cards.has(job.name)) cards.set(job.name, newCard(job));
    const card = cards.get(job.name);
    fill(card, job);
    return card.node;
  });
  if (ended.length > SHOWN_FINAL) nodes.push(el("p", "empty", `and ${ended.length - SHOWN_FINAL} earlier; see meted jobs`));
  if (jobs.length === 0) nodes.push(empty());
  const same = place.children.length === nodes.length && nodes.every((node, i) => place.children[i] === node);
  if (!same) place.replaceChildren(...nodes);
}

function empty() {
  return el("p", "card empty", [
    "No job. Start one on what serving leaves over: ",
    el("code", "", "meted train --model smollm2-135m --data book.txt --name mine"),
  ]);
}

function newCard(job) {
  const card = {
    title: el("h3", "", job.name),
    status: el("span", "status"),
    bar: el("progress", "", [], { "aria-label": `progress of ${job.name}` }),
    facts: el("div"),
    error: el("p", "error"),
  };
  card.curve = el("div");
  const head = el("header", "", [card.title, card.status]);
  const left = el("div", "", [card.bar, card.facts, card.error]);
  card.node = el("article", "card job", [head, el("div", "body", [left, card.curve])]);
  card.chart = new Chart(card.curve, {
    title: `Loss of ${job.name} by step`,
    lines: [{ name: "training loss", colour: "request" }, { name: "held-out loss", colour: "second", dots: true }],
    time: false, places: 3, height: 220,
  });
  return card;
}

function fill(card, job) {
  card.status.textContent = job.status === "running" && job.phase ? `${job.status}: ${job.phase}` : job.status;
  card.status.className = `status ${job.status}`;
  card.bar.max = Math.max(1, job.total_steps);
  card.bar.value = job.step;
  card.error.textContent = job.error ?? "";
  card.error.hidden = !job.error;
  const held = [job.held_out_before, job.held_out].map((loss) => number(loss, 3)).join(" → ");
  const converted = job.held_out_converted == null ? "" : `, served ${number(job.held_out_converted, 3)}`;
  const trains = job.kind === "training";
  const training = [
    ["Held-out loss", held + converted],
    ["Tokens", `${count(job.tokens)}, ${number(job.tokens_per_second, 0)} per second`],
  ];
  const rows = [
    [UNITS[job.kind] ?? "Step", `${count(job.step)} of ${count(job.total_steps)}`],
    ["What", job.what],
    ...(trains ? training : []),
    ["Spent", dollars(job.cost_nano_usd ?? 0)],
    ...(trains && !FINAL.includes(job.status) ? [["To finish", toFinish(job)]] : []),
    ["Core-seconds", number(job.device_seconds, 1)],
    ["For", job.tenant],
  ];
  card.facts.replaceChildren(el("dl", "pairs", rows.flatMap(([name, value]) => [el("dt", "", name), el("dd", "", value)])));
  card.curve.hidden = !trains;
  if (trains) card.chart.show(...curves(job.losses ?? []));
}

function toFinish(job) {
  return job.cost_to_finish_nano_usd == null ? "–" : `about ${dollars(job.cost_to_finish_nano_usd)}`;
}

/** Steps, and the loss on training and held-out text at each; null where it was not measured. */
function curves(losses) {
  const steps = new Map();
  for (const { step, loss, held_out: heldOut, when } of losses) {
    const point = steps.get(step) ?? [null, null];
    if (loss != null) point[0] = loss;
    // What conversion did to the result is a number of its own, not a point of the curve.
    if (heldOut != null && when !== "converted") point[1] = heldOut;
    steps.set(step, point);
  }
  const xs = [...steps.keys()].sort((a, b) => a - b);
  return [xs, [0, 1].map((i) => xs.map((x) => steps.get(x)[i]))];
}
