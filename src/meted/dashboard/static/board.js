// The board: tiles, charts over time, dollars, deployments, decisions.

import { Chart, KINDS, NAMES } from "./charts.js";
import { count, dollars, duration, el, ms, number, roughDollars, table } from "./format.js";
import { showJobs } from "./jobs.js";

const $ = (id) => document.getElementById(id);
const RECENT_POINTS = 10;
let charts;

function build() {
  const quantiles = [{ name: "p50", colour: "request" }, { name: "p95", colour: "second" }];
  charts = {
    cores: new Chart($("cores"), {
      title: "Cores by use", stacked: true, height: 230, places: 2,
      lines: KINDS.map((kind) => ({ name: NAMES[kind], colour: kind })),
    }),
    rate: new Chart($("rate"), { title: "Requests per second", lines: [{ name: "requests", colour: "request" }], unit: "/s" }),
    ttft: new Chart($("ttft"), { title: "Time to first token", lines: quantiles, places: 0, unit: " ms", floor: 20 }),
    tpot: new Chart($("tpot"), { title: "Time per output token", lines: quantiles, places: 1, unit: " ms", floor: 10 }),
  };
}

export function showBoard(status, timeline) {
  if (!charts) build();
  facts(status);
  tiles(status, timeline);
  const points = timeline.points ?? [];
  const xs = points.map((point) => point.at);
  const row = (pick) => points.map((point) => pick(point) ?? null);
  charts.cores.floor = Math.max(1, status.pool?.devices?.length ?? 1);
  charts.cores.show(xs, KINDS.map((kind) => row((point) => point.cores?.[kind] ?? 0)));
  charts.rate.show(xs, [row((point) => point.requests_per_second)]);
  charts.ttft.show(xs, [row((point) => point.ttft_ms_p50), row((point) => point.ttft_ms_p95)]);
  charts.tpot.show(xs, [row((point) => point.tpot_ms_p50), row((point) => point.tpot_ms_p95)]);
  money(timeline.totals ?? {});
  deployments(status.deployments ?? []);
  showJobs($("jobs"), timeline.jobs ?? status.jobs ?? []);
  decisions(status.decisions ?? []);
}

function facts(status) {
  const devices = status.pool?.devices?.length ?? 0;
  const rows = [
    ["Pool", `${devices} ${devices === 1 ? "core" : "cores"}`],
    ["Price", `$${status.pool?.price_usd_per_device_hour ?? "–"} per core-hour`],
    ["Policy", status.policy?.name ?? "–"],
    ["Up", duration(status.uptime_s)],
    ["Version", status.version ?? "–"],
  ];
  $("facts").replaceChildren(...rows.map(([name, value]) => el("div", "", [el("dt", "", name), el("dd", "", value)])));
}

function tile(name, [value, unit], more, title = "") {
  const shown = el("div", "value", unit ? [value, el("span", "unit", unit)] : value, title ? { title } : {});
  return el("div", "card tile", [el("div", "name", name), shown, el("div", "more", more)]);
}

function tiles(status, timeline) {
  const points = timeline.points ?? [];
  const recent = points.slice(-RECENT_POINTS);
  const mean = (pick) => (recent.length ? recent.reduce((sum, point) => sum + pick(point), 0) / recent.length : 0);
  const latest = (key) => points.findLast((point) => point[key] != null)?.[key];
  const said = (key) => ms(latest(key)).join(" ");
  const devices = status.pool?.devices?.length ?? 0;
  const idle = mean((point) => point.cores?.idle ?? 0);
  const busy = mean((point) => KINDS.reduce((sum, kind) => sum + (point.cores?.[kind] ?? 0), 0)) - idle;
  const price = Number(status.pool?.price_usd_per_device_hour ?? 0);
  const total = Object.values(timeline.totals ?? {}).reduce((sum, one) => sum + BigInt(one.nano_usd), 0n);
  const running = (status.deployments ?? []).reduce((sum, one) => sum + (one.running ?? 0), 0);
  const waiting = (status.deployments ?? []).reduce((sum, one) => sum + (one.waiting ?? 0), 0);
  $("tiles").replaceChildren(
    tile("Requests", [number(mean((point) => point.requests_per_second ?? 0), 1), "per second"], `${count(running)} running, ${count(waiting)} waiting`),
    tile("Time to first token", ms(latest("ttft_ms_p50")), `p95 ${said("ttft_ms_p95")}`),
    tile("Time per output token", ms(latest("tpot_ms_p50")), `p95 ${said("tpot_ms_p95")}`),
    tile("Cores busy", [number(busy, 2), `of ${devices}`], `${number(devices ? (100 * busy) / devices : 0, 0)} % of the pool`),
    tile("Rate", [`$${number(price * devices, 4)}`, "per hour"], `$${number(price * busy, 4)} of it busy`),
    tile("Spent", [roughDollars(total), ""], "since the house began", dollars(total)),
  );
}

