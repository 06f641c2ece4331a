// Two videos that play in step.
import { make } from "./data.js";

export class Player {
  constructor() {
    this.play = make("button", { type: "button", onclick: () => this.toggle() }, "Play");
    this.range = make("input", { type: "range", min: 0, value: 0, step: 1, id: "frame" });
    this.label = make("label", { htmlFor: "frame" });
    this.range.oninput = () => this.seek(Number(this.range.value));
    this.box = make("div", { className: "below" }, this.play, make("div", { className: "grow" }, this.label, this.range));
  }

  // The videos, `null` where there is none; `onFrame` gets the number of the frame that is shown.
  show(videos, frames, fps, onFrame) {
    this.pause();
    Object.assign(this, { videos: videos.filter(Boolean), frames, fps, onFrame });
    this.range.max = frames - 1;
    this.play.disabled = this.range.disabled = !this.videos.length;
    const start = Math.min(this.frame ?? 0, frames - 1);
    for (const video of this.videos) video.addEventListener("loadedmetadata", () => this.seek(start), { once: true });
    this.videos[0]?.addEventListener("ended", () => { for (const video of this.videos) video.currentTime = 0; this.start(); });
    this.#tell(start);
  }

  seek(frame) {
    for (const video of this.videos) video.currentTime = (frame + 0.5) / this.fps;
    this.#tell(frame);
  }

  toggle() {
    this.playing ? this.pause() : this.start();
  }

  start() {
    this.playing = true;
    this.play.textContent = "Pause";
    for (const video of this.videos) video.play();
    this.#follow();
  }

  pause() {
    this.playing = false;
    this.play.textContent = "Play";
    for (const video of this.videos ?? []) video.pause();
  }

  #follow() {
    if (!this.playing) return;
    const [first, ...others] = this.videos;
    for (const other of others) if (Math.abs(other.currentTime - first.currentTime) > 0.7 / this.fps) other.currentTime = first.currentTime;
    this.#tell(Math.min(this.frames - 1, Math.floor(first.currentTime * this.fps)));
    requestAnimationFrame(() => this.#follow());
  }

  #tell(frame) {
    if (frame === this.frame && this.label.textContent) return;
    this.frame = frame;
    this.range.value = frame;
    this.label.textContent = `Frame ${frame + 1} of ${this.frames}`;
    this.onFrame?.(frame);
  }
}
