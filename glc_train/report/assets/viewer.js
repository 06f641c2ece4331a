// One picture or clip: the original against a decoded one, or two decoded ones against each other.
import { change, check, chosen, fileOf, make, metricOf, number, page, qualitiesOf, select } from "./data.js";
import { Player } from "./clips.js";
import { mapOf, partsTable, scaleOf, symbolPlot } from "./details.js";
import { legendOf, linePlot } from "./plot.js";
import { Stage } from "./stage.js";

const ORIGINAL = "original";
const state = { against: ORIGINAL, map: false, figure: null };
let stage, player, places;

const choices = () => page.series.flatMap((each, series) => qualitiesOf(series).map((quality) => [`${series}:${quality}`, `${each.label}, quality ${quality}`]));
const fileNamed = (name) => fileOf(chosen.item, ...name.split(":").map(Number));

function media(picture, name) {
  if (!picture || picture.media === null) return null;
  const source = page.media[picture.media];
  if (page.stills) return make("img", { src: source, alt: name, draggable: false, decoding: "async" });
  return make("video", { src: source, muted: true, playsInline: true, preload: "auto", attributes: { "aria-label": name } });
}

// One side of the comparison.
function side(name) {
  const item = page.items[chosen.item], original = name === ORIGINAL;
  const file = original ? null : fileNamed(name);
  const picture = original ? item.original : file?.picture;
  const label = original ? "original" : `${page.series[name.split(":")[0]].label} q${name.split(":")[1]}${file ? ` · ${number(file.figures.bpp, "bpp")} bpp` : ""}`;
  const element = media(picture, `${item.name}, ${label}`);
  let missing = null;
  if (!element) {
    const link = picture?.link ? make("a", { href: picture.link }, "open the file") : "it does not lie beside the results";
    missing = make("p", { className: "missing" }, make("span", {}, "Not in this page: ", link, "."));
  }
  const smaller = picture?.divisor > 1 ? ` · 1/${picture.divisor} size` : "";
  return { element, missing, label: label + smaller, map: state.map && file?.details?.map ? mapOf(file.details) : null };
}

function figures(file) {
  const list = make("dl", { className: "figures" });
  const add = (name, ...value) => list.append(make("div", {}, make("dt", {}, name), make("dd", {}, ...value)));
  add("bytes", number(file?.figures.bytes ?? null, "bytes"));
  add("bpp", number(file?.figures.bpp ?? null, "bpp"));
  if (!page.stills) add("kbit/s", number(file?.figures.kbps ?? null));
  for (const metric of page.metrics) add(metric.title, number(file?.figures[metric.id] ?? null));
  const links = [[file?.file, "file"], [file?.picture?.link, "decoded"], [page.items[chosen.item].original?.link, "original"]].filter(([link]) => link);
  if (links.length) add("files beside the page", ...links.flatMap(([link, text], k) => [k ? " · " : "", make("a", { href: link }, text)]));
  return list;
}

function overFrames() {
  const item = page.items[chosen.item];
  const names = [...new Set(item.files.flatMap((file) => Object.keys(file.overFrames)))];
  if (!names.length) return [];
  if (!names.includes(state.figure)) state.figure = names.includes(chosen.metric) ? chosen.metric : names[0];
  const title = metricOf(state.figure)?.title ?? state.figure;
  // The chosen codec at all its qualities, the others at the chosen one.
  const shown = item.files.filter((file) => (file.series === chosen.series || file.quality === chosen.quality) && file.overFrames[state.figure]);
  const series = shown.map((file, place) => ({
    label: `${page.series[file.series].label} q${file.quality}`, place, marks: false,
    points: file.overFrames[state.figure].map((y, x) => ({ x, y, text: `frame ${x + 1}: ${title} ${number(y)}` })).filter((point) => point.y !== null),
  }));
  const titles = names.map((name) => [name, metricOf(name)?.title ?? name]);
  const plot = linePlot(series, { xLabel: "frame", yLabel: title, height: 280, summary: `${title} over the frames of ${item.name}.`, onPick: (point) => player.seek(point.x) });
  places.follow = (frame) => plot.follow?.(frame);
  places.follow(player.frame);
  return [
    make("h3", {}, "Over the frames"),
    make("div", { className: "controls" }, select("Figure", titles, state.figure, (figure) => { state.figure = figure; drawDetails(); })),
    legendOf(series), plot,
  ];
}

