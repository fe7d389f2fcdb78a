// Numbers and small elements. Text goes in as text, never as markup.

const NANOS = 1_000_000_000n;

/** Whole nano-dollars as exact dollars. */
export function dollars(nano) {
  const value = BigInt(nano);
  const size = value < 0n ? -value : value;
  const cents = String(size % NANOS).padStart(9, "0");
  return `${value < 0n ? "−" : ""}$${size / NANOS}.${cents}`;
}

/** About how much, for a tile: at most four digits that say something, cents from a dollar on. */
export function roughDollars(nano) {
  const value = Number(nano) / 1e9;
  if (value === 0) return "$0";
  const places = value >= 1 ? 2 : Math.min(9, 3 - Math.floor(Math.log10(Math.abs(value))));
  return `$${value.toFixed(Math.min(places, 6))}`;
}

export function number(value, places = 1) {
  return value == null ? "–" : value.toLocaleString("en", { maximumFractionDigits: places, minimumFractionDigits: places });
}

export function count(value) {
  return value == null ? "–" : value.toLocaleString("en");
}

/** Milliseconds, as seconds from ten thousand on. */
export function ms(value) {
  if (value == null) return ["–", ""];
  if (value >= 10_000) return [number(value / 1000, 1), "s"];
  return [number(value, value < 10 ? 1 : 0), "ms"];
}

export function duration(seconds) {
  const s = Math.floor(seconds ?? 0);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  const hours = Math.floor(s / 3600);
  return hours < 48 ? `${hours} h ${Math.floor((s % 3600) / 60)} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** An element: its class, its children (elements or text), its attributes. */
export function el(tag, className, children = [], attributes = {}) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...[children].flat().filter((child) => child != null));
  return node;
}

/** A table from rows of [content, class]. */
export function table(head, rows, foot) {
  const cell = (tag) => ([content, className]) => el(tag, className ?? "", content);
  const line = (tag) => (cells) => el("tr", "", cells.map(cell(tag)));
  const parts = [el("thead", "", line("th")(head)), el("tbody", "", rows.map(line("td")))];
  if (foot) parts.push(el("tfoot", "", line("td")(foot)));
  return el("div", "scroll", el("table", "", parts));
}