function money(totals) {
  const kinds = KINDS.filter((kind) => totals[kind]);
  if (kinds.length === 0) {
    $("dollars").replaceChildren(el("p", "empty", "Nothing in the books yet."));
    return;
  }
  const most = kinds.reduce((high, kind) => Math.max(high, totals[kind].nano_usd), 1);
  const rows = kinds.map((kind) => {
    const bar = el("span", `bar ${kind}`);
    bar.style.width = `${Math.max(0, (100 * totals[kind].nano_usd) / most)}%`;
    return [
      [el("span", "kind", [el("span", `swatch ${kind}`), NAMES[kind]])],
      [el("div", "track", bar), "wide"],
      [number(totals[kind].device_seconds, 1), "number"],
      [dollars(totals[kind].nano_usd), "number"],
    ];
  });
  const seconds = kinds.reduce((sum, kind) => sum + totals[kind].device_seconds, 0);
  const nano = kinds.reduce((sum, kind) => sum + BigInt(totals[kind].nano_usd), 0n);
  $("dollars").replaceChildren(
    table(
      [["Kind"], ["", "wide"], ["Core-seconds", "number"], ["Dollars", "number"]],
      rows,
      [["all"], ["", "wide"], [number(seconds, 1), "number"], [dollars(nano), "number"]],
    ),
  );
}

function deployments(all) {
  if (all.length === 0) {
    $("deployments").replaceChildren(el("p", "empty", ["Nothing is deployed. ", el("code", "", "meted deploy NAME")]));
    return;
  }
  const rows = all.flatMap((deployment) => {
    const replicas = deployment.replicas?.length ? deployment.replicas : [{ id: "no replica", status: "gone" }];
    return replicas.map((replica, i) => [
      [i === 0 ? el("strong", "", deployment.name) : ""],
      [replica.id],
      [el("span", `status ${replica.status}`, replica.status)],
      [replica.threads == null ? "–" : String(replica.threads), "number extra"],
      [i === 0 ? `${count(deployment.running ?? 0)} + ${count(deployment.waiting ?? 0)}` : "", "number"],
      [i === 0 ? fit(deployment.prediction) : "", "extra"],
    ]);
  });
  const head = [["Name"], ["Replica"], ["Status"], ["Threads", "number extra"], ["Running + waiting", "number"], ["Steps as predicted", "extra"]];
  $("deployments").replaceChildren(table(head, rows));
}

// Whether a deployment's steps still take as long as predicted; the sentence on hover.
function fit(prediction) {
  if (!prediction) return "–";
  const cell = el("span", prediction.fit === "drifted" ? "status failed" : "", prediction.fit);
  if (prediction.last_drift) cell.title = prediction.last_drift;
  return cell;
}

function decisions(all) {
  const rows = [...all].sort((a, b) => b.at - a.at).map(({ at, reason }) => {
    const when = new Date(at * 1000);
    const shown = when.toLocaleTimeString("en", { hourCycle: "h23" });
    return el("li", "", [el("time", "", shown, { datetime: when.toISOString() }), el("span", "", reason)]);
  });
  const list = $("decisions").firstElementChild;
  const scrolled = list?.scrollTop ?? 0;
  const next = rows.length ? el("ol", "decisions", rows, { tabindex: "0", "aria-label": "Last decisions" }) : el("p", "empty", "No decision yet.");
  $("decisions").replaceChildren(next);
  next.scrollTop = scrolled;
}
