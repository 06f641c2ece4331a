"""Which files of archives and folders belong to a set, and where in its folder they go."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from glc_train.datasets.archives import ARCHIVES, Members, is_archive, select
from glc_train.datasets.catalogue import DataSet, RawVideo, Source
from glc_train.datasets.errors import DataSetError

LOSSLESS_SUFFIX = ".mkv"  # of raw video as it is stored
_RAW_SUFFIX = ".yuv"


@dataclass(frozen=True)
class Pick:
    """One file that the set takes.

    Attributes:
        members: where it is, under the name `member`.
        source: the part of the set that it belongs to.
        path: where it goes, relative to the set's folder.
    """

    members: Members
    member: str
    source: Source
    path: str

    @property
    def size(self) -> int:
        """Bytes before any conversion."""
        return self.members.sizes[self.member]


def place_of(source: Source) -> str:
    """Folder of a source's files, relative to the set's."""
    return source.place or source.split


def draw(names: Iterable[str], seed: int) -> list[str]:
    """All names in an order drawn with `seed`; a sample is its beginning, so that a smaller one is part of a larger."""
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())


def pick(data: DataSet, materials: Sequence[tuple[Members, Source | None]], sources: Sequence[Source]) -> list[Pick]:
    """Files of `sources`, sorted by where they go.

    Args:
        data: the set that they are sources of.
        materials: archives and folders, each with the source that it is known to be.
        sources: those that are wanted.

    Raises:
        DataSetError: it is not clear to which source a file belongs, or two would have one name.
    """
    lists = [name for _, name in data.lists]
    found: dict[str, Pick] = {}
    for members, known in materials:
        targets = {name: _target(data, members, name) for name in select(members.sizes, data.suffixes)}
        names = [name for name, target in targets.items() if target is not None]
        owners = dict.fromkeys(names, known) if known else _owners(data, members, names)
        picks = [
            Pick(members, name, source, f"{place_of(source)}/{targets[name]}")
            for name, source in owners.items()
            if source in sources
        ]
        picks += [
            Pick(members, name, sources[0], PurePosixPath(name).name)
            for name in select(members.sizes, (".txt",))
            if PurePosixPath(name).name in lists
        ]
        for each in picks:
            if each.path in found:
                first = found[each.path]
                raise DataSetError(
                    f"{data.name}: {first.members.path}/{first.member} and {members.path}/{each.member} would both be "
                    f"{each.path}; give a folder that holds one of them."
                )
            found[each.path] = each
    return [found[path] for path in sorted(found)]


def check_counts(data: DataSet, source: Source, paths: Iterable[str]) -> None:
    """Raises DataSetError unless `paths`, of one source, are as many samples as it must have."""
    inside = [PurePosixPath(path) for path in paths]
    if data.video:
        missing = sorted(set(data.video.names) - {path.stem for path in inside})
        if missing:
            size = f"{data.video.width}x{data.video.height}"
            raise DataSetError(
                f"{data.name} lacks {', '.join(missing)}: give raw sequences that are called as in "
                f"{missing[0]}_{size}_50{_RAW_SUFFIX}."
            )
    samples = {path.parent for path in inside} if data.frames else set(inside)
    kind = "clips" if data.frames or data.video else "pictures"
    if source.count is not None and len(samples) != source.count:
        raise DataSetError(
            f"{data.name}: {len(samples):,} {kind} for {place_of(source)} instead of {source.count:,}; complete what "
            "it is taken from."
        )
    if not inside:
        raise DataSetError(f"{data.name}: no {kind} for {place_of(source)}; looked for {', '.join(data.suffixes)}.")
    if data.frames and len(inside) != data.frames * len(samples):
        raise DataSetError(f"{data.name}: a clip of {place_of(source)} has not {data.frames} frames; fetch it again.")


def is_raw(each: Pick) -> bool:
    """Whether a file is raw video, which becomes a lossless clip."""
    return each.path.endswith(LOSSLESS_SUFFIX) and each.member.lower().endswith(_RAW_SUFFIX)


def raw_format(video: RawVideo, name: str) -> tuple[str, int] | None:
    """Name and frames per second of a raw sequence of `video`, by its file's name; `None` if it is none."""
    names = "|".join(map(re.escape, video.names))
    match = re.match(rf"({names})\d?_{video.width}x{video.height}_(\d+)", PurePosixPath(name).name)
    return (match[1], int(match[2])) if match else None


def _target(data: DataSet, members: Members, name: str) -> str | None:
    """Where a member goes in its source's folder; `None` if it is not of the set."""
    path = PurePosixPath(name)
    if is_archive(members.path):
        path = _stem(members.path.name) / path  # an archive of one class of ImageNet has no folder in it
    if data.video:
        found = raw_format(data.video, name)
        if found is None:
            return None
        return found[0] + (LOSSLESS_SUFFIX if path.suffix.lower() == _RAW_SUFFIX else path.suffix.lower())
    if len(path.parts) < data.depth or (data.numbered and not path.stem.isdecimal()):
        return None
    return "/".join(path.parts[-data.depth :])


def _owners(data: DataSet, members: Members, names: Sequence[str]) -> dict[str, Source]:
    """Source of each file, by the names of the folders and the archive that it is in, or by its number."""
    if data.numbered:
        return {name: source for name in names if (source := _numbered(data, int(PurePosixPath(name).stem)))}
    around = {_stem(members.path.name)} | (set() if members.path.is_dir() else {members.path.parent.name})
    found = {name: source for name in names if (source := _source_around(data, name, around))}
    if found:
        return found  # what lies beside them is of something else
    if len(data.sources) == 1:
        return dict.fromkeys(names, data.sources[0])
    if names:
        places = ", ".join(dict.fromkeys(place_of(source) for source in data.sources))
        raise DataSetError(
            f"{members.path}: it is not clear to which part of {data.name} the file {names[0]} belongs; put it into a "
            f"folder called as one of {places}."
        )
    return {}


def _source_around(data: DataSet, name: str, around: set[str]) -> Source | None:
    folders = {*PurePosixPath(name).parts[:-1], *around}
    by_archive = [s for s in data.sources if folders & {_stem(url.rpartition("/")[2]) for url in s.urls}]
    by_place = [s for s in data.sources if set(place_of(s).split("/")) <= folders]
    for found in (by_archive, by_place):
        if len(found) == 1:
            return found[0]
    return None


def _numbered(data: DataSet, number: int) -> Source | None:
    for source in data.sources:
        if number < (source.count or 0):
            return source
        number -= source.count or 0
    return None


def _stem(name: str) -> str:
    ends = [suffix for suffix in ARCHIVES if name.lower().endswith(suffix)]
    return name[: -max(map(len, ends))] if ends else name
