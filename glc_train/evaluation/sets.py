"""Data sets of an evaluation: pictures and clips, named, counted, and read once before the work begins."""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import ClassVar

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from glc_train.data import find_clips, packaged_pictures
from glc_train.datasets import Manifest, check_folder
from glc_train.errors import is_for_user
from glc_train.evaluation.results import EvaluationError, LeftOut
from glc_train.files import printable
from glc_train.media import find_pictures, open_clip, read_picture
from glc_train.media.clip_info import DEFAULT_FPS, ClipInfo


@dataclass(frozen=True)
class Still:
    """A picture file: a clip of one frame, without a frame rate. `name` is distinct in its set."""

    name: str
    path: Path
    still: ClassVar[bool] = True

    def pictures(self) -> Iterator[np.ndarray]:
        """The picture, uint8 (H, W, 3), read anew at each call. Raises PictureError where it cannot be read."""
        yield read_picture(self.path)

    def info(self) -> ClipInfo:
        """Its size; the frame rate means nothing."""
        height, width = next(self.pictures()).shape[:2]
        return ClipInfo(width, height, DEFAULT_FPS, "bt709", False, 1)


@dataclass(frozen=True)
class Clip:
    """A clip, of which the first `frames` count (None: all); `size` is (width, height) of raw video."""

    name: str
    path: Path
    frames: int | None = None
    size: tuple[int, int] | None = None
    still: ClassVar[bool] = False

    def pictures(self) -> Iterator[np.ndarray]:
        """The frames that count, uint8 (H, W, 3), one in memory at a time. Raises ClipError where that fails."""
        with open_clip(self.path, size=self.size) as reader:
            yield from itertools.islice(reader, self.frames)

    def info(self) -> ClipInfo:
        """Format of the clip."""
        with open_clip(self.path, size=self.size) as reader:
            return reader.info


Item = Still | Clip


@dataclass
class EvaluationSet:
    """What every data set has; one of your own is a subclass with its own `items`.

    Attributes:
        name: in the results.
        root: its folder.
        expected: how many pictures or clips it has; None: any number.
        published: name of published curves to compare with, see `load_published`.
        prepared: name and split of a set that `glc data prepare` makes, such as kodak/test; None: it makes none.
        sets: folder of prepared sets (--root there), in which `prepared` is looked for where there is no `root`.
    """

    name: str = "own"
    root: str | None = None
    expected: int | None = None
    published: str | None = None
    prepared: str | None = None
    sets: str | None = None

    def items(self) -> Sequence[Item]:
        """All pictures or clips. Raises ValueError or OSError with a sentence that says what to change."""
        raise NotImplementedError

    def folder(self) -> str:
        """`root`. Raises EvaluationError where it is not known."""
        if self.root is None:
            known = f", or set GLC_DATA to the --root of glc data prepare {self._set_name}" if self.prepared else ""
            raise EvaluationError(f"The folder of {self.name} is not known: give data.test.root=FOLDER{known}.")
        return self.root

    def found(self, search: Callable[[str], list[Path]]) -> list[Path]:
        """Files of the prepared set, all of them verified, or else what `search` finds below `root`.

        Raises:
            DataSetError: the set is not prepared, or files are missing or differ.
            EvaluationError: neither `root` nor `sets` is known.
        """
        manifest = self._manifest
        if manifest is None:
            return search(self.folder())
        return [self._prepared_folder / file.path for file in manifest.files if file.split == self._split]

    @property
    def digest(self) -> str | None:
        """SHA-256 that stands for all files of the prepared set, whatever their names; None of another folder."""
        return self._manifest.digest(self._split) if self._manifest else None

    @cached_property
    def _manifest(self) -> Manifest | None:
        if self.root is not None or self.prepared is None or self.sets is None:
            return None
        return check_folder(self._prepared_folder)

    @property
    def _prepared_folder(self) -> Path:
        return Path(self.sets or "").expanduser() / self._set_name

    @property
    def _set_name(self) -> str:
        return (self.prepared or "").partition("/")[0]

    @property
    def _split(self) -> str:
        return (self.prepared or "").partition("/")[2]

    def check_count(self, count: int) -> None:
        """Raises EvaluationError where there are not as many as expected."""
        if self.expected is not None and count != self.expected:
            raise EvaluationError(
                f"{self.root or self.name} holds {count} pictures and {self.name} has {self.expected}: complete it, or "
                "evaluate it with data=folder."
            )


