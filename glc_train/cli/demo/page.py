"""The page itself: what is on it, and what happens when."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from glc_train.backbones import BackboneError, find_backbone
from glc_train.cli.demo import clips, pictures
from glc_train.cli.demo.desk import TITLE, Desk, Made
from glc_train.cli.errors import CommandError, failure
from glc_train.data import packaged_pictures
from glc_train.effort import HIGHEST_EFFORT

Updates = dict[Any, Any]
Handler = Callable[..., Iterator[Updates]]

ABOUT = """
# Generative Latent Coding
Pictures and clips below 0.04 bits per pixel. What you see is decoded from the file that you can download. Texture is
made up again by the decoder, and small text and faces with it: no decoded picture is evidence.
"""
QUALITY, BYTES = "a quality", "a number of bytes"
# On a phone the result lies below all settings.
_SCROLL = """(...inputs) => {
  const shown = [...document.querySelectorAll(".result")].find((each) => each.offsetParent);
  if (innerWidth < 700 && shown) shown.scrollIntoView({ behavior: "smooth" });
  return inputs;
}"""
_KEPT_SECONDS = 3600  # what a visitor has made
_THUMBNAIL = (240, 180)


@dataclass(frozen=True)
class Result:
    """The part of a tab in which the outcome is shown."""

    notice: gr.HTML
    column: gr.Column
    figures: gr.HTML
    download: gr.DownloadButton
    made: gr.State

    @property
    def all(self) -> list[Any]:
        """Its components."""
        return [self.notice, self.column, self.figures, self.download, self.made]

    def of(self, made: Made, what: str = "Download") -> Updates:
        """What shows that something has been made."""
        label = f"{what} {made.file.name} ({made.file.stat().st_size:,} bytes)"
        remarks = "".join(f"<p>{html.escape(each)}</p>" for each in made.remarks)
        return {
            self.notice: "",
            self.column: gr.Column(visible=True),
            self.figures: f'{made.figures}<div class="remarks">{remarks}</div>',
            self.download: gr.DownloadButton(label=label, value=str(made.file)),
            self.made: made,
        }


def notice(sentence: str, wrong: bool = False) -> str:
    """HTML of a sentence for the user."""
    kind, role = ("notice wrong", "alert") if wrong else ("notice", "status")
    return f'<div class="{kind}" role="{role}"><p>{html.escape(sentence)}</p></div>'


def _result(kind: Callable[[], Any], before: str) -> tuple[Result, Any]:
    """Lay it out; `kind` makes what lies above the figures, and `before` stands there at first."""
    message = gr.HTML(notice(before), elem_classes="result")
    with gr.Column(visible=False) as column:
        inside = kind()
        figures = gr.HTML()
        download = gr.DownloadButton("Download", variant="primary")
    made = gr.State(None, time_to_live=_KEPT_SECONDS, delete_callback=_discard)
    return Result(message, column, figures, download, made), inside


def _discard(made: Made | None) -> None:
    if made is not None:
        made.discard()


def guarded(desk: Desk, result: Result, handler: Handler) -> Handler:
    """The handler of an event; what a user got wrong becomes a sentence on the page, and what was shown is gone.

    Its inputs are the source, a path or None, what was made before, and those of `handler`.
    """

    def guard(progress=gr.Progress(), *inputs: Any) -> Iterator[Updates]:  # type: ignore[no-untyped-def]  # noqa: B008
        source, before, *more = inputs
        if source is None:
            return
        replaced = False
        try:
            yield {result.notice: notice(f"{Path(source).name} is being worked on …")}
            for updates in handler(Path(source), progress, *more):
                replaced = True
                yield updates
        except Exception as error:
            text = desk.plain(failure(error, Path(source)))
            yield {result.notice: notice(text, wrong=True), result.column: gr.Column(visible=False)}
        finally:
            if replaced:  # nothing else remembers what was made before
                _discard(before)

    return guard


class Page:
    """Builds the page.

    Args:
        desk: with the codecs.
    """

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def build(self) -> gr.Blocks:
        """The page, not yet served."""
        with gr.Blocks(title="Generative Latent Coding", analytics_enabled=False, delete_cache=(600, 3600)) as blocks:
            gr.Markdown(ABOUT, elem_id="about")
            for name, tab in (("Picture", self._pictures), ("Clip", self._clips), ("Open a file", self._files)):
                with gr.Tab(name), gr.Row():
                    tab()
        return blocks.queue(max_size=16)

    def _run(
        self, event: Any, handler: Handler, source: Any, more: list[Any], result: Result, shown: list[Any]
    ) -> None:
        """Run `handler` on an event, one at a time on the whole page."""
        event(
            guarded(self.desk, result, handler), [source, result.made, *more], [*result.all, *shown],
            concurrency_id="codec", concurrency_limit=1, api_visibility="private", show_progress_on=result.notice,
            trigger_mode="always_last", js=_SCROLL,
        )  # fmt: skip

    # ---------------------------------------------------------------- pictures

    def _pictures(self) -> None:
        levels, samples, args = self.desk.pictures.quality_levels, packaged_pictures("test"), self.desk.args
        with gr.Column(scale=2, min_width=300):
            drop = gr.File(label="Drop a picture", height=140)
            gallery = gr.Gallery(
                [(_thumbnail(path), path.stem) for path in samples], label="Or take one of these", columns=4,
                height="auto", allow_preview=False, object_fit="cover", buttons=[], interactive=False,
                elem_id="samples",
            )  # fmt: skip
            aim = gr.Radio([QUALITY, BYTES], value=QUALITY, label="Aim for")
            quality = _quality(levels)
            most = gr.Number(2000, label="Bytes at most", precision=0, minimum=1, visible=False)
            effort = _effort()
            again = gr.Button("Compress", variant="primary")
            _small(f"Up to {args.max_mb} MB; more than {args.max_pixels / 1e6:g} megapixels are made smaller.")
        with gr.Column(scale=5, min_width=320):
            result, (slider, left, right) = _result(
                _slider, "The decoded picture will be shown here beside the original."
            )
        chosen, shown = gr.State(None), [slider, left, right]

        def code(
            source: Path, progress: Any, aim: str, quality: int, most: int | None, effort: int
        ) -> Iterator[Updates]:
            if aim == BYTES and not most:
                raise CommandError("Give the number of bytes that the file may have at most, from 1 up.")
            wish = pictures.Wish(int(quality), int(most or 0) if aim == BYTES else None, int(effort))
            first = True
            for made in pictures.code(self.desk, source, wish, _teller(progress, "Effort, step")):
                names = list(made.shown)
                update = result.of(made) | {left: gr.Radio(names), right: gr.Radio(names)}
                if first:
                    update |= {left: gr.Radio(names, value=pictures.ORIGINAL), right: gr.Radio(names, value=TITLE)}
                    update[slider] = _pair(made, pictures.ORIGINAL, TITLE)
                first = False
                yield update

        def take(event: gr.SelectData) -> str:
            return str(samples[event.index])

        aim.change(_aim, aim, [quality, most], api_visibility="private", queue=False)
        own = _taken(drop, chosen)
        sample = gallery.select(take, None, chosen, api_visibility="private", queue=False)
        for event in (own.success, sample.success, again.click):
            self._run(event, code, chosen, [aim, quality, most, effort], result, shown)
        for choice in (left, right):
            choice.input(
                _pair, [result.made, left, right], slider, api_visibility="private", queue=False,
                show_progress="hidden",
            )  # fmt: skip

    # ------------------------------------------------------------------- clips

    def _clips(self) -> None:
        args = self.desk.args
        with gr.Column(scale=2, min_width=300):
            drop = gr.File(label="Drop a clip", height=140)
            pan = gr.Button("Take a pan over a photograph")
            quality = _quality(clips.QUALITIES)
            frames = gr.Slider(1, args.max_frames, min(24, args.max_frames), step=1, label="Frames, from the first on")
            again = gr.Button("Compress", variant="primary")
            _small(
                f"Up to {args.max_mb} MB; frames of more than {args.max_pixels / 1e6:g} megapixels are made smaller. "
                f"After {args.max_seconds} seconds the clip is cut."
            )
        with gr.Column(scale=5, min_width=320):
            result, video = _result(
                lambda: _video("Original, and decoded from the file"),
                "The decoded clip will be shown here beside the original.",
            )
        chosen = gr.State(None)

        def code(source: Path, progress: Any, quality: int, frames: int) -> Iterator[Updates]:
            told = _teller(progress, "Frame")
            made = clips.code(self.desk, source, int(quality), int(frames), told)
            yield result.of(made) | {video: str(made.clip)}

        own = _taken(drop, chosen)
        sample = pan.click(lambda: str(clips.example(self.desk)), None, chosen, api_visibility="private")
        for event in (own.success, sample.success, again.click):
            self._run(event, code, chosen, [quality, frames], result, [video])

    def _files(self) -> None:
        args = self.desk.args
        with gr.Column(scale=2, min_width=300):
            drop = gr.File(label="Drop a .glc or .glcv file", height=140)
            _small(
                f"Pictures and frames of up to {args.max_pixels / 1e6:g} megapixels; of clips the first "
                f"{args.max_frames} frames."
            )
        with gr.Column(scale=5, min_width=320):
            result, (picture, video) = _result(
                lambda: (_picture(), _video("Decoded")), "The decoded picture or clip will be shown here."
            )

        def show(source: Path, progress: Any) -> Iterator[Updates]:
            made = clips.open_file(self.desk, source, _teller(progress, "Frame"))
            still = made.shown.get(TITLE)
            yield result.of(made) | {
                picture: gr.Image(None if still is None else str(still), visible=still is not None),
                video: gr.Video(None if made.clip is None else str(made.clip), visible=made.clip is not None),
            }

        chosen = gr.State(None)
        self._run(_taken(drop, chosen).success, show, chosen, [], result, [picture, video])


def _taken(drop: gr.File, chosen: gr.State) -> Any:
    """The event of a file that was dropped, after which the next one may be: `chosen` has its path."""
    return drop.upload(lambda path: (str(path), None), drop, [chosen, drop], api_visibility="private", queue=False)


def _quality(levels: int) -> gr.Slider:
    return gr.Slider(0, levels - 1, levels // 2, step=1, label="Quality", info="0 has the fewest bytes")


def _effort() -> gr.Slider:
    """Of 0 alone where the networks that judge it are not here: the page takes nothing from the net."""
    try:
        for name in ("alexnet", "vgg16"):
            find_backbone(name, download=False)
    except BackboneError:
        return gr.Slider(0, 1, 0, step=1, label="Effort", info="needs `glc fetch-weights`", interactive=False)
    return gr.Slider(0, HIGHEST_EFFORT, 0, step=1, label="Effort", info="more time for a better picture")


def _small(text: str) -> None:
    gr.Markdown(text, elem_classes="small")


def _slider() -> tuple[gr.ImageSlider, gr.Radio, gr.Radio]:
    slider = gr.ImageSlider(
        show_label=False, label="Compared", type="filepath", interactive=False, max_height=900, buttons=["fullscreen"],
        elem_id="compared",
    )  # fmt: skip
    with gr.Row():
        left, right = (gr.Radio([], label=side, min_width=200, elem_classes="choices") for side in ("Left", "Right"))
    return slider, left, right


def _picture() -> gr.Image:
    return gr.Image(label="Decoded", type="filepath", interactive=False, buttons=["fullscreen"])


def _video(label: str) -> gr.Video:
    return gr.Video(label=label, autoplay=True, loop=True, interactive=False, buttons=[])


def _thumbnail(path: Path) -> Image.Image:
    with Image.open(path) as image:
        image.thumbnail(_THUMBNAIL)
        return image.convert("RGB")


def _aim(aim: str) -> list[Any]:
    return [gr.Slider(visible=aim == QUALITY), gr.Number(visible=aim == BYTES)]


def _pair(made: Made | None, left: str, right: str) -> Any:
    """What the slider shows."""
    if made is None or not made.folder.exists():
        return gr.skip()
    return str(made.shown[left]), str(made.shown[right])


def _teller(progress: Any, what: str) -> Callable[[int, int], None]:
    return lambda done, steps: progress((done, steps), desc=what)
