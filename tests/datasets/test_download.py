"""Downloads from a server that breaks off, refuses, and sends other files than announced."""

import hashlib
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from glc_train.datasets import DataSetError
from glc_train.datasets.download import Download, Fetcher
from tests.datasets.web import Web, serve
from tests.full_disk import full_disk

DATA = random.Random(0).randbytes(1_500_000)
CHUNK = 1 << 16  # what is on its way when a connection breaks is lost
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def web() -> Iterator[Web]:
    with serve({"/a.bin": DATA, "/b.bin": b"b" * 10}) as server:
        yield server


@pytest.fixture
def fetcher() -> Fetcher:
    return Fetcher(jobs=4, first_wait=0.01)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def ranges(web: Web) -> list[str]:
    return [asked for _, _, asked in web.requests]


def test_files_come_whole(web: Web, fetcher: Fetcher, tmp_path: Path) -> None:
    downloads = [
        Download(f"{web.url}/a.bin", tmp_path / "x/a.bin", len(DATA), SHA256),
        Download(f"{web.url}/b.bin", tmp_path / "x/b.bin"),
    ]
    sizes: list[int] = []
    fetcher.fetch(downloads, sizes.append)
    assert downloads[0].path.read_bytes() == DATA
    assert names(tmp_path / "x") == ["a.bin", "b.bin"]
    assert sum(sizes) == len(DATA) + 10
    assert fetcher.sizes([each.url for each in downloads]) == [len(DATA), 10]


def test_a_transfer_that_breaks_off_goes_on_where_it_was(web: Web, fetcher: Fetcher, tmp_path: Path) -> None:
    web.break_after["/a.bin"] = [CHUNK] * 8  # more often than tries without progress
    fetcher.fetch([Download(f"{web.url}/a.bin", tmp_path / "a.bin")])
    assert (tmp_path / "a.bin").read_bytes() == DATA
    assert ranges(web)[:3] == ["", f"bytes={CHUNK}-", f"bytes={2 * CHUNK}-"]
    assert names(tmp_path) == ["a.bin"]


def test_the_next_run_goes_on_where_the_last_one_was_stopped(web: Web, fetcher: Fetcher, tmp_path: Path) -> None:
    web.break_after["/a.bin"] = [3 * CHUNK + 1, 0, 0, 0]
    with pytest.raises(DataSetError, match=r"a\.bin: cannot be reached, or the connection breaks off"):
        fetcher.fetch([Download(f"{web.url}/a.bin", tmp_path / "a.bin")])
    assert not (tmp_path / "a.bin").exists()
    web.requests.clear()
    Fetcher().fetch([Download(f"{web.url}/a.bin", tmp_path / "a.bin")])
    assert ranges(web) == [f"bytes={3 * CHUNK}-"]
    assert (tmp_path / "a.bin").read_bytes() == DATA


@pytest.mark.parametrize("tags", [True, False])
def test_parts_of_two_versions_are_never_joined(web: Web, fetcher: Fetcher, tmp_path: Path, tags: bool) -> None:
    web.tags = tags
    web.break_after["/a.bin"] = [700_000, 0, 0, 0]
    with pytest.raises(DataSetError):
        fetcher.fetch([Download(f"{web.url}/a.bin", tmp_path / "a.bin")])
    web.files["/a.bin"] = DATA[::-1]
    fetcher.fetch([Download(f"{web.url}/a.bin", tmp_path / "a.bin")])
    assert (tmp_path / "a.bin").read_bytes() == DATA[::-1]


def test_a_server_without_ranges_starts_again(web: Web, fetcher: Fetcher, tmp_path: Path) -> None:
    web.ranges = False
    web.break_after["/a.bin"] = [700_000]
    fetcher.fetch([Download(f"{web.url}/a.bin", tmp_path / "a.bin")])
    assert (tmp_path / "a.bin").read_bytes() == DATA


@pytest.mark.parametrize(("part", "requests"), [(DATA, 1), (DATA + b"more", 2)])
def test_what_is_there_whole_or_too_long_is_told_by_416(
    web: Web, fetcher: Fetcher, tmp_path: Path, part: bytes, requests: int
) -> None:
    (tmp_path / "a.bin.part").write_bytes(part)
    fetcher.fetch([Download(f"{web.url}/a.bin", tmp_path / "a.bin", sha256=SHA256)])
    assert (tmp_path / "a.bin").read_bytes() == DATA
    assert len(web.requests) == requests


