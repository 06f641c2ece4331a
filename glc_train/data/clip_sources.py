"""Random crops of clips on disk, addressed by sample number."""

from __future__ import annotations

import codecs
import logging
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from torch import Tensor

from glc_train.data.clip_cuts import ClipCuts
from glc_train.data.clip_store import ClipStore
from glc_train.data.file_passes import FilePasses
from glc_train.data.source import sample_generator
from glc_train.media.clip_info import ClipError, natural_key
from glc_train.media.clips import VIDEO_SUFFIXES
from glc_train.media.pictures import SUFFIXES, PathLike
from glc_train.media.walk import find_files

logger = logging.getLogger(__name__)

_SEQUENCES = "sequences"  # folder of the clips in the Vimeo-90k septuplets, beside their lists


class FolderClips:
    """Endless random crops of the clips in one or more folders (a `CropSource` of clips).

    The clips come in passes, each in a new random order; each use takes consecutive frames from a random place, cut
    and mirrored alike. Sample number i depends on (seed, i) and the files alone, never on what was asked before. A
    frame smaller than the crop is enlarged; an unreadable or too short clip is named once in the log, kept in
    `unreadable`, and replaced by the next of the pass that can be used.
    """

    def __init__(
        self,
        root: PathLike | Sequence[PathLike],
        crop_size: int,
        seed: int,
        frames: int,
        strides: Sequence[int] = (1,),
        reverse: bool = False,
        flip: bool = True,
        scale_range: tuple[float, float] = (0.5, 1.0),
        scale_probability: float = 0.5,
        short_side: int | None = None,
        exclude: Sequence[str] = (),
        cache_mb: float = 1024,
    ) -> None:
        """List the clips.

        root: a folder, or a list of folders, video files and lists of clips; see `find_clips`.
        crop_size, frames, strides, reverse, flip, scale_range, scale_probability: see `ClipCuts`.
        short_side: frames are first reduced to this many pixels on the shorter side, which saves memory; None: not.
        exclude: clips not to train on, by file name with or without suffix, folder name or path under `root`;
            * and ? stand for other characters.
        cache_mb: MiB of decoded frames kept in memory, per process. What does not fit is decoded at every use.
        Raises: ClipError for a missing or empty folder, ValueError for numbers out of range.
        """
        self._cuts = ClipCuts(crop_size, frames, strides, reverse, flip, scale_range, scale_probability, short_side)
        if seed < 0:
            raise ValueError(f"seed must be at least 0; got {seed}.")
        self.paths = find_clips(root, exclude)
        self.seed = seed
        self._passes = FilePasses(self.paths, seed, "clip", ClipError, logger)
        self.unreadable = self._passes.unreadable
        self._store = ClipStore(short_side, cache_mb)

    def sample(self, index: int) -> Tensor:
        """Return sample number `index` >= 0: uint8 (frames, 3, crop_size, crop_size).

        Raises: ClipError if no clip at all can be read.
        """
        return self._passes.read(index, lambda path: self._cut(path, index))

    def name(self, index: int) -> str:
        """Clip that sample number `index` is cut from (or its replacement, if that cannot be read)."""
        return str(self._passes.path(index))

    def _cut(self, path: Path, index: int) -> Tensor:
        return self._cuts.cut(self._store, path, sample_generator(self.seed, "folder clip", index))


def find_clips(
    root: PathLike | Sequence[PathLike],
    exclude: Sequence[str] = (),
    suffixes: Sequence[str] = (*VIDEO_SUFFIXES, *SUFFIXES),
) -> list[Path]:
    """List the clips of one or more places, without those that `exclude` names (see `FolderClips`).

    A place is a video file; a folder, in which every video file (one of `suffixes`) and every folder of pictures is a
    clip, in natural order, and what else it holds (see `find_files`) is a warning in the log; or a list, a `.txt` file
    that names one clip a line, relative to its own folder or to `sequences/` there, such as `sep_trainlist.txt` of the
    Vimeo-90k septuplets.
    Raises: ClipError if a place is missing or nothing is left.
    """
    places = [Path(root)] if isinstance(root, (str, Path)) else [Path(p) for p in root]  # type: ignore[union-attr]
    found: list[tuple[Path, str]] = []  # with the name under its place
    for place in places:
        if place.suffix.lower() == ".txt":
            found += _listed(place)
        elif place.is_dir():
            found += [(clip, clip.relative_to(place).as_posix()) for clip in _clips_under(place, suffixes)]
        elif place.is_file():
            found.append((place, place.name))
        else:
            raise ClipError(f"{place}: no such file or folder; give a folder of clips.")
    if not found:
        named = ", ".join(map(str, places)) or "the list of folders"
        raise ClipError(f"{named}: no clips there; looked for {', '.join(suffixes)}.")
    kept = [clip for clip, name in found if not any(_names(pattern, clip, name) for pattern in exclude)]
    if not kept:
        raise ClipError(f"All {len(found)} clips are excluded by {', '.join(exclude)}; name fewer.")
    for pattern in exclude:
        if not any(_names(pattern, clip, name) for clip, name in found):
            logger.warning("Nothing to exclude: no clip is named %s.", pattern)
    return kept


def _names(pattern: str, clip: Path, name: str) -> bool:
    return any(fnmatchcase(text, pattern) for text in (clip.name, clip.stem, name))


def _clips_under(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    try:
        found = find_files(folder, suffixes)
    except PermissionError as error:
        raise ClipError(f"{folder}: the folder may not be read; check its rights.") from error
    if found.left_out:
        logger.warning("%s", found.remark)
    clips = {path.parent if path.suffix.lower() in SUFFIXES else path for path in found.files}
    return sorted(clips, key=natural_key)


def _listed(file: Path) -> list[tuple[Path, str]]:
    try:
        data = file.read_bytes()
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in data:
            raise ClipError(f"{file}: the list is in UTF-16, or no text; save it as UTF-8.")
        lines = [line.strip() for line in data.decode("utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ClipError(f"{file}: not a readable list of clips ({error}); name one clip a line in UTF-8.") from error
    parent = file.parent / _SEQUENCES if (file.parent / _SEQUENCES).is_dir() else file.parent
    return [(parent / line, line) for line in lines if line]
