// Two pictures of one size, over each other with a divider or beside each other; zoom and pan are those of both.
import { make } from "./data.js";

const LARGEST_ZOOM = 16;

export class Stage {
  // width, height: of both pictures, in pixels.
  constructor() {
    this.beside = false;
    this.left = this.#pane("left");
    this.right = this.#pane("right");
    this.line = make("div", { className: "divider" });
    this.box = make("div", { className: "stage", tabIndex: 0, attributes: { role: "group", "aria-label": "Comparison: plus and minus zoom, arrow keys move, 0 shows all" } }, this.left.pane, this.right.pane, this.line);
    this.range = make("input", { type: "range", min: 0, max: 100, step: 0.5, value: 50, id: "divide" });
    this.range.oninput = () => this.draw();
    this.#listen();
    new ResizeObserver(() => this.draw()).observe(this.box);
  }

  #pane(side) {
    const layer = make("div", { className: "layer" }), tag = make("span", { className: "tag" });
    return { layer, tag, pane: make("div", { className: `pane ${side}` }, layer, tag) };
  }

  // Elements to compare, `null` where there is none, and what to say of each; the place is kept where the size is.
  show(width, height, left, right) {
    if (width !== this.width || height !== this.height) {
      Object.assign(this, { width, height });
      this.reset();
    }
    for (const [side, { element, label, map, missing }] of [[this.left, left], [this.right, right]]) {
      side.layer.replaceChildren(...[element, map].filter(Boolean));
      side.layer.style.width = `${width}px`;
      side.layer.style.height = `${height}px`;
      side.tag.textContent = label;
      side.pane.querySelector(".missing")?.remove();
      if (missing) side.pane.append(missing);
    }
    this.draw();
  }

  reset() {
    Object.assign(this, { zoom: 1, x: this.width / 2, y: this.height / 2 });
    this.draw();
  }

  setBeside(beside) {
    this.beside = beside;
    this.box.classList.toggle("beside", beside);
    this.draw();
  }

  // Zoom by a factor, so that the point of the pane at (x, y) stays where it is.
  zoomBy(factor, x = this.#wide() / 2, y = this.box.clientHeight / 2) {
    const before = this.#scale();
    this.zoom = Math.min(LARGEST_ZOOM, Math.max(1, this.zoom * factor));
    const shift = 1 / before - 1 / this.#scale();
    this.x += (x - this.#wide() / 2) * shift;
    this.y += (y - this.box.clientHeight / 2) * shift;
    this.draw();
  }

  moveBy(x, y) {
    this.x -= x / this.#scale();
    this.y -= y / this.#scale();
    this.draw();
  }

  #wide() {
    return this.left.pane.clientWidth;
  }

  #scale() {
    return Math.min(this.#wide() / this.width, this.box.clientHeight / this.height) * this.zoom;
  }

  draw() {
    if (!this.width) return;
    this.box.style.aspectRatio = this.beside ? `${2 * this.width} / ${this.height}` : `${this.width} / ${this.height}`;
    const wide = this.#wide(), tall = this.box.clientHeight, scale = this.#scale();
    if (!wide || !tall) return;
    const keep = (at, size, room) => (size * scale <= room ? size / 2 : Math.min(size - room / 2 / scale, Math.max(room / 2 / scale, at)));
    this.x = keep(this.x, this.width, wide);
    this.y = keep(this.y, this.height, tall);
    const start = wide / 2 - this.x * scale;
    for (const { layer } of [this.left, this.right]) {
      layer.style.transform = `translate(${start}px, ${tall / 2 - this.y * scale}px) scale(${scale})`;
      layer.classList.toggle("close", scale * devicePixelRatio >= 3);
    }
    // The divider goes over the picture, not over what is empty beside it.
    const low = Math.max(0, start), high = Math.min(wide, start + this.width * scale);
    this.bounds = [low, high];
    const place = low + ((high - low) * this.range.value) / 100;
    this.right.pane.style.clipPath = this.beside ? "none" : `inset(0 0 0 ${place}px)`;
    this.line.style.left = `${place}px`;
    this.range.setAttribute("aria-valuetext", `${Math.round(this.range.value)} % ${this.left.tag.textContent}`);
    this.box.classList.toggle("zoomed", this.zoom > 1);
    this.onZoom?.(this.zoom, scale);
  }

  #divideAt(x) {
    const [low, high] = this.bounds;
    this.range.value = (100 * (x - low)) / (high - low);
    this.draw();
  }

  #listen() {
    const fingers = new Map();
    let dividing = false;
    const at = (event) => {
      const box = this.box.getBoundingClientRect();
      const x = event.clientX - box.left - this.box.clientLeft;
      return { x: this.beside ? x % (this.#wide() + 3) : x, y: event.clientY - box.top - this.box.clientTop };
    };
    this.box.addEventListener("pointerdown", (event) => {
      if (event.target.closest("a")) return;
      const point = at(event);
      fingers.set(event.pointerId, point);
      this.box.setPointerCapture(event.pointerId);
      dividing = !this.beside && (this.zoom === 1 || Math.abs(point.x - parseFloat(this.line.style.left)) < 28);
      if (dividing && fingers.size === 1) this.#divideAt(point.x);
    });
    this.box.addEventListener("pointermove", (event) => {
      const before = fingers.get(event.pointerId), point = at(event);
      if (!before) return;
      if (fingers.size === 2) {
        const other = [...fingers].find(([id]) => id !== event.pointerId)[1];
        const spread = (one) => Math.hypot(one.x - other.x, one.y - other.y) || 1;
        this.zoomBy(spread(point) / spread(before), (point.x + other.x) / 2, (point.y + other.y) / 2);
      } else if (dividing) this.#divideAt(point.x);
      else this.moveBy(point.x - before.x, point.y - before.y);
      fingers.set(event.pointerId, point);
    });
    for (const end of ["pointerup", "pointercancel"]) this.box.addEventListener(end, (event) => fingers.delete(event.pointerId));
    this.box.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && document.activeElement !== this.box) return; // the page scrolls
      event.preventDefault();
      const point = at(event);
      this.zoomBy(Math.exp(-event.deltaY / (event.ctrlKey ? 120 : 400)), point.x, point.y);
    }, { passive: false });
    this.box.addEventListener("keydown", (event) => {
      const step = 60, moves = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
      if (event.key === "+" || event.key === "=") this.zoomBy(1.5);
      else if (event.key === "-") this.zoomBy(1 / 1.5);
      else if (event.key === "0") this.reset();
      else if (moves[event.key] && this.zoom > 1) this.moveBy(...moves[event.key]);
      else if (moves[event.key]?.[0] && !this.beside) {
        this.range.value = Number(this.range.value) - Math.sign(moves[event.key][0]) * 2;
        this.draw();
      } else return;
      event.preventDefault();
    });
  }
}
