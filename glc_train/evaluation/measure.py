"""The measuring loop: encode to a file, decode the file, measure frame by frame. One path for codecs and baselines."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from glc_train.errors import is_for_user
from glc_train.evaluation.codecs import Encoded, FileCodec
from glc_train.evaluation.details import DETAILS, LOOKED_AT_CRF, write_details
from glc_train.evaluation.kept import Kept
from glc_train.evaluation.plots import write_side_by_side
from glc_train.evaluation.results import CODEC, EvaluationError, FrameResult, Result, mean
from glc_train.evaluation.sets import Item, Still
from glc_train.media import ClipWriter, write_clip, write_picture
from glc_train.metrics import (
    ClipScores,
    MetricSource,
    PatchFeatures,
    PictureMetrics,
    distribution_sources,
    flicker,
    signed_error,
    source_of,
)


@dataclass
class Bench:
    """Measures an item with everything: the codec at its qualities, then each baseline at the bytes that it took.

    Files go to `out/files/q<quality>/<item><suffix>`, decoded pictures to `out/decoded/q<quality>/<item>.png`
    (clips: .mp4, to look at), where the bytes went to `out/details/q<quality>/<item>.json`, those of a baseline to the
    same below `out/baselines/<name>`, clips side by side to `out/clips/<item>.mp4`.

    Attributes:
        codec: under test, and `qualities` of it.
        name: of the codec in the results.
        rates: bits per pixel in which the codec is to code, in place of qualities; the qualities number them.
        baselines: by name.
        metrics: of every frame.
        features: of patches, for FID and KID; None leaves them out.
        save_pictures: whether to keep decoded pictures, and write clips side by side.
        advance: called after each frame.
        warm: whether the codec has coded anything, so that the next measured time is one as the others.
        kept: results of an evaluation that was killed, and where those of this one are kept.
    """

    codec: FileCodec
    qualities: Sequence[int]
    out: Path
    metrics: PictureMetrics
    baselines: Mapping[str, FileCodec]
    name: str = CODEC
    rates: Sequence[float] | None = None
    features: PatchFeatures | None = None
    save_pictures: bool = True
    advance: Callable[[], object] = lambda: None
    warm: bool = False
    kept: Kept | None = None

    def __call__(self, item: Item) -> list[Result]:
        """Results of the codec, then of each baseline, each by quality.

        Raises:
            EvaluationError: a codec fails, or a file does not decode to as many frames of that size.
        """
        if self.rates is not None:
            pixels = _count_pixels(item)
            within = [int(rate * pixels / 8) for rate in self.rates]
            results = [self._result(item, self.name, quality, within[quality], True) for quality in self.qualities]
        else:
            if not self.warm and _writes_files(self.codec):
                self._warm_up(item)
            results = [self._result(item, self.name, quality, quality) for quality in self.qualities]
        targets = {result.quality: result.bytes for result in results}
        for name in self.baselines:
            results += [self._result(item, name, quality, targets[quality], True) for quality in self.qualities]
        if self.save_pictures and not item.still:
            self._show(item, results)
        return results

    def sources(self) -> dict[str, MetricSource]:
        """Where the metrics come from, by the names of their figures."""
        distributions = {} if self.features is None else distribution_sources(self.features)
        return {**self.metrics.sources(), "flicker": source_of(flicker), **distributions}

    def _warm_up(self, item: Item) -> None:
        """Codes a corner of the item."""
        with tempfile.TemporaryDirectory() as folder:
            corner = Still("corner", Path(folder, "corner.png"))
            write_picture(corner.path, next(item.pictures())[:256, :256])
            file = Path(folder, f"corner{self.codec.suffix}")
            self.codec.encode(corner, self.qualities[0], file)
            list(self.codec.decode(file))
        self.warm = True

    def _named(self, name: str) -> FileCodec:
        return self.codec if name == self.name else self.baselines[name]

    def _folder(self, name: str) -> Path:
        return self.out if name == self.name else self.out / "baselines" / name

    def _file(self, item: Item, name: str, quality: int) -> Path:
        return self._folder(name) / "files" / f"q{quality}" / f"{item.name}{self._named(name).suffix}"

    def _decoded(self, item: Item, name: str, quality: int) -> Path:
        return self._folder(name) / "decoded" / f"q{quality}" / f"{item.name}.png"

    def _result(self, item: Item, name: str, quality: int, level: int, within: bool = False) -> Result:
        """The kept result where its files are still there, or else what is measured; `within`: `level` is bytes."""
        found = None if self.kept is None else self.kept.find(item, name, quality)
        if found is not None and found.target_bytes in (None, level):
            file, decoded = self._file(item, name, quality), self._decoded(item, name, quality)
            whole = not _writes_files(self._named(name)) or (file.exists() and file.stat().st_size == found.bytes)
            if whole and (not item.still or not self.save_pictures or decoded.exists()):
                return found
        result = self._measure(item, name, quality, level, within)
        if self.kept is not None:
            self.kept.keep(item, result)
        return result

    def _measure(self, item: Item, name: str, quality: int, level: int, within: bool) -> Result:
        file, keep = self._file(item, name, quality), self._decoded(item, name, quality)
        if _writes_files(self._named(name)):
            file.parent.mkdir(parents=True, exist_ok=True)
        try:
            encoded = self._named(name).encode(item, level, file)
            frames, (height, width), seconds = self._compare(item, file, name, encoded, keep)
        except ValueError as error:
            if not is_for_user(error):
                raise
            raise EvaluationError(f"{item.name} at quality {quality} with {name}: {error}") from error
        size = file.stat().st_size if encoded.stated_bytes is None else encoded.stated_bytes
        write_details(self._folder(name) / DETAILS / f"q{quality}" / f"{item.name}.json", encoded, size)
        count = len(frames)
        pixels = count * height * width

        def bits_per_pixel(kind: str) -> float | None:
            known = mean(getattr(frame, kind) for frame in encoded.frames)
            return None if known is None else known * count / pixels

        # The first frame of a clip has no flicker.
        scores = {s: mean(f.scores[s] for f in frames[s == "flicker" :]) for s in frames[0].scores}
        return Result(
            codec=name,
            name=item.name,
            quality=quality,
            height=height,
            width=width,
            bytes=size,
            estimated_bpp=bits_per_pixel("estimated_bits"),
            ideal_bpp=bits_per_pixel("ideal_bits"),
            scores=scores,
            encode_seconds=encoded.seconds / count,
            decode_seconds=(seconds if _writes_files(self._named(name)) else math.nan) / count,
            frames=frames,
            fps=None if item.still else float(item.info().fps),
            target_bytes=level if within else None,
        )

    def _compare(
        self, item: Item, file: Path, name: str, encoded: Encoded, keep: Path
    ) -> tuple[tuple[FrameResult, ...], tuple[int, int], float]:
        """Results of the frames, height and width, and the decoder's seconds."""
        info = item.info()
        with ExitStack() as stack:
            started = {} if item.still else self.metrics.start_clip(info.height, info.width)
            whole = {metric: stack.enter_context(each) for metric, each in started.items()}
            frames, seconds = self._compare_frames(item, file, name, encoded, keep, list(whole.values()))
            for metric, each in whole.items():
                scores = zip(frames, each.scores(), strict=True)
                frames = [replace(frame, scores={**frame.scores, metric: score}) for frame, score in scores]
        return tuple(frames), (info.height, info.width), seconds

    def _compare_frames(
        self, item: Item, file: Path, name: str, encoded: Encoded, keep: Path, whole: Sequence[ClipScores]
    ) -> tuple[list[FrameResult], float]:
        """`whole`: metrics that get all frames."""
        results: list[FrameResult] = []
        seconds, before = 0.0, None
        decoded_frames = self._named(name).decode(file)
        with self._video(item, keep) as video:
            for original, frame in zip(item.pictures(), encoded.frames, strict=True):
                start = time.perf_counter()
                decoded = next(decoded_frames, None)
                seconds += time.perf_counter() - start
                if decoded is None or decoded.shape != original.shape or decoded.dtype != np.uint8:
                    what = "ends there" if decoded is None else f"decodes to {decoded.shape} {decoded.dtype}"
                    raise EvaluationError(f"frame {len(results)} is {original.shape}, but {file} {what}")
                scores = self.metrics.measure(original, decoded)
                for each in whole:
                    each.add(original, decoded)
                if item.still:
                    features = None if self.features is None else (self.features(original), self.features(decoded))
                    if self.save_pictures:
                        write_picture(keep, decoded)
                else:
                    features, error = None, signed_error(original, decoded)
                    scores["flicker"], before = None if before is None else flicker(error, before), error
                if video is not None:
                    video.write(decoded)
                results.append(FrameResult(frame.kind, frame.bytes, scores, features))
                self.advance()
        if next(decoded_frames, None) is not None:
            raise EvaluationError(f"{file} decodes to more than the {len(results)} frames that were written")
        return results, seconds

    def _video(self, item: Item, keep: Path) -> AbstractContextManager[ClipWriter | None]:
        """What keeps the decoded frames of a clip to look at; of a picture nothing."""
        if item.still or not self.save_pictures:
            return nullcontext()
        return write_clip(keep.with_suffix(".mp4"), item.info(), crf=LOOKED_AT_CRF)

    def _show(self, item: Item, results: Sequence[Result]) -> None:
        """Writes the original beside the codec's smallest and largest file and the largest of each baseline."""
        ours = sorted((result for result in results if result.codec == self.name), key=lambda r: r.bytes)
        shown = ours if len(ours) < 2 else [ours[0], ours[-1]]
        for name in self.baselines:
            shown.append(max((r for r in results if r.codec == name), key=lambda r: r.bytes))
        columns: list[tuple[str, Iterator[np.ndarray]]] = [("original", item.pictures())]
        for r in shown:
            label = f"{r.codec} q{r.quality}  {r.bpp:.4f} bpp  {r.kbps:.1f} kbit/s"
            columns.append((label, self._named(r.codec).decode(self._file(item, r.codec, r.quality))))
        folder = self.out / "clips"
        folder.mkdir(parents=True, exist_ok=True)
        write_side_by_side(folder / f"{item.name}.mp4", item.info(), columns)


def _writes_files(codec: FileCodec) -> bool:
    return getattr(codec, "writes_files", True)


def _count_pixels(item: Item) -> int:
    """Of all frames."""
    return sum(picture.shape[0] * picture.shape[1] for picture in item.pictures())
