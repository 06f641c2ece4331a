// Plots of lines and bars, as SVG: they print, follow the theme, and can be walked through with the arrow keys.
import { make, number, showTip, svg } from "./data.js";

const MARKS = [
  "M-4.2 0A4.2 4.2 0 1 0 4.2 0A4.2 4.2 0 1 0 -4.2 0Z", "M-4 -4H4V4H-4Z", "M0 -5.4L5 3.8H-5Z", "M0 -5.6L5.6 0L0 5.6L-5.6 0Z",
  "M-1.6 -5H1.6V-1.6H5V1.6H1.6V5H-1.6V1.6H-5V-1.6H-1.6Z", "M0 5.4L5 -3.8H-5Z",
];
const COLOURS = 8;

const colourOf = (place) => `var(--s${place % COLOURS})`;
const markOf = (place) => MARKS[place % MARKS.length];

// Round numbers that divide a range into about `count` parts.
function ticks(low, high, count) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5, 10].find((factor) => factor * power >= rough) ?? 10);
  const found = [];
  for (let value = Math.ceil(low / step - 1e-9) * step; value <= high + step * 1e-9; value += step) {
    found.push(Number(value.toPrecision(10)));
  }
  return found;
}

function logTicks(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
    for (const factor of [1, 2, 5]) if (factor * 10 ** power >= low && factor * 10 ** power <= high) found.push(factor * 10 ** power);
  }
  return found.length > 1 ? found.map((value) => Number(value.toPrecision(6))) : ticks(low, high, 6);
}

function range(values, padding) {
  const low = Math.min(...values), high = Math.max(...values), space = (high - low || Math.abs(high) || 1) * padding;
  return [low - space, high + space];
}

// Lines through points { x, y, text }: series { label, points, place (colour and mark), dashed, marks }. Options: xLabel,
// yLabel, height, logX, summary (of the plot, for those who do not see it), onPick(point).
export function linePlot(series, { xLabel, yLabel, height = 430, logX = false, summary, onPick = null }) {
  const box = make("div", { className: "plot" });
  const points = series.flatMap((each) => each.points.map((point) => ({ ...point, series: each })));
  if (!points.length) {
    box.append(make("p", { className: "muted" }, "Nothing to show: choose another metric or codec."));
    return box;
  }
  const narrow = innerWidth < 760, wide = narrow ? 440 : 880;
  const left = narrow ? 58 : 70, right = wide - 18, top = 14, tall = narrow ? Math.min(height, 360) : height, bottom = tall - 50;
  let [xLow, xHigh] = range(points.map((point) => (logX ? Math.log10(point.x) : point.x)), 0.04);
  const [yLow, yHigh] = range(points.map((point) => point.y), 0.07);
  const toX = (x) => left + (((logX ? Math.log10(x) : x) - xLow) / (xHigh - xLow)) * (right - left);
  const toY = (y) => bottom - ((y - yLow) / (yHigh - yLow)) * (bottom - top);
  const picture = svg("svg", { viewBox: `0 0 ${wide} ${tall}`, role: "img", tabindex: 0, "aria-label": `${summary} Use the arrow keys to read its points.` });
  const xTicks = logX ? logTicks(10 ** xLow, 10 ** xHigh) : ticks(xLow, xHigh, narrow ? 4 : 8);
  for (const x of xTicks) {
    picture.append(svg("line", { class: "grid", x1: toX(x), x2: toX(x), y1: top, y2: bottom }));
    picture.append(svg("text", { x: toX(x), y: bottom + 18, "text-anchor": "middle" }, `${x}`));
  }
  for (const y of ticks(yLow, yHigh, narrow ? 5 : 6)) {
    picture.append(svg("line", { class: "grid", x1: left, x2: right, y1: toY(y), y2: toY(y) }));
    picture.append(svg("text", { x: left - 8, y: toY(y) + 4, "text-anchor": "end" }, `${y}`));
  }
  picture.append(svg("text", { class: "axis", x: (left + right) / 2, y: tall - 10, "text-anchor": "middle" }, xLabel));
  const middle = (top + bottom) / 2, across = 16;
  picture.append(svg("text", { class: "axis", x: across, y: middle, "text-anchor": "middle", transform: `rotate(-90 ${across} ${middle})` }, yLabel));
  for (const each of [...series].reverse()) {
    const path = each.points.map((point, k) => `${k ? "L" : "M"}${toX(point.x).toFixed(1)} ${toY(point.y).toFixed(1)}`).join("");
    picture.append(svg("path", { class: `series${each.dashed ? " dashed" : ""}`, d: path, stroke: colourOf(each.place) }));
    if (each.marks === false) continue;
    for (const point of each.points) {
      picture.append(svg("path", {
        d: markOf(each.place), transform: `translate(${toX(point.x).toFixed(1)} ${toY(point.y).toFixed(1)})`,
        ...(each.dashed ? { fill: "var(--ground)", stroke: colourOf(each.place), "stroke-width": 1.4 } : { fill: colourOf(each.place) }),
      }));
    }
  }
  const ring = svg("circle", { r: 8, fill: "none", class: "marked", visibility: "hidden" });
  picture.append(ring);
  box.append(picture);

  // A line at x, which moves with what is shown elsewhere.
  const cursor = svg("line", { class: "cursor", y1: top, y2: bottom, visibility: "hidden" });
  picture.insertBefore(cursor, ring);
  box.follow = (x) => {
    for (const end of ["x1", "x2"]) cursor.setAttribute(end, toX(x));
    cursor.setAttribute("visibility", "visible");
  };

  const ordered = [...points].sort((a, b) => series.indexOf(a.series) - series.indexOf(b.series) || a.x - b.x);
  let current = -1;
  function mark(place) {
    current = place;
    const point = ordered[place];
    ring.setAttribute("visibility", point ? "visible" : "hidden");
    if (!point) return showTip("", 0, 0);
    ring.setAttribute("cx", toX(point.x));
    ring.setAttribute("cy", toY(point.y));
    const at = picture.getBoundingClientRect(), scale = at.width / wide;
    showTip(`${point.series.label}\n${point.text ?? `${xLabel} ${number(point.x)}, ${yLabel} ${number(point.y)}`}`, at.left + toX(point.x) * scale, at.top + toY(point.y) * scale);
  }
  picture.addEventListener("pointermove", (event) => {
    const at = picture.getBoundingClientRect(), scale = at.width / wide;
    const far = (point) => Math.hypot(toX(point.x) * scale + at.left - event.clientX, toY(point.y) * scale + at.top - event.clientY);
    const nearest = ordered.reduce((best, point, place) => (far(point) < far(ordered[best]) ? place : best), 0);
    mark(far(ordered[nearest]) < 60 ? nearest : -1);
  });
  picture.addEventListener("pointerleave", () => mark(-1));
  picture.addEventListener("blur", () => mark(-1));
  picture.addEventListener("click", () => current >= 0 && onPick?.(ordered[current]));
  picture.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) mark((current + step + ordered.length) % ordered.length);
    else if (event.key === "Enter" && current >= 0) onPick?.(ordered[current]);
    else if (event.key === "Escape") mark(-1);
    else return;
    event.preventDefault();
  });
  return box;
}

