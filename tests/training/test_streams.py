"""Two real ranks of two loader processes each, trained from shards in a store; killed, and gone on with."""

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.data.shards.s3 import serve_s3
from tests.data.shards.shard_files import number_shards
from tests.data.shards.store import serve
from tests.training_harness import curve_overrides, train_process

PICTURES, STEPS, BATCH = 48, 12, 8  # two passes

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["http", "s3"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Options of training from a web server, or from an object store that speaks as S3 does."""
    folder = tmp_path_factory.mktemp("store")
    number_shards(folder, PICTURES)
    if request.param == "http":
        with serve(folder / "shards") as served:
            yield [f"data.train.root={served.url}"]
        return
    with serve_s3(folder / "shards") as (url, storage):
        account = re.sub(r'"(\w+)":', r"\1:", json.dumps(storage))  # as Hydra has it
        yield [f"data.train.root={url}", f"data.train.reading.storage={account}"]


class Run:
    """A training in a folder; the same again goes on."""

    def __init__(self, folder: Path, store: list[str]) -> None:
        self.folder = folder
        self.store = store

    def start(self, ranks: int, pause: float = 0.0) -> Any:
        self.folder.mkdir(exist_ok=True)
        given = [each for each in curve_overrides(self.folder / "out", STEPS) if each != "data=rendered"]
        seen = f"{{_target_: tests.training.seen_samples.SeenSamples, out: '{self.folder}', pause: {pause}}}"
        options = [
            "data=shards",
            *self.store,
            "data.num_workers=2",
            "run=[autoencoder]",
            f"stages.autoencoder.batch_size={BATCH // ranks}",
            f"trainer.devices={ranks}",
            "callbacks.last.steps=2",
            f"+callbacks.seen={seen}",
        ]
        return train_process([*given, *options], start_new_session=True)

    def finish(self, ranks: int) -> None:
        process = self.start(ranks)
        try:
            output, _ = process.communicate(timeout=250)
        finally:
            kill(process)
        assert process.returncode == 0, output[-3000:]

    def killed_after(self, steps: int, ranks: int) -> None:
        process = self.start(ranks, pause=0.3)
        deadline = time.monotonic() + 250
        while len(self.lines(ranks - 1)) < steps and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        kill(process)
        output, _ = process.communicate()
        assert process.returncode == -signal.SIGKILL, output[-3000:]

    def lines(self, rank: int) -> list[dict[str, Any]]:
        path = self.folder / f"rank{rank}.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def kill(process: Any) -> None:
    """Ends a session of processes as kill -9 does."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def whole(store: list[str], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of two ranks that nothing interrupts."""
    run = Run(tmp_path_factory.mktemp("whole"), store)
    run.finish(ranks=2)
    return run


@pytest.fixture(scope="module")
def killed(store: list[str], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of two ranks that was killed in its first pass."""
    run = Run(tmp_path_factory.mktemp("killed"), store)
    run.killed_after(4, ranks=2)
    return run


def test_the_ranks_share_every_pass(whole: Run) -> None:
    first, second = ([set(line["numbers"]) for line in whole.lines(rank)] for rank in range(2))
    assert len(first) == len(second) == STEPS
    for steps in (slice(0, STEPS // 2), slice(STEPS // 2, None)):
        shown = [set[int]().union(*parts[steps]) for parts in (first, second)]
        assert [len(each) for each in shown] == [PICTURES // 2] * 2
        assert shown[0] | shown[1] == set(range(PICTURES))


def test_a_killed_run_goes_on_with_the_same_samples_and_losses(whole: Run, killed: Run, tmp_path: Path) -> None:
    run = Run(shutil.copytree(killed.folder, tmp_path / "two"), killed.store)
    run.finish(ranks=2)
    for rank in range(2):
        expected, lines, before = whole.lines(rank), run.lines(rank), len(killed.lines(rank))
        assert [line["step"] for line in lines[before:]] == list(range(lines[before]["step"], STEPS))
        assert 0 < lines[before]["step"] <= before
        for line in lines:
            assert line == {k: pytest.approx(v, rel=1e-5) for k, v in expected[line["step"]].items()}


def test_one_rank_goes_on_with_the_samples_of_two(whole: Run, killed: Run, tmp_path: Path) -> None:
    before = len(killed.lines(0))
    run = Run(shutil.copytree(killed.folder, tmp_path / "one"), killed.store)
    run.finish(ranks=1)
    lines = run.lines(0)[before:]
    assert len(run.lines(1)) == len(killed.lines(1))
    assert lines[-1]["step"] == STEPS - 1
    for line in lines:
        both = [whole.lines(rank)[line["step"]] for rank in range(2)]
        assert line["numbers"] == both[0]["numbers"] + both[1]["numbers"]
        assert line["grad_norm"] == pytest.approx(both[0]["grad_norm"], rel=0.05)
