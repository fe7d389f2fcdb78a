// Charts over time and over steps, drawn by uPlot; colours come from the style sheet.

import { el, number } from "./format.js";

export const KINDS = ["request", "training", "loading", "lost", "overhead", "idle"];
export const NAMES = {
  request: "serving", training: "training", loading: "loading",
  lost: "lost", overhead: "overhead", idle: "idle",
};

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const charts = new Set();

/**
 * One chart in `place`. lines: [{name, colour}]; the first that is drawn lies lowest.
 * stacked: areas that add up; time: x is unix seconds; places: decimals in the legend.
 */
export class Chart {
  constructor(place, { lines, height = 170, stacked = false, time = true, places = 1, unit = "", title, floor = 1 }) {
    Object.assign(this, { lines, height, stacked, time, places, unit, title, floor });
    this.values = lines.map(() => el("b", "", "–"));
    const legend = lines.map((line, i) => el("li", "", [el("span", `swatch ${line.colour}`), line.name, this.values[i]]));
    this.plot = el("div", "plot", [], { role: "img", "aria-label": title });
    this.empty = el("p", "empty", "Nothing measured yet.");
    place.replaceChildren(el("ul", "legend", legend), this.plot, this.empty);
    this.xs = [];
    this.rows = lines.map(() => []);
    charts.add(this);
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(this.plot);
  }

  /** Show other data: xs ascending, one row of values (null where there is none) for each line. */
  show(xs, rows) {
    this.xs = xs;
    this.rows = rows;
    this.empty.hidden = xs.length > 0;
    this.plot.hidden = xs.length === 0;
    if (xs.length === 0) return;
    if (this.chart) this.chart.setData(this.data());
    else this.build();
    if (this.chart?.cursor.idx == null) this.legend(null);
  }

  data() {
    if (!this.stacked) return [this.xs, ...this.rows];
    // Highest sum first, so that each area is painted over the ones that contain it.
    let sums = this.xs.map(() => 0);
    const areas = this.rows.map((row) => (sums = sums.map((sum, i) => sum + (row[i] ?? 0))));
    return [this.xs, ...areas.reverse()];
  }

  legend(index) {
    this.rows.forEach((row, i) => {
      const value = index == null ? row.findLast((one) => one != null) : row[index];
      this.values[i].textContent = value == null ? "–" : number(value, this.places) + this.unit;
    });
    const said = this.lines.map((line, i) => `${line.name} ${this.values[i].textContent}`);
    this.plot.setAttribute("aria-label", `${this.title}: ${said.join(", ")}`);
  }

  build() {
    if (this.plot.clientWidth === 0 || this.xs.length === 0) return;
    const series = this.lines.map((line) => ({
      stroke: colour(line.colour),
      fill: this.stacked ? colour(line.colour) : undefined,
      width: this.stacked ? 0 : 2,
      spanGaps: !this.time,
      points: { show: !this.stacked && (line.dots ?? false), size: 6, fill: colour(line.colour) },
    }));
    const axis = { stroke: colour("soft"), font: "12px system-ui, sans-serif", ticks: { show: false } };
    const grid = { stroke: colour("line"), width: 1 };
    this.chart = new uPlot(
      {
        width: this.plot.clientWidth,
        height: this.height,
        padding: [8, 8, 0, 0],
        legend: { show: false },
        cursor: { y: false, points: { show: !this.stacked }, drag: { x: false, y: false } },
        scales: { x: { time: this.time }, y: { range: (u, low, high) => this.range(low, high) } },
        axes: [
          { ...axis, grid: { show: false }, size: 28, space: (u, i, low, high, size) => (size > 600 ? 90 : 56), ...(this.time ? { values: clock } : {}) },
          { ...axis, grid, size: 52, space: 32 },
        ],
        series: [{}, ...(this.stacked ? series.toReversed() : series)],
        hooks: { setCursor: [(u) => this.legend(u.cursor.idx)] },
      },
      this.data(),
      this.plot,
    );
  }

  range(low, high) {
    if (this.time) return [0, Math.max(this.floor, (high ?? 0) * (this.stacked ? 1 : 1.12))];
    const gap = Math.max(((high ?? 1) - (low ?? 0)) * 0.12, 0.02);
    return [(low ?? 0) - gap, (high ?? 1) + gap];
  }

  resize() {
    if (!this.chart) this.build();
    else if (this.plot.clientWidth > 0) this.chart.setSize({ width: this.plot.clientWidth, height: this.height });
  }

  repaint() {
    this.chart?.destroy();
    this.chart = null;
    this.build();
  }

  remove() {
    this.observer.disconnect();
    this.chart?.destroy();
    charts.delete(this);
  }
}

function clock(u, splits) {
  const seconds = splits.length > 1 && splits[1] - splits[0] < 60;
  const style = { hour: "2-digit", minute: "2-digit", hourCycle: "h23", ...(seconds ? { second: "2-digit" } : {}) };
  return splits.map((at) => new Date(at * 1000).toLocaleTimeString("en", style));
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.forEach((chart) => chart.repaint()));
