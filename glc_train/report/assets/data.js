// What the page shows, and how to write it.

export const page = JSON.parse(document.getElementById("data").textContent);

// What is chosen; `change` tells all that listen.
export const chosen = { item: 0, series: 0, quality: page.series[0].means[0].quality, metric: page.metrics[0]?.id ?? null };
const listeners = [];
export const listen = (listener) => listeners.push(listener);
export function change(values) {
  Object.assign(chosen, values);
  for (const listener of listeners) listener(values);
}

export const metricOf = (id) => page.metrics.find((metric) => metric.id === id);
export const qualitiesOf = (series) => page.series[series].means.map((mean) => mean.quality);
export const fileOf = (item, series, quality) =>
  page.items[item].files.find((file) => file.series === series && file.quality === quality);

// An element: properties, attributes in `attributes`, then children.
export function make(tag, { attributes = {}, ...properties } = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.filter((child) => child !== null));
  return element;
}

export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export function number(value, name = "") {
  if (value === undefined || value === null) return "–";
  if (name === "bytes") return value.toLocaleString("en");
  if (name === "bpp") return value.toFixed(4);
  return value.toFixed(Math.abs(value) >= 10 ? 2 : 4);
}

export const bytes = (value) => (value >= 100 ? Math.round(value).toLocaleString("en") : value.toFixed(1));

// A choice among [value, text] pairs.
export function select(label, options, value, onChange) {
  const list = make("select", { id: `select-${label.toLowerCase()}`, onchange: () => onChange(options[list.selectedIndex][0]) });
  for (const [each, text] of options) list.append(make("option", { selected: each === value }, text));
  return make("div", { className: "field" }, make("label", { htmlFor: list.id }, label), list);
}

// The same as buttons in a row.
export function buttons(label, options, value, onChange) {
  const group = make("div", { className: "group" });
  for (const [each, text] of options) {
    const button = make("button", { type: "button", attributes: { "aria-pressed": each === value } }, text);
    button.onclick = () => {
      for (const other of group.children) other.setAttribute("aria-pressed", other === button);
      onChange(each);
    };
    group.append(button);
  }
  return make("fieldset", { className: "field" }, make("legend", {}, label), group);
}

export function check(label, checked, onChange) {
  const box = make("input", { type: "checkbox", checked, onchange: () => onChange(box.checked) });
  return make("label", { className: "check" }, box, label);
}

export function showTip(text, x, y) {
  const tip = document.getElementById("tip");
  tip.style.visibility = text ? "visible" : "hidden";
  if (tip.textContent !== text) tip.textContent = text;
  const left = Math.max(4, Math.min(x + 14, innerWidth - tip.offsetWidth - 4));
  const top = y + 18 + tip.offsetHeight > innerHeight ? y - tip.offsetHeight - 12 : y + 18;
  tip.style.transform = `translate(${left}px, ${top}px)`;
}