// The line and mark of a curve.
export function sampleOf({ place, dashed, marks }) {
  const colour = colourOf(place), sample = svg("svg", { viewBox: "0 0 26 12", "aria-hidden": true });
  sample.append(svg("path", { d: "M0 6H26", stroke: colour, "stroke-width": 2, ...(dashed ? { "stroke-dasharray": "5 3" } : {}) }));
  if (marks !== false) sample.append(svg("path", { d: markOf(place), transform: "translate(13 6)", fill: dashed ? "var(--ground)" : colour, stroke: colour }));
  return sample;
}

export const legendOf = (series) => make("ul", { className: "key" }, ...series.map((each) => make("li", {}, sampleOf(each), ` ${each.label}`)));

// Bars with a logarithmic height, of [value, count] pairs.
export function histogram(pairs, summary) {
  const wide = 480, tall = 230, left = 14, bottom = tall - 42, top = 26;
  const picture = svg("svg", { viewBox: `0 0 ${wide} ${tall}`, role: "img", "aria-label": summary });
  const width = (wide - 2 * left) / pairs.length, highest = Math.log10(Math.max(...pairs.map(([, count]) => count)) + 1);
  pairs.forEach(([value, count], place) => {
    const height = ((bottom - top) * Math.log10(count + 1)) / highest, x = left + place * width;
    picture.append(svg("rect", { x: x + width * 0.1, width: width * 0.8, y: bottom - height, height, fill: "var(--s0)", rx: 2 }));
    if (pairs.length <= 13) picture.append(svg("text", { x: x + width / 2, y: bottom - height - 5, "text-anchor": "middle" }, count >= 1e5 ? `${Math.round(count / 1000)}k` : count.toLocaleString("en")));
    if (pairs.length <= 21 || place % Math.ceil(pairs.length / 15) === 0) {
      picture.append(svg("text", { x: x + width / 2, y: bottom + 16, "text-anchor": "middle" }, `${value}`.replace("-", "−")));
    }
  });
  picture.append(svg("text", { class: "axis", x: wide / 2, y: tall - 6, "text-anchor": "middle" }, "symbol (height: logarithm of the count)"));
  return make("div", { className: "plot" }, picture);
}