def test_passing_failures_pass(web: Web, fetcher: Fetcher, tmp_path: Path) -> None:
    web.statuses["/a.bin"] = [503, 429]
    fetcher.fetch([Download(f"{web.url}/a.bin", tmp_path / "a.bin")])
    assert (tmp_path / "a.bin").read_bytes() == DATA


@pytest.mark.parametrize(
    ("status", "sentence"), [(404, r"does not have it \(404 Not Found\)"), (403, r"refuses \(403 Forbidden\)")]
)
def test_a_refusal_is_one_sentence_and_not_tried_again(
    web: Web, fetcher: Fetcher, tmp_path: Path, status: int, sentence: str
) -> None:
    web.statuses["/a.bin"] = [status]
    with pytest.raises(DataSetError, match=sentence) as caught:
        fetcher.fetch([Download(f"{web.url}/a.bin", tmp_path / "a.bin")])
    assert "\n" not in str(caught.value)
    assert len(web.requests) == 1
    assert names(tmp_path) == []


def test_what_a_server_does_not_have_may_be_taken_note_of(web: Web, fetcher: Fetcher, tmp_path: Path) -> None:
    missing: list[Download] = []
    downloads = [Download(f"{web.url}/{name}", tmp_path / name) for name in ("none", "b.bin")]
    fetcher.fetch(downloads, missing=missing)
    assert missing == downloads[:1]
    assert names(tmp_path) == ["b.bin"]


def test_a_wrong_checksum_leaves_nothing(web: Web, fetcher: Fetcher, tmp_path: Path) -> None:
    with pytest.raises(DataSetError, match=r"the server sent another file \(SHA-256 .* instead of 000000000000…\)"):
        fetcher.fetch([Download(f"{web.url}/a.bin", tmp_path / "a.bin", sha256="0" * 64)])
    assert names(tmp_path) == []


def test_a_wrong_size_is_told_before_the_transfer(web: Web, fetcher: Fetcher, tmp_path: Path) -> None:
    with pytest.raises(DataSetError, match="the server has 1,500,000 bytes instead of 7"):
        fetcher.fetch([Download(f"{web.url}/a.bin", tmp_path / "a.bin", 7)])
    assert names(tmp_path) == []


def test_without_a_network_it_is_one_sentence(web: Web, fetcher: Fetcher, tmp_path: Path) -> None:
    for act in (
        lambda: fetcher.sizes(["http://127.0.0.1:9/a"]),
        lambda: fetcher.fetch([Download("http://127.0.0.1:9/a", tmp_path / "a")]),
    ):
        with pytest.raises(DataSetError, match=r"cannot be reached.*Connection refused.*check the network") as caught:
            act()
        assert "\n" not in str(caught.value)


def test_one_failure_stops_the_others(web: Web, tmp_path: Path) -> None:
    web.files |= {f"/{k}": b"x" for k in range(50)}
    web.statuses["/0"] = [404]
    with pytest.raises(DataSetError):
        Fetcher(jobs=1).fetch([Download(f"{web.url}/{k}", tmp_path / str(k)) for k in range(50)])
    assert len(web.requests) < 10


def test_transfers_run_side_by_side(tmp_path: Path) -> None:
    arrived = threading.Barrier(3, timeout=5)  # broken unless three are under way at once
    with serve({f"/{k}": b"x" for k in range(3)}) as web:
        downloads = [Download(f"{web.url}/{k}", tmp_path / str(k)) for k in range(3)]
        Fetcher(jobs=3).fetch(downloads, lambda size: print(arrived.wait()))
    assert not arrived.broken


def test_a_full_disk_is_an_error_of_the_disk(web: Web, fetcher: Fetcher, tmp_path: Path) -> None:
    with full_disk(100_000), pytest.raises(OSError, match="File too large"):
        fetcher.fetch([Download(f"{web.url}/a.bin", tmp_path / "a.bin")])
    assert not (tmp_path / "a.bin").exists()
    fetcher.fetch([Download(f"{web.url}/a.bin", tmp_path / "a.bin")])
    assert (tmp_path / "a.bin").read_bytes() == DATA
