"""Files from the web: side by side, resumed where a transfer broke off, checked, and whole or not there."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import requests

from glc_train.datasets.errors import DataSetError
from glc_train.datasets.manifest import sha256_of
from glc_train.files import discard, write_text

_TIMEOUT = (10.0, 20.0)  # seconds to connect, and between two packets: so long may Ctrl-C take
_TRIES = 4  # in a row that bring nothing
_CHUNK = 1 << 16
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_PARTIAL, _OUT_OF_RANGE = 206, 416
_GONE = frozenset({404, 410})

_Result = TypeVar("_Result")


class NotThere(DataSetError):
    """The server knows no such file."""


@dataclass(frozen=True)
class Download:
    """A file to fetch.

    Attributes:
        url: its address.
        path: where it goes.
        size: in bytes, if known.
        sha256: of its bytes, if known.
    """

    url: str
    path: Path
    size: int | None = None
    sha256: str | None = None


class Fetcher:
    """Fetches files in threads; what is under way stays on the disk when it stops, and is gone on with next time."""

    def __init__(self, jobs: int = 8, first_wait: float = 1.0) -> None:
        """jobs: transfers at once. first_wait: seconds after a first failure, doubled after each further one."""
        self._jobs = jobs
        self._first_wait = first_wait
        self._stopped = threading.Event()
        self._local = threading.local()

    def sizes(self, urls: Sequence[str]) -> list[int | None]:
        """Size in bytes of each file, as far as servers say. Raises: DataSetError if one cannot be reached."""
        with self._pool() as pool:
            return list(pool.map(self._size, urls))

    def fetch(
        self,
        downloads: Sequence[Download],
        advance: Callable[[int], None] = lambda size: None,
        missing: list[Download] | None = None,
    ) -> None:
        """Fetch files; what is at their places is replaced when each is there whole.

        Args:
            downloads: the files.
            advance: called with the number of bytes that have come; from the threads.
            missing: takes what servers do not have; `None`: that is an error.

        Raises:
            DataSetError: a server cannot be reached, refuses, has no such file, or sends another one than announced.
            OSError: the disk.
        """

        def one(download: Download) -> None:
            try:
                self._fetch(download, advance)
            except NotThere:
                if missing is None:
                    raise
                missing.append(download)

        with self._pool() as pool:
            futures: list[Future[None]] = [pool.submit(one, each) for each in downloads]
            wait(futures, return_when=FIRST_EXCEPTION)
            for future in futures:
                if future.done():
                    future.result()

    @contextmanager
    def _pool(self) -> Iterator[ThreadPoolExecutor]:
        pool = ThreadPoolExecutor(self._jobs, thread_name_prefix="download")
        self._stopped.clear()
        try:
            yield pool
        finally:
            self._stopped.set()
            pool.shutdown(cancel_futures=True)

    @property
    def _session(self) -> requests.Session:
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()  # one for each thread
        session: requests.Session = self._local.session
        return session

    def _size(self, url: str) -> int | None:
        def ask() -> int | None:
            response = self._session.head(url, timeout=_TIMEOUT, allow_redirects=True)
            _check_status(url, response)
            length = response.headers.get("Content-Length", "")
            return int(length) if length.isdigit() else None

        return self._patiently(url, ask, lambda: 0)

    def _fetch(self, download: Download, advance: Callable[[int], None]) -> None:
        part = _Part(download)

        def get() -> None:
            part.receive(self._session, advance, self._stopped)

        self._patiently(download.url, get, part.length)
        if download.sha256 and (found := sha256_of(part.path)) != download.sha256:
            part.discard()
            raise DataSetError(
                f"{download.url}: the server sent another file (SHA-256 {found[:12]}… instead of "
                f"{download.sha256[:12]}…); try again, or get it elsewhere and give --from."
            )
        part.finish()

    def _patiently(self, url: str, act: Callable[[], _Result], progress: Callable[[], int]) -> _Result:
        """What `act` comes to; it is done again while it fails for reasons that may pass, or gets further."""
        tries, pause, before = _TRIES, self._first_wait, progress()
        while True:
            try:
                return act()
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
                reached = progress()
                if reached > before:
                    tries, pause = _TRIES, self._first_wait
                before, tries = reached, tries - 1
                if not tries:
                    raise DataSetError(
                        f"{url}: cannot be reached, or the connection breaks off ({_reason(error)}); check the network "
                        "and run this again, which goes on where it stopped, or get the file elsewhere and give --from."
                    ) from error
                if self._stopped.wait(pause):
                    raise
                pause *= 2
            except requests.RequestException as error:
                raise DataSetError(f"{url}: cannot be fetched ({_reason(error)}).") from error


class _Part:
    """The part of a file that has come, beside where the file goes, and the server's tag of that file."""

    def __init__(self, download: Download) -> None:
        self._download = download
        self.path = download.path.with_name(download.path.name + ".part")
        self._tag = download.path.with_name(download.path.name + ".tag")

    def length(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def discard(self) -> None:
        discard(self.path)
        discard(self._tag)

    def finish(self) -> None:
        os.replace(self.path, self._download.path)
        discard(self._tag)

    def receive(self, session: requests.Session, advance: Callable[[int], None], stopped: threading.Event) -> None:
        """Get what is missing. Raises: requests.RequestException, DataSetError, OSError."""
        url, known = self._download.url, self.length()
        headers = {"Accept-Encoding": "identity"}
        if known:
            headers["Range"] = f"bytes={known}-"
            if self._tag.exists():
                headers["If-Range"] = self._tag.read_text(encoding="utf-8")
            elif not self._download.sha256:  # nothing would tell a mixture of two versions
                del headers["Range"]
        with session.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
            if response.status_code == _OUT_OF_RANGE:
                if response.headers.get("Content-Range") == f"bytes */{known}":
                    return  # all of it was there
                self.discard()
                raise _Passing("the server has fewer bytes than came before")
            _check_status(url, response)
            resumed = response.status_code == _PARTIAL
            if resumed and not re.match(rf"bytes {known}-", response.headers.get("Content-Range", "")):
                self.discard()
                raise _Passing("the server sent another range than was asked for")
            self._check_size(response, known if resumed else 0)
            self._remember(response)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab" if resumed else "wb") as file:
                for chunk in response.iter_content(_CHUNK):
                    if stopped.is_set():
                        raise _Stopped(url)
                    file.write(chunk)
                    advance(len(chunk))

    def _check_size(self, response: requests.Response, known: int) -> None:
        length, size = response.headers.get("Content-Length", ""), self._download.size
        if size is not None and length.isdigit() and known + int(length) != size:
            raise DataSetError(
                f"{self._download.url}: the server has {known + int(length):,} bytes instead of {size:,}, so another "
                "file; get the right one elsewhere and give --from."
            )

    def _remember(self, response: requests.Response) -> None:
        tag = response.headers.get("ETag", "")
        if not tag or tag.startswith("W/"):  # a weak one does not stand for the bytes
            tag = response.headers.get("Last-Modified", "")
        write_text(self._tag, tag) if tag else discard(self._tag)


class _Passing(requests.ConnectionError):
    """A failure that another try may not meet."""


class _Stopped(Exception):
    """Another transfer has failed, or the user has interrupted."""


def _check_status(url: str, response: requests.Response) -> None:
    status = f"{response.status_code} {response.reason}"
    if response.status_code in _GONE:
        raise NotThere(f"{url}: the server does not have it ({status}); get it elsewhere and give --from.")
    if response.status_code in _PASSING:
        raise _Passing(status)
    if not response.ok:
        raise DataSetError(f"{url}: the server refuses ({status}); get it elsewhere and give --from.")


def _reason(error: BaseException) -> str:
    """The innermost cause that says something, in one line: requests wraps urllib3's, which wraps the system's."""
    while (inner := error.__cause__ or error.__context__) is not None and str(inner):
        error = inner
    return " ".join(str(getattr(error, "strerror", None) or error).split())
