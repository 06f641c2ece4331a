// Where the bytes of a file go: its parts, a map over the picture, the symbols.
import { bytes, make } from "./data.js";
import { histogram } from "./plot.js";

// The map's colours, which grow lighter and are told apart without red and green (Cividis).
const STOPS = [[0, 34, 78], [53, 69, 108], [102, 105, 112], [148, 142, 119], [200, 184, 102], [254, 232, 56]];

function colour(share) {
  const place = Math.min(0.9999, Math.max(0, share)) * (STOPS.length - 1), low = Math.floor(place);
  return STOPS[low].map((value, k) => Math.round(value + (STOPS[low + 1][k] - value) * (place - low)));
}

// The map as a canvas over a picture.
export function mapOf(details) {
  const { rows, columns, steps } = details.map;
  const canvas = make("canvas", { width: columns, height: rows });
  canvas.style.width = `${columns * details.cell}px`;
  canvas.style.height = `${rows * details.cell}px`;
  const pixels = new ImageData(columns, rows);
  [...atob(steps)].forEach((step, k) => pixels.data.set([...colour(step.charCodeAt(0) / 255), 255], 4 * k));
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return make("div", { className: "map" }, canvas);
}

export const scaleOf = (details) => make("span", { className: "scale" }, "0", make("i"), `${details.map.most.toFixed(1)} bits or more in ${details.cell}×${details.cell} pixels`);

// What the coder adds to the code lengths of its symbols: it ends with whole bytes.
function parts(details) {
  const passes = details.passes.map((size, k) => [`y, pass ${k + 1}`, size]);
  const known = details.header + details.z + details.passes.reduce((sum, size) => sum + size, 0);
  return [["header", details.header], ["z", details.z], ...passes, ["end of the code", details.bytes - known]];
}

const colourOfPart = (name, k, count) => (name === "header" ? "var(--p0)" : name === "z" ? "var(--p6)" : k === count - 1 ? "var(--p5)" : `var(--p${1 + ((k - 2) % 4)})`);

// A table with a bar for each file of one codec; `files`: those that have details.
export function partsTable(files, quality) {
  const names = parts(files[0].details).map(([name]) => name);
  const most = Math.max(...files.map((file) => file.details.bytes));
  const key = make("ul", { className: "key" });
  names.forEach((name, k) => {
    const square = make("i");
    square.style.background = colourOfPart(name, k, names.length);
    key.append(make("li", {}, square, name));
  });
  const titles = names.map((name) => name.replace("y, ", "").replace("end of the code", "end"));
  const head = ["Quality", "Bytes", ...titles, "all"].map((name, k) => make("th", { scope: "col", className: k === 1 ? "share" : "number" }, name));
  const body = make("tbody");
  for (const file of files) {
    const stack = make("div", { className: "stack", attributes: { "aria-hidden": true } });
    stack.style.width = `${(100 * file.details.bytes) / most}%`;
    const cells = parts(file.details).map(([name, size], k) => {
      const piece = make("i");
      piece.style.cssText = `flex:${Math.max(0, size)} 0 0;background:${colourOfPart(name, k, names.length)}`;
      stack.append(piece);
      return make("td", { className: "number" }, bytes(size));
    });
    body.append(make("tr", { className: file.quality === quality ? "chosen" : "" },
      make("th", { scope: "row", className: "number" }, `${file.quality}`), make("td", {}, stack), ...cells, make("td", { className: "number" }, bytes(file.details.bytes))));
  }
  const table = make("table", {}, make("thead", {}, make("tr", {}, ...head)), body);
  return [key, make("div", { className: "scroll", tabIndex: 0, attributes: { role: "region", "aria-label": "Bytes of each part" } }, table)];
}

export function symbolPlot(details) {
  const all = details.symbols.reduce((sum, [, count]) => sum + count, 0);
  const zero = details.symbols.find(([value]) => value === 0)?.[1] ?? 0;
  const share = `${((100 * zero) / all).toFixed(2)} % of ${all.toLocaleString("en")} symbols are 0.`;
  return [make("p", { className: "muted" }, share), histogram(details.symbols, `Counts of the symbols of y, ${details.symbols[0][0]} to ${details.symbols.at(-1)[0]}. ${share}`)];
}
