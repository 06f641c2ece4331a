"""Archives and folders as one thing: members with sizes, of which some are put elsewhere. Archives may be hostile.

An archive is refused as a whole if a path in it leaves the folder, if it holds a link or a device, or if it would
unpack to far more than any real set does. Each file appears whole under its name, or not at all.
"""

from __future__ import annotations

import lzma
import os
import secrets
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Self

from glc_train.datasets.errors import DataSetError
from glc_train.files import replacing

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".7z")
_MOST_MEMBERS = 10_000_000
# Deflate reaches 1,032, raw video with LZMA seldom 20; small archives may as well be text
_LARGEST_RATIO, _ALWAYS_ALLOWED = 100, 1 << 30
_SEVEN_ZIP_SUFFIX = ".7z"
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, NotImplementedError)


class Members(ABC):
    """What can be unpacked: a context manager.

    Attributes:
        path: of the archive or folder.
        sizes: bytes of each file in it, by its path with slashes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sizes: dict[str, int] = {}

    def __enter__(self) -> Self:
        """Return it itself."""
        return self

    def __exit__(self, *error: object) -> None:  # noqa: B027
        """Close the file."""

    @abstractmethod
    def extract(self, wanted: Mapping[str, Path]) -> Iterator[str]:
        """Put members where `wanted` says, and give the name of each when it is there.

        Raises: DataSetError for damage, OSError.
        """


def is_archive(path: Path) -> bool:
    """Whether the name is that of an archive which can be opened."""
    return path.name.lower().endswith(ARCHIVES)


def open_members(path: Path) -> Members:
    """Open an archive (zip, tar, 7z) or a folder.

    Raises: DataSetError if it is none, damaged or hostile; OSError.
    """
    if path.is_dir():
        return _Folder(path)
    if not path.exists():
        raise DataSetError(f"{path}: no such file or folder; check the path.")
    if not is_archive(path):
        raise DataSetError(f"{path}: no folder and no archive ({', '.join(ARCHIVES)}); check the path.")
    kind = {".zip": _Zip, _SEVEN_ZIP_SUFFIX: _SevenZip}.get(path.suffix.lower(), _Tar)
    return kind(path)


class _Folder(Members):
    """Files of a folder and of those below it, without hidden ones. On the same disk they are linked, not copied."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        for parent, folders, files in os.walk(path, followlinks=False):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(files):
                file = Path(parent, name)
                if not name.startswith(".") and file.is_file():
                    self.sizes[file.relative_to(path).as_posix()] = file.stat().st_size

    def extract(self, wanted: Mapping[str, Path]) -> Iterator[str]:
        for name, target in wanted.items():
            _link_or_copy((self.path / name).resolve(), target)
            yield name


class _Zip(Members):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            self._zip = zipfile.ZipFile(path)
        except _DAMAGE as error:
            raise _damaged(path, error) from error
        checked = _Checked(path)
        for info in self._zip.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            checked.add(info.filename, info.file_size, info.is_dir(), kind in (0, stat.S_IFREG, stat.S_IFDIR))
            if info.flag_bits & 1:
                raise DataSetError(f"{path}: {info.filename} is encrypted; unpack the archive yourself.")
        self.sizes = checked.sizes

    def __exit__(self, *error: object) -> None:
        self._zip.close()

    def extract(self, wanted: Mapping[str, Path]) -> Iterator[str]:
        for name, target in wanted.items():
            try:
                with self._zip.open(name) as source:  # gives no more than the size that was checked, and checks the CRC
                    _write(source, target)
            except _DAMAGE as error:
                raise _damaged(self.path, error) from error
            yield name


