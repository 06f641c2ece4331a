"""Two real processes (gloo), one of which rounds otherwise, agree on figures, codebooks and clocks."""

import json
import os
import socket
import subprocess
import sys
from typing import Any

import lightning
import pytest
import torch

from tests.training_harness import ROOT
from tests.two_ranks import figures, latents


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each process has found."""
    out = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(2):
        found = {"MASTER_ADDR": "localhost", "MASTER_PORT": port, "WORLD_SIZE": 2, "LOCAL_RANK": rank, "NODE_RANK": 0}
        own = {"ATEN_CPU_CAPABILITY": "default"} if rank else {}
        environment = os.environ | {"PYTHONPATH": str(ROOT)} | own | {name: str(value) for name, value in found.items()}
        command = [sys.executable, "-m", "tests.two_ranks", str(out)]
        processes.append(subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True))
    for process in processes:
        _, errors = process.communicate(timeout=250)
        assert process.returncode == 0, errors[-3000:]
    return [json.loads((out / f"rank{rank}.json").read_text()) for rank in range(2)]


def test_each_picture_counts_once_and_all_ranks_have_the_mean(ranks: list[dict[str, Any]]) -> None:
    """Five pictures are three for one rank and two for the other, which repeats one so as not to wait."""
    assert ranks[0]["figures"] == ranks[1]["figures"]
    alone = figures(lightning.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False))
    assert set(alone) >= {"val/psnr/q0", "val/bpp/q0", "val/psnr/stage_I"}
    assert ranks[0]["figures"] == pytest.approx(alone, rel=1e-3)


def test_the_variance_is_that_of_all_latents(ranks: list[dict[str, Any]]) -> None:
    expected = float(torch.cat([latents(0), latents(1)]).var())
    assert [each["variance"] for each in ranks] == pytest.approx([expected] * 2, rel=1e-5)


def test_codebooks_are_the_same_to_the_last_bit(ranks: list[dict[str, Any]]) -> None:
    for name in ("entries", "restarted"):
        assert ranks[0][name] == ranks[1][name], name
    assert ranks[0]["entries"] != ranks[0]["restarted"]


def test_a_checkpoint_within_a_window_has_the_counts_of_all_ranks(ranks: list[dict[str, Any]]) -> None:
    """A checkpoint is what rank 0 has, and the next run's ranks all begin with it."""
    assert [each["counts"] for each in ranks] == [[512.0, 512.0, 0.0]] * 2


def test_clocks_and_signals_agree(ranks: list[dict[str, Any]]) -> None:
    assert [each["agreed"] for each in ranks] == [[1.5, 1, 3]] * 2


def test_gradients_are_averaged_in_messages_that_leave_during_the_backward_pass(ranks: list[dict[str, Any]]) -> None:
    """Also of parameters that one rank has no gradient for, and of such that begin to be trained in the fourth step."""
    for each in ranks:
        assert max(each["averages"]["errors"]) < 1e-5
    during = [sent[0] for sent in ranks[0]["averages"]["sent"]]
    assert [count > 0 for count in during] == [False, True, True, False, True]
    assert during[1] >= 2
    assert [sum(each) for each in ranks[0]["averages"]["sent"]] == [sum(each) for each in ranks[1]["averages"]["sent"]]


def test_averaging_during_the_backward_pass_trains_the_same_weights(ranks: list[dict[str, Any]]) -> None:
    for each in ranks:
        assert max(each["differences"]) < 1e-6
