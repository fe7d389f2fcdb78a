// Elements of SVG; colours come from the style sheet, by class.

const SPACE = "http://www.w3.org/2000/svg";

/** An SVG element: its attributes, its children (elements or text). */
export function svg(tag, attributes = {}, children = []) {
  const node = document.createElementNS(SPACE, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...[children].flat().filter((child) => child != null));
  return node;
}

/** Round numbers from 0 to at least `most`, about `count` of them. */
export function ticks(most, count = 4) {
  const raw = (most || 1) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= raw * 0.999);
  const steps = Math.ceil((most || 1) / step - 1e-9);
  return Array.from({ length: steps + 1 }, (_, i) => i * step);
}
