// Rate-distortion curves.
import { buttons, change, check, chosen, make, metricOf, number, page } from "./data.js";
import { linePlot, sampleOf } from "./plot.js";

const shown = { hidden: new Set(), published: true, logX: false };

// Ours, then the published ones.
function curves() {
  const ours = page.series.map((each, k) => ({ label: each.label, points: each.means, place: k, series: k }));
  const others = page.published.map((each, k) => ({ label: each.name, points: each.points, place: ours.length + k, dashed: true }));
  return [...ours, ...(shown.published ? others : [])];
}

function line(curve) {
  const points = curve.points
    .filter((point) => typeof point[chosen.metric] === "number")
    .map((point) => ({
      x: point.bpp, y: point[chosen.metric], quality: point.quality,
      text: `${point.quality === undefined ? "" : `quality ${point.quality}: `}${number(point.bpp, "bpp")} bpp, ${metricOf(chosen.metric).title} ${number(point[chosen.metric])}`,
    }))
    .sort((a, b) => a.x - b.x);
  return { ...curve, points };
}

export function redrawRates() {
  const body = document.getElementById("rates-plot");
  const known = curves().map(line).filter((curve) => curve.points.length);
  const legend = make("div", { className: "legend", attributes: { role: "group", "aria-label": "Curves that are shown" } });
  for (const curve of known) {
    const button = make("button", { type: "button", attributes: { "aria-pressed": !shown.hidden.has(curve.label) } }, sampleOf(curve), curve.label);
    button.onclick = () => {
      if (!shown.hidden.delete(curve.label)) shown.hidden.add(curve.label);
      const place = [...legend.children].indexOf(button);
      redrawRates();
      document.querySelectorAll("#rates-plot .legend button")[place].focus();
    };
    legend.append(button);
  }
  const metric = metricOf(chosen.metric);
  const better = metric.lower ? "lower is better" : "higher is better";
  const plot = linePlot(known.filter((curve) => !shown.hidden.has(curve.label)), {
    xLabel: "bits per pixel", yLabel: `${metric.title} (${better})`, logX: shown.logX,
    summary: `${metric.title} over bits per pixel, ${better}.`,
    onPick: (point) => point.series.series !== undefined && change({ series: point.series.series, quality: point.quality }),
  });
  body.replaceChildren(legend, plot);
}

// Whether the rates differ so much that most curves would be squeezed into a corner.
function isWide() {
  const rates = curves().flatMap((curve) => curve.points.map((point) => point.bpp));
  return Math.max(...rates) > 8 * Math.min(...rates);
}

export function startRates() {
  if (!page.metrics.length) {
    document.getElementById("rates-plot").append(make("p", { className: "muted" }, "No metric was measured, only bytes."));
    return;
  }
  shown.logX = isWide();
  document.getElementById("rates-controls").append(
    buttons("Metric", page.metrics.map((metric) => [metric.id, metric.title]), chosen.metric, (metric) => change({ metric })),
    page.published.length ? check("Published curves", true, (on) => { shown.published = on; redrawRates(); }) : "",
    check("Logarithmic rate", shown.logX, (on) => { shown.logX = on; redrawRates(); }),
  );
  redrawRates();
  matchMedia("(max-width: 760px)").addEventListener("change", redrawRates);
}
