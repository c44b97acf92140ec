import { $, t } from "./language.js";

const high = 210, left = 34, right = 8, top = 10, bottom = 22; // of the drawing, in pixels
const hoursShown = [7, 19]; // of the day, and more where somebody was counted

const svg = (name, attributes, text) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
};

const hour = (minute) => 4 + minute / 60; // of the local day; beyond 24 it is the next one's
const clock = (minute) => `${String(Math.floor(hour(minute)) % 24).padStart(2, "0")}:${String(Math.floor(minute % 60)).padStart(2, "0")}`;

// pieces are the runs of steps that have a number: where there is none, the line
// breaks off.
function pieces(steps) {
  const runs = [];
  let last = null;
  for (const s of steps) {
    if (s.people === null) last = null;
    else if (last && s.minute - last.minute <= 5) runs.at(-1).push(s);
    else runs.push([s]);
    last = s.people === null ? null : s;
  }
  return runs;
}

// draw shows the number of a day with its band, and the borders of the levels.
export function draw(day, capacity, borders) {
  const steps = day.steps;
  const known = steps.filter((s) => s.people !== null);
  $("curve").hidden = known.length === 0;
  $("curve-none").hidden = known.length > 0;
  if (known.length === 0) return;
  const wide = Math.max(280, $("curve").clientWidth);
  const from = Math.min(hoursShown[0], Math.floor(hour(known[0].minute)));
  const to = Math.max(hoursShown[1], Math.ceil(hour(known.at(-1).minute + 5)));
  const most = Math.max(10, (capacity * borders[0]) / 100, ...known.map((s) => s.high)) * 1.08;
  const x = (h) => left + ((h - from) / (to - from)) * (wide - left - right);
  const y = (n) => high - bottom - (n / most) * (high - top - bottom);
  const at = (s) => x(hour(s.minute + 5));
  const drawing = svg("svg", { width: wide, height: high, "aria-hidden": "true" });
  for (let h = from; h <= to; h += wide < 480 || to - from > 14 ? 4 : 2) {
    drawing.append(svg("line", { class: "rule", x1: x(h), x2: x(h), y1: top, y2: high - bottom }));
    drawing.append(svg("text", { x: x(h), y: high - 6, "text-anchor": h === from ? "start" : h >= to ? "end" : "middle" }, `${h % 24}:00`));
  }
  const step = [5, 10, 20, 50, 100, 200, 500, 1000].find((n) => most / n <= 5) || 2000;
  for (let n = 0; n <= most; n += step) {
    drawing.append(svg("line", { class: "rule", x1: left, x2: wide - right, y1: y(n), y2: y(n) }));
    drawing.append(svg("text", { x: left - 6, y: y(n) + 4, "text-anchor": "end" }, n));
  }
  const names = [t().level.moderate, t().level.busy, t().level.crowded];
  borders.forEach((b, i) => {
    const n = (capacity * b) / 100;
    if (n > most) return;
    drawing.append(svg("line", { class: "border", x1: left, x2: wide - right, y1: y(n), y2: y(n) }));
    drawing.append(svg("text", { x: left + 4, y: y(n) - 3 }, names[i]));
  });
  for (const run of pieces(steps)) {
    // A line from where the first step began, so that one alone is seen, too.
    const line = (value) => [`${x(hour(run[0].minute))},${y(value(run[0]))}`, ...run.map((s) => `${at(s)},${y(value(s))}`)];
    drawing.append(svg("polygon", { class: "band", points: [...line((s) => s.high), ...line((s) => s.low).reverse()].join(" ") }));
    drawing.append(svg("polyline", { class: "number", points: line((s) => s.people).join(" ") }));
  }
  const peak = known.reduce((a, b) => (b.people > a.people ? b : a));
  $("curve").setAttribute("aria-label", t().curve(day.day, peak.people, clock(peak.minute), known.at(-1).people, clock(known.at(-1).minute)));
  $("curve").replaceChildren(drawing);
}
