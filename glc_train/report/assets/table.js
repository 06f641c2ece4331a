// All pictures or clips with their figures at one quality of one codec.
import { change, chosen, fileOf, make, metricOf, number, page, qualitiesOf, select } from "./data.js";

const sorted = { by: "name", down: false };

const columns = () => [["name", page.stills ? "Picture" : "Clip"], ["bytes", "Bytes"], ["bpp", "bpp"], ...page.metrics.map((metric) => [metric.id, metric.title])];

function rows() {
  const found = page.items.map((item, place) => ({ item, place, figures: fileOf(place, chosen.series, chosen.quality)?.figures ?? {} }));
  const compare = new Intl.Collator("en", { numeric: true }).compare;
  const sign = sorted.down ? -1 : 1;
  return found.sort((a, b) => {
    if (sorted.by === "name") return sign * compare(a.item.name, b.item.name);
    const [one, two] = [a.figures[sorted.by], b.figures[sorted.by]];
    if (one === undefined || two === undefined) return (one === undefined) - (two === undefined); // those without at the end
    return sign * (one - two);
  });
}

function sortBy(by, down) {
  Object.assign(sorted, { by, down });
  drawTable();
}

export function drawTable() {
  const active = document.activeElement?.dataset?.column;
  const head = make("tr", {}, make("th", { scope: "col" }, make("span", { className: "hidden" }, "Thumbnail")));
  for (const [id, title] of columns()) {
    const on = sorted.by === id;
    const cell = make("th", { scope: "col", className: id === "name" ? "" : "number", attributes: { "aria-sort": on ? (sorted.down ? "descending" : "ascending") : "none" } });
    const button = make("button", { type: "button", onclick: () => sortBy(id, on ? !sorted.down : false) }, `${title}${on ? (sorted.down ? " ▼" : " ▲") : ""}`);
    button.dataset.column = id;
    cell.append(button);
    head.append(cell);
  }
  const body = make("tbody");
  for (const { item, place, figures } of rows()) {
    const open = () => { change({ item: place }); document.getElementById("viewer").scrollIntoView(); };
    const picture = item.thumbnail ? make("img", { src: item.thumbnail, alt: "" }) : "";
    const row = make("tr", { className: place === chosen.item ? "chosen" : "" },
      make("td", { className: "thumbnail" }, picture),
      make("th", { scope: "row" }, make("button", { type: "button", className: "link", attributes: { "aria-label": `Compare ${item.name}` } }, item.name)),
      ...columns().slice(1).map(([id]) => make("td", { className: "number" }, number(figures[id], id))));
    row.onclick = open;
    body.append(row);
  }
  document.getElementById("table-body").replaceChildren(make("table", {}, make("thead", {}, head), body));
  if (active) document.querySelector(`[data-column="${active}"]`)?.focus();
}

export function startTable() {
  drawControls();
  drawTable();
}

export function drawControls() {
  const metric = chosen.metric ?? "bpp", lower = metricOf(metric)?.lower ?? true, title = metricOf(metric)?.title ?? "bpp";
  const order = sorted.by === metric ? (sorted.down === lower ? "worst" : "best") : sorted.by === "name" && !sorted.down ? "name" : "";
  const orders = [["name", "by name"], ["worst", `worst ${title} first`], ["best", `best ${title} first`], ...(order ? [] : [["", "as the header says"]])];
  document.getElementById("table-controls").replaceChildren(
    select("Codec", page.series.map((each, place) => [place, each.label]), chosen.series, (series) => {
      const known = qualitiesOf(series);
      change({ series, quality: known.includes(chosen.quality) ? chosen.quality : known[0] });
    }),
    select("Quality", qualitiesOf(chosen.series).map((quality) => [quality, `${quality}`]), chosen.quality, (quality) => change({ quality })),
    select("Order", orders, order, (by) => {
      if (by === "name") sortBy("name", false);
      else if (by) sortBy(metric, (by === "worst") === lower);
    }));
}
