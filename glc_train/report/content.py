"""What a page shows, as plain data: its scripts draw it from this alone."""

from __future__ import annotations

import base64
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from glc_train.report.runs import Coded, Run, Series
from glc_train.report.shots import Embedded, Shot, thumbnail

_MOST = 400  # pictures on one page
_NOT_SCORES = (
    "quality", "pictures", "sequences", "bpp", "kbps", "bytes", "estimated_bpp", "ideal_bpp", "rate_gap", "kid",
    "patches", "encode_seconds", "decode_seconds",
)  # fmt: skip

Key = tuple[str, str, int, int, int]  # data set, name, width, height, frames


class Content:
    """The content of one page.

    Args:
        runs: evaluations, of pictures all or of clips all.
        titles: of metrics, each with ↑ or ↓ at its end, those of others are their names; in the order to show them.
        published: curves to compare with: `name`, `points` of `bpp` and scores, `note`.
        page: where the page will be, to which links are relative.
    """

    def __init__(
        self, runs: Sequence[Run], titles: Mapping[str, str], published: Sequence[dict[str, Any]], page: Path
    ) -> None:
        self.page = page
        self.depth = 2  # of details: 2 all, 1 without maps of bits, 0 none
        self._read: dict[Path, Any] = {}  # thumbnails and details, each made once
        self.runs = runs
        self.labels = _distinct([_label(run) for run in runs])
        self.series = [(run, label, each) for run, label in zip(runs, self.labels, strict=True) for each in run.series]
        self.titles = {name: title.rstrip(" ↑↓") for name, title in titles.items()}
        self.metrics = _metrics([each for _, _, each in self.series], titles)
        self.published = [each for each in published if _scores(each["points"]) & {m["id"] for m in self.metrics}]
        every: dict[Key, list[tuple[int, Coded]]] = {}
        for number, (run, _, series) in enumerate(self.series):
            for coded in series.coded:
                every.setdefault(
                    (str(run.facts.get("dataset")), coded.name, coded.width, coded.height, coded.frames), []
                ).append((number, coded))
        ranked = self._ranked(every)
        half = _MOST // 2
        kept = set(ranked if len(ranked) <= _MOST else [*ranked[:half], *ranked[-half:]])
        self.left_out = len(every) - len(kept)
        self.items = {key: files for key, files in every.items() if key in kept}
        rank = {key: place for place, key in enumerate(ranked)}
        middle = (len(ranked) - 1) / 2
        places = sorted(enumerate(self.items), key=lambda each: abs(rank[each[1]] - middle))
        self.order = [place for place, _ in places]  # the groups of `shots`: middling pictures first
        self.shots: list[Shot] = []
        self._number: dict[Path, int] = {}
        for place, files in enumerate(self.items.values()):
            for path in (_original(files), *(coded.decoded for _, coded in files)):
                if path is not None and path not in self._number:
                    self._number[path] = len(self.shots)
                    self.shots.append(Shot(path, place))

    def _ranked(self, every: Mapping[Key, Sequence[tuple[int, Coded]]]) -> list[Key]:
        """From the best to the worst, by the first metric; by the rate where there is none."""
        first = self.metrics[0] if self.metrics else {"id": "bpp", "lower": True}

        def badness(key: Key) -> float:
            known = [c.figures[first["id"]] for number, c in every[key] if number == 0 and first["id"] in c.figures]
            return (1 if first["lower"] else -1) * sum(known) / len(known) if known else 0.0

        return sorted(every, key=badness)

    @property
    def stills(self) -> bool:
        """Whether it is of pictures."""
        return self.runs[0].stills

    @property
    def title(self) -> str:
        """Codecs under test, data sets, and how many pictures or clips were coded."""
        sets = ", ".join(dict.fromkeys(str(run.facts.get("dataset", "pictures")) for run in self.runs))
        count, noun = len(self.items) + self.left_out, "picture" if self.stills else "clip"
        codecs = ", ".join(dict.fromkeys(run.series[0].codec for run in self.runs))
        return f"{codecs} on {sets}: {count} {noun}{'' if count == 1 else 's'}"

    def as_dict(self, embedded: Sequence[Embedded | None]) -> dict[str, Any]:
        """All of it, with what became of `shots`; none yet where that is empty."""
        return {
            "title": self.title,
            "stills": self.stills,
            "metrics": self.metrics,
            "series": [self._series(*each) for each in self.series],
            "published": self.published,
            "items": [self._item(*each, embedded) for each in self.items.items()],
            "media": [each.uri if each else None for each in embedded],
        }

    def _series(self, run: Run, label: str, series: Series) -> dict[str, Any]:
        alone = Counter(each.codec for _, _, each in self.series)[series.codec] == 1
        return {
            "label": series.codec if alone else f"{series.codec} ({label})",
            "baseline": series.baseline,
            "means": [{k: _short(v) for k, v in mean.items() if v is not None} for mean in series.means],
        }

    def _item(
        self, key: Key, files: Sequence[tuple[int, Coded]], embedded: Sequence[Embedded | None]
    ) -> dict[str, Any]:
        _, name, width, height, frames = key
        original = _original(files)
        shown = original or next((path for _, coded in files if (path := coded.decoded)), None)
        return {
            "name": name,
            "width": width,
            "height": height,
            "frames": frames,
            "fps": files[0][1].fps,
            "thumbnail": self._once(shown, lambda: thumbnail(shown)) if shown else None,
            "original": self._picture(original, embedded),
            "files": [self._file(number, coded, embedded) for number, coded in files],
        }

    def _file(self, number: int, coded: Coded, embedded: Sequence[Embedded | None]) -> dict[str, Any]:
        return {
            "series": number,
            "quality": coded.quality,
            "figures": {name: _short(value) for name, value in coded.figures.items()},
            "overFrames": {name: [_short(v) for v in values] for name, values in coded.over_frames.items()},
            "file": self.link(coded.file),
            "picture": self._picture(coded.decoded, embedded),
            "details": self._details(coded),
        }

    def _details(self, coded: Coded) -> dict[str, Any] | None:
        if self.depth == 0:
            return None
        found: dict[str, Any] | None = self._once(coded.details_path, lambda: _compact(coded.details()))
        return found and (found if self.depth == 2 else found | {"map": None})

    def _once(self, path: Path, make: Callable[[], Any]) -> Any:
        if path not in self._read:
            self._read[path] = make()
        return self._read[path]

    def _picture(self, path: Path | None, embedded: Sequence[Embedded | None]) -> dict[str, Any] | None:
        if path is None:
            return None
        number = self._number[path]
        found = embedded[number] if embedded else None
        return {
            "link": self.link(path),
            "media": number if found else None,
            "divisor": found.divisor if found else None,
        }

    def link(self, path: Path | None) -> str | None:
        """Address of a file, as seen from the page."""
        return None if path is None else quote(os.fsencode(Path(os.path.relpath(path, self.page.parent)).as_posix()))