class _Tar(Members):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        checked = _Checked(path)
        try:
            with tarfile.open(path) as tar:
                for member in tar:  # checked one by one: to get to the next, the one before is decompressed
                    checked.add(member.name, member.size, member.isdir(), member.isreg() or member.isdir())
                assert tar.fileobj is not None
                tar.fileobj.seek(tar.offset)
                if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # tarfile takes any end for the end
                    raise tarfile.ReadError("it is cut short")
        except (*_DAMAGE, OSError) as error:
            raise _damaged(path, error) from error
        self.sizes = checked.sizes

    def extract(self, wanted: Mapping[str, Path]) -> Iterator[str]:
        with tarfile.open(self.path) as tar:
            for member in tar:  # in the order of the file: a compressed one cannot be sought in
                if member.name in wanted and member.isreg():
                    source = tar.extractfile(member)
                    assert source is not None
                    try:
                        _write(source, wanted[member.name])
                    except (*_DAMAGE, tarfile.ReadError) as error:
                        raise _damaged(self.path, error) from error
                    yield member.name


class _SevenZip(Members):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            import py7zr
        except ImportError as error:
            raise DataSetError(
                f"{path}: 7z archives are unpacked by the package py7zr; install it (pip install py7zr), or unpack the "
                "archive yourself and give --from FOLDER."
            ) from error
        self._damage = (*_DAMAGE, py7zr.exceptions.ArchiveError, py7zr.exceptions.PasswordRequired)
        self._open = py7zr.SevenZipFile
        checked = _Checked(path)
        try:
            with self._open(path) as archive:
                for member in archive.files:
                    plain = not (member.is_symlink or member.is_junction or member.is_socket)
                    checked.add(member.filename, member.uncompressed, member.is_directory, plain)
        except self._damage as error:
            raise _damaged(path, error) from error
        self.sizes = checked.sizes

    def extract(self, wanted: Mapping[str, Path]) -> Iterator[str]:
        parent = next(iter(wanted.values())).parent if wanted else self.path.parent
        parent.mkdir(parents=True, exist_ok=True)
        # all at once: members share one compressed stream
        with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=parent) as folder:
            try:
                with self._open(self.path) as archive:
                    archive.extract(folder, targets=list(wanted))
            except self._damage as error:
                raise _damaged(self.path, error) from error
            for name, target in wanted.items():
                with replacing(target) as temporary:
                    os.replace(Path(folder, name), temporary)
                yield name


class _Checked:
    """Members of an archive that have been found harmless."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._allowed = max(_ALWAYS_ALLOWED, _LARGEST_RATIO * path.stat().st_size)
        self._total = 0
        self.sizes: dict[str, int] = {}

    def add(self, name: str, size: int, is_folder: bool, is_plain: bool) -> None:
        """Take a member. Raises: DataSetError if it is a link or a device, leaves the folder, or is too large."""
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or PureWindowsPath(name).drive:
            raise self._hostile(f"the path {name!r} leaves the folder")
        if not is_plain:
            raise self._hostile(f"{name!r} is a link or a device")
        self._total += size
        if self._total > self._allowed or len(self.sizes) > _MOST_MEMBERS:
            raise self._hostile("it would unpack to far more than its size explains")
        if not is_folder:
            if name in self.sizes:
                raise self._hostile(f"two files are called {name!r}")
            self.sizes[name] = size

    def _hostile(self, why: str) -> DataSetError:
        return DataSetError(f"{self._path}: not unpacked, for {why}; get the archive from its owner.")


def select(names: Iterable[str], suffixes: tuple[str, ...]) -> list[str]:
    """Those with one of `suffixes` (lower case), sorted, without what is hidden or macOS's own."""
    return sorted(
        name
        for name in names
        if name.lower().endswith(suffixes)
        and not any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts)
    )


def _link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, or where that cannot be (another disk), copy it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    linked = target.with_name(f".writing-{secrets.token_hex(8)}")
    try:
        os.link(source, linked)  # not by `replacing`, which would change the rights of both names
    except OSError:
        with source.open("rb") as file:
            _write(file, target)
        return
    try:
        os.replace(linked, target)
    finally:
        linked.unlink(missing_ok=True)  # where both names were of that file already, nothing was replaced


def _write(source: IO[bytes], target: Path) -> None:
    with replacing(target) as temporary, temporary.open("wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)


def _damaged(path: Path, error: BaseException) -> DataSetError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return DataSetError(f"{path}: damaged archive ({reason}); fetch it again.")
