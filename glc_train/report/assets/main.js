// Starts the page: the theme, what can be copied, and the sections, which follow what is chosen.
import { listen } from "./data.js";
import { redrawRates, startRates } from "./rates.js";
import { drawControls, drawTable, startTable } from "./table.js";
import { redrawViewer, startViewer } from "./viewer.js";

const dark = matchMedia("(prefers-color-scheme: dark)");
const toggle = document.getElementById("theme");

function setTheme(name) {
  document.documentElement.dataset.theme = name;
  toggle.setAttribute("aria-pressed", name === "dark");
}

setTheme(dark.matches ? "dark" : "light");
dark.addEventListener("change", () => setTheme(dark.matches ? "dark" : "light"));
toggle.onclick = () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");

for (const button of document.querySelectorAll("[data-copy]")) {
  button.onclick = async () => {
    await navigator.clipboard.writeText(button.dataset.copy);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  };
}

startRates();
startViewer();
startTable();
listen((values) => {
  if ("metric" in values) redrawRates();
  drawControls();
  drawTable();
  if ("item" in values || "series" in values || "quality" in values) redrawViewer();
});
addEventListener("beforeprint", () => { for (const each of document.querySelectorAll("details")) each.open = true; });