def _metrics(series: Sequence[Series], titles: Mapping[str, str]) -> list[dict[str, Any]]:
    found = dict.fromkeys(name for each in series for name in _scores([*each.means, *(c.figures for c in each.coded)]))
    names = [*(name for name in titles if name in found), *(name for name in found if name not in titles)]
    return [
        {"id": name, "title": titles.get(name, name).rstrip(" ↑↓"), "lower": _lower_is_better(name, titles, series)}
        for name in names
    ]


def _lower_is_better(name: str, titles: Mapping[str, str], series: Sequence[Series]) -> bool:
    """As the title says; else whether it falls with the rate."""
    if (title := titles.get(name, "")).endswith(("↑", "↓")):
        return title.endswith("↓")
    for each in series:
        known = sorted((m["bpp"], m[name]) for m in each.means if m.get(name) is not None)
        if len(known) > 1:
            return bool(known[-1][1] < known[0][1])
    return True


def _scores(points: Iterable[Mapping[str, Any]]) -> set[str]:
    return {n for each in points for n, v in each.items() if n not in _NOT_SCORES and isinstance(v, int | float)}


def _original(files: Sequence[tuple[int, Coded]]) -> Path | None:
    return next((path for _, coded in files if (path := coded.original)), None)


def _label(run: Run) -> str:
    return run.folder.resolve().name


def _distinct(labels: Sequence[str]) -> list[str]:
    counts = Counter(labels)
    return [label if counts[label] == 1 else f"{label} {number}" for number, label in enumerate(labels, start=1)]


def _compact(details: dict[str, Any] | None) -> dict[str, Any] | None:
    """With the map in steps of 1/255 of what nearly no cell exceeds, a byte for each."""
    if details is None or not details["map"]:
        return details
    bits = np.array(details["map"])
    most = float(np.quantile(bits, 0.99)) or 1.0
    steps = np.rint(255 * np.minimum(bits / most, 1)).astype(np.uint8)
    packed = {"rows": bits.shape[0], "columns": bits.shape[1], "most": _short(most)}
    return details | {"map": packed | {"steps": base64.b64encode(steps.tobytes()).decode()}}


def _short(value: Any) -> Any:
    """A number in six digits, which is more than anyone looks at."""
    return float(f"{value:.6g}") if isinstance(value, float) else value
