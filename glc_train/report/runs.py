"""What lies in the folder of an evaluation, read back: `results.json`, and files beside it where they are there."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RESULTS = "results.json"
_NOT_FIGURES = ("codec", "picture", "sequence", "quality", "height", "width", "frames", "fps")


class ReportError(ValueError):
    """There is nothing to make a report of; the message says what to change."""


@dataclass(frozen=True)
class Coded:
    """One picture or clip in one file.

    Attributes:
        name, width, height: of the picture or clip; `frames` and `fps` of a clip.
        quality: number in its codec.
        figures: `bytes`, `bpp` and scores by name.
        over_frames: of a clip, `bpp` and scores of each frame.
        folder: of its codec, in which `files/`, `decoded/` and `details/` are.
        originals: folder of the pictures that were coded.
        listings: of folders that were searched, which those of one evaluation share: a folder may hold thousands.
    """

    name: str
    width: int
    height: int
    quality: int
    figures: dict[str, float]
    folder: Path
    originals: Path
    frames: int = 1
    fps: float | None = None
    over_frames: dict[str, list[float | None]] = field(default_factory=dict)
    listings: dict[Path, dict[str, Path]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def file(self) -> Path | None:
        """The compressed file; None: it is not there."""
        return self._in(self.folder / "files" / f"q{self.quality}")

    @property
    def decoded(self) -> Path | None:
        """What it decodes to, as a picture or a video to look at; None: it is not there."""
        return self._in(self.folder / "decoded" / f"q{self.quality}")

    @property
    def original(self) -> Path | None:
        """What was coded, as a picture or a video to look at; None: it is not there."""
        return self._in(self.originals)

    def _in(self, folder: Path) -> Path | None:
        """The file of this picture or clip there, whatever its suffix."""
        if folder not in self.listings:
            self.listings[folder] = _files_by_name(folder)
        return self.listings[folder].get(self.name)

    @property
    def details_path(self) -> Path:
        """Where `details` are, if they are."""
        return self.folder / "details" / f"q{self.quality}" / f"{self.name}.json"

    def details(self) -> dict[str, Any] | None:
        """Where the bytes went; None: nothing readable is there."""
        try:
            found = json.loads(self.details_path.read_text("utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None


@dataclass(frozen=True)
class Series:
    """A codec in one evaluation: means by quality, and what was coded."""

    codec: str
    means: tuple[dict[str, Any], ...]
    coded: tuple[Coded, ...]
    baseline: bool


@dataclass(frozen=True)
class Run:
    """One evaluation: its folder, what `results.json` says of how it was made, and its codecs."""

    path: Path
    facts: dict[str, Any]
    series: tuple[Series, ...]

    @property
    def folder(self) -> Path:
        """In which the results are."""
        return self.path.parent

    @property
    def stills(self) -> bool:
        """Whether they are of pictures."""
        return all(coded.fps is None for series in self.series for coded in series.coded)


def load_run(path: str | Path) -> Run:
    """An evaluation, of its `results.json` or its folder.

    Raises:
        ReportError: no such file, or not the results of an evaluation.
    """
    path = Path(path)
    path = path / RESULTS if path.is_dir() else path
    try:
        content = json.loads(path.read_text("utf-8"), parse_constant=lambda _: None)  # NaN, which a page cannot hold
        codecs, listings = content.pop("codecs"), dict[Path, dict[str, Path]]()
        series = tuple(
            Series(codec, tuple(each["means"]), tuple(_coded(each, path.parent, name, listings)), bool(name))
            for (codec, each), name in zip(codecs.items(), [None, *list(codecs)[1:]], strict=True)
        )
    except OSError as error:
        raise ReportError(f"{path} cannot be read ({error.strerror}): give a results.json of an evaluation.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReportError(f"{path} holds no results of an evaluation: give a results.json.") from error
    if not any(each.coded for each in series):
        raise ReportError(f"{path} holds no picture and no clip: evaluate again.")
    return Run(path, content, series)


def _coded(
    results: dict[str, Any], folder: Path, baseline: str | None, listings: dict[Path, dict[str, Path]]
) -> Iterator[Coded]:
    rows: Sequence[dict[str, Any]] = results.get("pictures") or [
        row for by_quality in results.get("sequences", {}).values() for row in by_quality.values()
    ]
    for row in rows:
        figures = {name: value for name, value in row.items() if name not in _NOT_FIGURES and _is_number(value)}
        lists = {n.removeprefix("frame_"): v for n, v in row.items() if n.startswith("frame_") and n != "frame_kind"}
        yield Coded(
            name=row["picture"] if "picture" in row else row["sequence"],
            width=row["width"],
            height=row["height"],
            quality=row["quality"],
            figures=figures,
            folder=folder if baseline is None else folder / "baselines" / baseline,
            originals=folder / "originals",
            frames=row.get("frames", 1),
            fps=row.get("fps"),
            over_frames={name: values for name, values in lists.items() if any(v is not None for v in values)},
            listings=listings,
        )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _files_by_name(folder: Path) -> dict[str, Path]:
    """The files of a folder by their names without suffix, the first of each; none where there is no such folder."""
    try:
        files = sorted((path for path in folder.iterdir() if path.is_file()), reverse=True)
    except OSError:
        return {}
    return {path.name.rpartition(".")[0]: path for path in files}