function drawDetails() {
  const file = fileOf(chosen.item, chosen.series, chosen.quality), item = page.items[chosen.item];
  places.figures.replaceChildren(figures(file));
  places.scale.replaceChildren(...(state.map && file?.details?.map ? [scaleOf(file.details)] : []));
  const detailed = item.files.filter((each) => each.series === chosen.series && each.details);
  const label = page.series[chosen.series].label;
  const left = detailed.length
    ? [make("h3", {}, "Where the bytes go"), ...partsTable(detailed, chosen.quality)]
    : [make("p", { className: "muted" }, `Of ${label} it is not known where the bytes go.`)];
  const right = file?.details?.symbols.length ? [make("h3", {}, `Symbols at quality ${chosen.quality}`), ...symbolPlot(file.details)] : [];
  places.details.replaceChildren(...overFrames(), make("div", { className: right.length ? "two" : "" }, make("div", {}, ...left), right.length ? make("div", {}, ...right) : ""));
}

function draw() {
  const item = page.items[chosen.item];
  document.getElementById("viewer-title").textContent = `Compare: ${item.name}`;
  const left = side(state.against), right = side(`${chosen.series}:${chosen.quality}`);
  stage.show(item.width, item.height, left, right);
  player?.show([left.element, right.element], item.frames, item.fps, (frame) => places.follow?.(frame));
  const names = page.items.map((each, place) => [place, each.name]);
  places.controls.replaceChildren(
    select(page.stills ? "Picture" : "Clip", names, chosen.item, (place) => change({ item: place })),
    select("Left", [[ORIGINAL, "original"], ...choices()], state.against, (name) => { state.against = name; redrawViewer(); }),
    select("Right", choices(), `${chosen.series}:${chosen.quality}`, (name) => {
      const [series, quality] = name.split(":").map(Number);
      change({ series, quality });
    }),
    check("Side by side", stage.beside, (on) => { stage.setBeside(on); places.divide.hidden = on; }),
    item.files.some((file) => file.details?.map) ? check("Map of bits", state.map, (on) => { state.map = on; redrawViewer(); }) : "",
  );
  drawDetails();
}

// Draws anew without losing the control that is used.
export function redrawViewer() {
  const place = [...places.controls.querySelectorAll("select, input")].indexOf(document.activeElement);
  draw();
  if (place >= 0) places.controls.querySelectorAll("select, input")[place]?.focus();
}

export function startViewer() {
  stage = new Stage();
  player = page.stills ? null : new Player();
  const button = (text, label, act) => make("button", { type: "button", onclick: act, attributes: { "aria-label": label } }, text);
  const zoom = make("span", { className: "muted" });
  stage.onZoom = (_, scale) => { zoom.textContent = `${Math.round(100 * scale)} %`; };
  places = { controls: make("div", { className: "controls" }), figures: make("div"), scale: make("div"), details: make("div"), divide: make("div", { className: "grow" }, make("label", { htmlFor: "divide" }, "Divider between left and right"), stage.range) };
  document.getElementById("viewer-body").append(
    places.controls, stage.box, player?.box ?? "",
    make("div", { className: "below" },
      places.divide,
      make("div", { className: "group" }, button("−", "Zoom out", () => stage.zoomBy(1 / 1.5)), button("All", "Show all of it", () => stage.reset()), button("+", "Zoom in", () => stage.zoomBy(1.5))),
      zoom, places.scale),
    places.figures, places.details);
  draw();
}