@dataclass
class Pictures(EvaluationSet):
    """The pictures below a folder; with `packaged` and without a folder those that scikit-image and -learn ship."""

    packaged: bool = False

    def items(self) -> list[Still]:
        """See `EvaluationSet`."""
        use_packaged = self.packaged and self.root is None
        found = packaged_pictures("test") if use_packaged else self.found(find_pictures)
        return [Still(name, path) for name, path in zip(labels(found), found, strict=True)]


@dataclass
class Clips(EvaluationSet):
    """The clips below a folder.

    Attributes:
        frames: how many of each count, from the first; None: all.
        only: names of the clips, without suffix; None: all.
        size: [width, height] of raw video (`.yuv`); None: there is none.

    Raises:
        EvaluationError: a number out of range.
    """

    frames: int | None = None
    only: list[str] | None = None
    size: list[int] | None = None

    def __post_init__(self) -> None:
        if self.frames is not None and self.frames < 1:
            raise EvaluationError(f"data.test.frames={self.frames}: give 1 or more.")
        if self.size is not None and (len(self.size) != 2 or min(self.size) < 1):
            raise EvaluationError(f"data.test.size={self.size}: give '[WIDTH,HEIGHT]' in pixels.")
        if self.only == []:
            raise EvaluationError("data.test.only=[] leaves no clip: give '[NAME,NAME]', or null for all.")

    def items(self) -> list[Clip]:
        """See `EvaluationSet`."""
        every = self.found(find_clips if self.size is None else partial(find_clips, suffixes=(".yuv",)))
        missing = sorted(set(self.only or ()) - {path.stem for path in every})
        if missing:
            raise EvaluationError(
                f"{self.root or self.name} has no clip called {', '.join(missing)}: correct data.test.only."
            )
        found = [path for path in every if self.only is None or path.stem in self.only]
        size = None if self.size is None else (self.size[0], self.size[1])
        return [Clip(name, path, self.frames, size) for name, path in zip(labels(found), found, strict=True)]


def labels(paths: Sequence[Path]) -> list[str]:
    """A name for each file: its stem, with its folder's name where two stems agree."""
    stems = Counter(path.stem for path in paths)
    return [path.stem if stems[path.stem] == 1 else f"{path.parent.name}_{path.stem}" for path in paths]


def readable(items: Sequence[Item], strict: bool, progress: bool) -> tuple[dict[Item, tuple[int, int]], list[LeftOut]]:
    """Decodes all; those that can be read, with height and width, and the others, which are named on stderr at once.

    Raises:
        EvaluationError: two have one name, one cannot be read and `strict` is set, or none can.
    """
    doubled = [name for name, count in Counter(item.name for item in items).items() if count > 1]
    if doubled:
        raise EvaluationError(f"Two files are both called {doubled[0]}: rename one of them.")
    sizes: dict[Item, tuple[int, int]] = {}
    bad: list[LeftOut] = []
    with progress_bar(progress) as bar:
        for item in bar.track(items, description="reading"):
            try:
                for picture in item.pictures():
                    sizes[item] = picture.shape[0], picture.shape[1]
            except Exception as error:
                if not is_for_user(error):
                    raise
                sizes.pop(item, None)
                bad.append(LeftOut(item.path.name, str(error)))
    if bad and (strict or not sizes):
        names = ", ".join(each.name for each in bad)
        raise EvaluationError(f"{len(bad)} of {len(items)} files cannot be read ({names}), the first: {bad[0].reason}")
    for each in bad:
        print(f"left out: {printable(each.reason)}", file=sys.stderr)
    return sizes, bad


def progress_bar(shown: bool) -> Progress:
    """A bar with counts, the time that has gone by and the time left; add tasks to it."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, TimeRemainingColumn(), disable=not shown)
