"""What there is of memory, and what a budget leaves."""

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.measures import apart
from glc_train import memory
from glc_train.cli import main
from glc_train.media import write_picture
from glc_train.memory import give_back, held, parse, room, shown

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("text", "size"),
    [("4G", 4 * 10**9), ("2.5 GB", 25 * 10**8), ("800m", 8 * 10**8), ("1GiB", 2**30), ("7", 7), ("3KiB", 3072)],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse(text) == size


@pytest.mark.parametrize("text", ["", "0", "G", "-4G", "4 X", "4G5", "1e9", "inf"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size such as 4G"):
        parse(text)


def test_sizes_are_shown() -> None:
    assert (shown(12.34e9), shown(5e6), shown(10)) == ("12.3 GB", "5 MB", "0 MB")


def test_a_budget_counts_what_the_process_has() -> None:
    there = room(CPU, held(CPU) + 10**9)
    assert there is not None
    assert abs(there - 10**9) < 10**8
    assert room(CPU, 1) == 0


def test_without_a_budget_there_is_most_of_what_is_free() -> None:
    free = room(CPU)
    assert free is None or free > 0


@pytest.mark.parametrize(
    ("cgroup", "folder", "names", "stat"),
    [
        ("0::/a/b\n", "sys/fs/cgroup/a", ("memory.max", "memory.current"), "inactive_file"),
        ("0::/not/seen/in/the/container\n", "sys/fs/cgroup", ("memory.max", "memory.current"), "inactive_file"),
        (
            "4:cpu,memory:/a\n2:pids:/b\n",
            "sys/fs/cgroup/memory/a",
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
            "total_inactive_file",
        ),
    ],
)
def test_limits_of_containers_count(
    tmp_path: Path, cgroup: str, folder: str, names: tuple[str, str], stat: str
) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(cgroup)
    group = tmp_path / folder
    group.mkdir(parents=True)
    for name, text in ((names[0], "1000\n"), (names[1], "700\n"), ("memory.stat", f"anon 600\n{stat} 100\n")):
        (group / name).write_text(text)
    assert memory._group_rooms(tmp_path) == [400]
    (group / names[0]).write_text("max\n")
    assert memory._group_rooms(tmp_path) == []


def test_a_picture_that_does_not_fit_is_refused_by_name_with_the_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo, coded, back = tmp_path / "photo.png", tmp_path / "photo.glc", tmp_path / "back.png"
    write_picture(photo, np.zeros((64, 64, 3), np.uint8))
    assert main(["compress", str(photo), str(coded), "--memory", "1M"]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"glc: {photo}: 64x64 pixels need ")
    assert "the limit of 1 MB leaves 0 MB: raise the limit" in said
    assert not coded.exists()
    assert main(["compress", str(photo), str(coded), "--memory", "64G"]) == 0
    assert main(["decompress", str(coded), str(back), "--memory", "1M"]) == 1
    assert f"glc: {coded}: 64x64 pixels need" in capsys.readouterr().err
    assert not back.exists()


def test_a_size_that_is_none_is_misuse(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["compress", "a.png", "a.glc", "--memory", "much"])
    assert end.value.code == 2
    assert "much is not a size such as 4G" in capsys.readouterr().err


def _kept_and_given_back() -> tuple[int, int]:
    """Bytes that stay with the process after 256 MB were freed between small things that stay, and once given back."""
    before, stay, go = held(CPU), [], [torch.ones(31 << 18)]
    go.clear()  # glibc now takes what is smaller from its heap
    for _ in range(64):
        go.append(torch.ones(1 << 20))
        stay.append(torch.ones(1 << 14))
    go.clear()
    kept = held(CPU) - before
    give_back()
    return kept, held(CPU) - before


def test_what_the_c_library_keeps_is_given_back() -> None:
    if memory._malloc_trim() is None:
        pytest.skip("not glibc")
    kept, left = apart(_kept_and_given_back)
    assert kept > 200 * 2**20
    assert left < 32 * 2**20
