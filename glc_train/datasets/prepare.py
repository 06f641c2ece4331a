"""A public data set from its address, or from what the user has, to a folder with a manifest."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator, Sequence, Set
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from pathlib import Path

from filelock import FileLock, Timeout

from glc_train.datasets.archives import Members, is_archive, open_members
from glc_train.datasets.catalogue import DataSet, Source, find_set
from glc_train.datasets.checksums import check_md5, check_sha1
from glc_train.datasets.download import Download, Fetcher
from glc_train.datasets.errors import DataSetError
from glc_train.datasets.manifest import (
    MANIFEST,
    FileRecord,
    Manifest,
    Sample,
    SourceRecord,
    count_samples,
    find_problems,
    read_manifest,
    record_files,
    sha256_of,
    write_manifest,
)
from glc_train.datasets.picking import Pick, check_counts, draw, is_raw, pick, place_of, raw_format
from glc_train.datasets.progress import byte_bar
from glc_train.files import discard

_DOWNLOADS = ".downloads"  # in the set's folder; what is under way, and archives until they are unpacked


@dataclass(frozen=True)
class Options:
    """How a set is prepared.

    Attributes:
        source: folder or archive that the user has, in place of downloads.
        count, seed: of the sample of a set that is drawn; `None`: as many as the catalogue says.
        progress: whether bars are shown on stderr.
        fetcher: that downloads.
    """

    source: Path | None = None
    count: int | None = None
    seed: int = 0
    progress: bool = False
    fetcher: Fetcher = field(default_factory=Fetcher)


def prepare(name: str, root: Path, splits: Sequence[str] = (), options: Options = Options()) -> Manifest:
    """Make the folder `root`/`name` with the files of a public data set and `manifest.json`, or complete it.

    What a manifest has already is verified, and only what is missing or differs is made again.

    Args:
        name: of the set, see `SETS`.
        root: folder of all sets.
        splits: those that are wanted; none: all.
        options: where the files come from, and the like.

    Raises:
        DataSetError: there is no such set or split; it cannot be downloaded; files are missing, too many or damaged.
        OSError: the disk.
    """
    data = find_set(name)
    unknown = sorted(set(splits) - set(data.splits))
    if unknown:
        raise DataSetError(f"{name} has no split called {', '.join(unknown)}: choose of {', '.join(data.splits)}.")
    if options.count is not None and (data.drawn is None or options.count < 1):
        raise DataSetError(f"--count {options.count}: a positive number, and {name} must be a set that is drawn.")
    if options.source is not None and data.listing:
        raise DataSetError(f"--from: {name} is drawn from a list and downloaded; leave --from out.")
    if options.source is None and not all(source.urls for source in data.sources):
        raise DataSetError(
            f"{name} has no public address. Get it from {data.owner},\n"
            f"then: glc data prepare {name} --root {root} --from FOLDER_OR_ARCHIVE"
        )
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        try:
            return _Preparation(data, folder, tuple(splits or data.splits), options).run()
        finally:
            with suppress(OSError):  # where nothing came of it
                folder.rmdir()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    try:
        with FileLock(folder.with_name(f".{folder.name}.lock"), timeout=0):
            yield
    except Timeout as error:
        raise DataSetError(f"{folder} is being prepared by another process; wait for it to end.") from error


class _Preparation:
    """One run of `prepare`."""

    def __init__(self, data: DataSet, folder: Path, splits: tuple[str, ...], options: Options) -> None:
        self._data, self._folder, self._splits, self._options = data, folder, splits, options
        self._downloads = folder / _DOWNLOADS
        self._old: dict[str, FileRecord] = {}  # files that are as the manifest says
        self._wrong: set[str] = set()
        self._origins: list[SourceRecord] = []
        self._drawn: Sample | None = None

    def run(self) -> Manifest:
        todo = list(self._data.sources)
        if (self._folder / MANIFEST).exists():
            old = read_manifest(self._folder)
            self._check_sample(old)
            total = sum(file.size for file in old.files)
            with byte_bar("verifying", total, self._options.progress) as advance:
                self._wrong = set(find_problems(self._folder, old, advance))
            todo = [source for source in todo if self._is_incomplete(source, old)]
            self._old = {file.path: file for file in old.files if file.path not in self._wrong}
            self._origins, self._drawn = list(old.sources), old.drawn
        # what was there once and is damaged is made again even if other splits are asked for
        todo = [source for source in todo if source.split in self._splits or self._has_some(source)]
        if not todo:
            return read_manifest(self._folder)
        if self._data.listing:
            paths = self._fetch_listed(todo[0], self._data.listing)
        elif self._options.source is not None:
            paths = self._unpack([(each, None) for each in _materials(self._options.source)], todo)
            self._remember(self._options.source.name, self._options.source)
        else:
            paths = self._fetch(todo)
        return self._record(paths)

    def _check_sample(self, old: Manifest) -> None:
        asked = self._options
        if old.drawn and (old.drawn.seed != asked.seed or old.drawn.count != (asked.count or self._data.drawn)):
            raise DataSetError(
                f"{self._folder} holds a sample of {old.drawn.count:,} drawn with seed {old.drawn.seed}: ask for the "
                "same, or name another --root."
            )

    def _is_incomplete(self, source: Source, old: Manifest) -> bool:
        wrong = any(_is_of(source, path) or "/" not in path for path in self._wrong)
        return wrong or not any(_is_of(source, file.path) for file in old.files)

    def _has_some(self, source: Source) -> bool:
        return any(_is_of(source, path) for path in (*self._old, *self._wrong))

    def _is_there(self, path: str, size: int | None) -> bool:
        """Whether a file need not be made again; it appeared whole, under this name, if an earlier run made it."""
        if path in self._old:
            return True
        file = self._folder / path
        return path not in self._wrong and file.is_file() and size in (None, file.stat().st_size)

    def _fetch(self, todo: Sequence[Source]) -> list[str]:
        """Download `todo`, unpack what are archives; gives the paths of all files."""
        archives = [source for source in todo if is_archive(Path(source.urls[0]))]
        targets = {
            url: (self._downloads if source in archives else self._folder / place_of(source)) / _name(url)
            for source in todo
            for url in source.urls
        }
        self._download([Download(url, targets[url], s.size, s.sha256) for s in todo for url in s.urls])
        paths = self._unpack([(targets[url], source) for source in archives for url in source.urls], archives)
        for source in todo:
            if source in archives:
                for url in source.urls:
                    self._remember(url, targets[url])
            else:
                found = [f"{place_of(source)}/{_name(url)}" for url in source.urls]
                check_counts(self._data, source, found)
                self._remember(f"{len(found)} files, the first {source.urls[0]}", None)
                paths += found
        return paths

    def _download(self, downloads: Sequence[Download]) -> None:
        missing = self._missing(downloads)
        unknown = [each.url for each in missing if each.size is None]
        sizes = dict(zip(unknown, self._options.fetcher.sizes(unknown), strict=True))
        total = sum(each.size or sizes[each.url] or 0 for each in missing)
        unpacked = self._data.growth if any(is_archive(each.path) for each in missing) else 0
        self._check_space(round(total * (1 + unpacked)))
        with byte_bar("downloading", total, self._options.progress) as advance:
            self._options.fetcher.fetch(missing, advance)

    def _missing(self, downloads: Sequence[Download]) -> list[Download]:
        names = [each.path.relative_to(self._folder).as_posix() for each in downloads]
        return [each for each, name in zip(downloads, names, strict=True) if not self._is_there(name, each.size)]

    def _fetch_listed(self, source: Source, listing: str) -> list[str]:
        """Download a sample of the pictures that a table names; those that are gone are replaced by the next drawn."""
        table = self._downloads / _name(listing)
        count = self._options.count or self._data.drawn or 0
        self._check_space(count * self._data.mean_size)
        self._download([Download(listing, table)])
        with table.open(newline="", encoding="utf-8") as file:
            names = [row["ImageID"] for row in csv.DictReader(file)]
        if len(names) != self._data.listed or count > len(names):
            raise DataSetError(
                f"{listing}: {len(names):,} pictures in the list, of {self._data.listed:,} that there must be and "
                f"{count:,} to draw; lower --count, or try again later."
            )
        order = iter(draw(names, self._options.seed))
        chosen: dict[str, Download] = {}
        with byte_bar("downloading", count * self._data.mean_size, self._options.progress) as advance:
            while wanted := list(islice(order, count - len(chosen))):
                paths = {f"{place_of(source)}/{name}.jpg": source.urls[0].format(name) for name in wanted}
                downloads = {path: Download(url, self._folder / path) for path, url in paths.items()}
                gone: list[Download] = []
                self._options.fetcher.fetch(self._missing(list(downloads.values())), advance, gone)
                chosen |= {path: each for path, each in downloads.items() if each not in gone}
        if len(chosen) < count:
            raise DataSetError(f"{listing}: only {len(chosen):,} of its pictures are there; lower --count.")
        self._drawn = Sample(seed=self._options.seed, count=count, of=len(names))
        self._remember(listing, table)
        return list(chosen)

    def _unpack(self, materials: Sequence[tuple[Path, Source | None]], todo: Sequence[Source]) -> list[str]:
        """Put the files of `todo` in their places; gives their paths."""
        if not todo:
            return []
        with ExitStack() as stack:
            opened = [(self._open(stack, path, source is not None), source) for path, source in materials]
            picks = self._sampled(pick(self._data, opened, todo))
            for source in todo:
                of_source = [each.path for each in picks if each.source is source and "/" in each.path]
                if self._drawn is None:
                    check_counts(self._data, source, of_source)
            self._extract(picks)
            check_md5(self._data, self._folder, [members for members, _ in opened], [each.path for each in picks])
        return [each.path for each in picks]

    def _open(self, stack: ExitStack, path: Path, downloaded: bool) -> Members:
        try:
            return stack.enter_context(open_members(path))
        except DataSetError:
            if downloaded:
                discard(path)  # the next run fetches it anew
            raise

    def _sampled(self, picks: list[Pick]) -> list[Pick]:
        if self._data.drawn is None:
            return picks
        count = self._options.count or self._data.drawn
        if count > len(picks):
            raise DataSetError(f"{self._data.name}: {len(picks):,} pictures to draw {count:,} from; complete them.")
        chosen = set(draw((each.path for each in picks), self._options.seed)[:count])
        self._drawn = Sample(seed=self._options.seed, count=count, of=len(picks))
        return [each for each in picks if each.path in chosen]

    def _extract(self, picks: Sequence[Pick]) -> None:
        new = [each for each in picks if not self._is_there(each.path, None if self._data.video else each.size)]
        total = sum(each.size for each in new)
        here = self._folder.stat().st_dev
        self._check_space(sum(e.size for e in new if e.members.path.is_file() or e.members.path.stat().st_dev != here))
        with byte_bar("unpacking", total, self._options.progress) as advance:
            for members in dict.fromkeys(each.members for each in new):
                group = [each for each in new if each.members is members]
                for each in group:
                    if is_raw(each):
                        self._store(each)
                        advance(each.size)
                for name in members.extract({e.member: self._folder / e.path for e in group if not is_raw(e)}):
                    advance(members.sizes[name])

    def _store(self, raw: Pick) -> None:
        """Convert a raw sequence to a lossless clip."""
        from glc_train.media.raw_video import store_raw_video  # takes seconds

        video, unpacked = self._data.video, self._downloads / "raw.yuv"
        assert video
        named = raw_format(video, raw.member)
        assert named
        try:
            for _ in raw.members.extract({raw.member: unpacked}):
                store_raw_video(unpacked, (video.width, video.height), Fraction(named[1]), self._folder / raw.path)
        finally:
            discard(unpacked)

    def _check_space(self, needed: int) -> None:
        free = shutil.disk_usage(self._folder).free
        if needed > free:
            raise DataSetError(
                f"{self._folder}: {self._data.name} needs about {needed / 1e9:.1f} GB more and the disk has "
                f"{free / 1e9:.1f} GB; make room, or name another --root."
            )

    def _remember(self, name: str, path: Path | None) -> None:
        self._origins = [origin for origin in self._origins if origin.name != name]
        self._origins.append(SourceRecord(name=name, sha256=sha256_of(path) if path and path.is_file() else None))

    def _record(self, paths: Sequence[str]) -> Manifest:
        """Hash what is new, count all, write the manifest, and remove what is needed no longer."""
        chosen = set(paths)
        kept = {path: file for path, file in self._old.items() if self._drawn is None or path in chosen}
        splits = self._splits_of(chosen | kept.keys())
        new = {path: split for path, split in splits.items() if path not in kept}
        total = sum((self._folder / path).stat().st_size for path in new)
        with byte_bar("hashing", total, self._options.progress) as advance:
            files = [*kept.values(), *record_files(self._folder, new, advance)]
        files = [file.model_copy(update={"split": splits[file.path]}) for file in files]
        files.sort(key=lambda file: file.path)
        frames = bool(self._data.frames)
        manifest = Manifest(
            name=self._data.name,
            version=self._data.version,
            licence=self._data.licence,
            frames=frames,
            counts=count_samples(files, frames),
            drawn=self._drawn,
            sources=tuple(self._origins),
            files=tuple(files),
        )
        check_sha1(self._data, self._folder, files)
        write_manifest(self._folder, manifest)
        discard(self._downloads)
        return manifest

    def _splits_of(self, paths: Set[str]) -> dict[str, str]:
        """Split of each path: that of its source, or what the lists of clips say; none for the lists themselves."""
        listed = {
            f"{clip}/": split
            for split, name in self._data.lists
            if name in paths
            for clip in (self._folder / name).read_text(encoding="utf-8").split()
        }
        splits = {}
        for path in paths:
            source = next((source for source in self._data.sources if _is_of(source, path)), None)
            splits[path] = source.split if source else ""
            if source and self._data.lists:
                clip = path.removeprefix(place_of(source) + "/").rpartition("/")[0] + "/"
                splits[path] = listed.get(clip, "rest")
        return splits


def _is_of(source: Source, path: str) -> bool:
    return path.startswith(place_of(source) + "/")


def _name(url: str) -> str:
    return url.rpartition("/")[2]


def _materials(source: Path) -> list[Path]:
    """A folder and the archives in it, or an archive."""
    found = [source]
    if source.is_dir():
        found += sorted(path for path in source.rglob("*") if is_archive(path) and path.is_file())
    return found
