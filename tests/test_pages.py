"""Every command and every example on the pages is run, or is listed with the reason why it is not."""

import csv
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from glc_train import load_codec
from glc_train.backbones import BackboneError, find_backbone
from glc_train.media import read_picture
from tests.page_commands import NOT_RUN, make_checkout, reason_not_to_run, run_small, texts_of
from tests.pages import BLOCKS, GOES_ON, MARK, PAGES, REPOSITORY, Block

PROGRAMS = [block for block in BLOCKS if block.language in ("bash", "python")]
# Blocks whose small form takes seconds, by what they contain.
SLOW = ("train.py", "evaluate.py", "clip", "--effort", "--jobs", "weights.separate")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    make_checkout(tmp_path)
    return tmp_path


def named(blocks: list[Block]) -> list[Any]:
    assert blocks
    return [
        pytest.param(
            block,
            id=f"{block.page}-{block.number}",
            marks=[pytest.mark.slow] if block.mark == GOES_ON or any(text in block.text for text in SLOW) else [],
        )
        for block in blocks
    ]


def as_they_stand(kind: str) -> list[Any]:
    return named([block for block in PROGRAMS if block.kind == kind])


def run_in(folder: Path, script: str, **environment: str) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # The folder's `glc_train`, which holds weights alone, would hide an editable installation's.
    variables = os.environ | {"PATH": path, "PYTHONPATH": str(REPOSITORY)} | environment
    run = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def check_made(folder: Path, block: Block) -> None:
    """Whether each file that the block's mark names is there, once, and can be read."""
    found = MARK.fullmatch(block.mark)
    assert found
    for pattern in found[2].split():
        (path,) = folder.glob(pattern)
        match path.suffix:
            case ".png":
                assert read_picture(path).shape == read_picture(folder / "photo.png").shape
            case ".safetensors":
                assert load_codec(path).quality_levels == 4
            case ".csv":
                with path.open(newline="") as file:
                    assert "psnr" in next(iter(csv.DictReader(file)))
            case ".onnx":
                assert {each.key: each.value for each in onnx.load(path).metadata_props}["part"] == path.stem
            case ".pt2":
                assert torch.export.load(path).graph_signature.user_inputs == ("picture",)
            case other:
                pytest.fail(f"{block.page}: say here how files {other} are checked")


def test_marks_are_known() -> None:
    strange = [block for block in BLOCKS if block.mark and block.kind is None and block.mark != GOES_ON]
    assert strange == []


def test_every_fence_is_a_block() -> None:
    for page, text in PAGES.items():
        fences = re.findall(r"^ *```", text, flags=re.MULTILINE)
        assert len(fences) == 2 * sum(block.page == page for block in BLOCKS), page
        languages = {block.language for block in BLOCKS if block.page == page}
        assert not languages & {"sh", "shell", "console", "py", "python3", "pycon"}, f"{page}: say bash or python"


def test_every_reason_not_to_run_something_is_still_needed() -> None:
    texts = [text for block in PROGRAMS for text in texts_of(block)]
    assert [pattern for pattern in NOT_RUN if not any(re.match(pattern, text) for text in texts)] == []


@pytest.mark.parametrize("block", as_they_stand(""))
def test_examples_run(block: Block, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert block.language == "python"
    monkeypatch.chdir(checkout)
    exec(compile(block.text, block.page, "exec"), {})
    check_made(checkout, block)


@pytest.mark.slow
@pytest.mark.parametrize("block", as_they_stand("slow"))
def test_commands_run(block: Block, checkout: Path) -> None:
    run_in(checkout, block.text)
    check_made(checkout, block)


@pytest.mark.slow
@pytest.mark.parametrize("block", as_they_stand("slow, training"))
def test_trainings_run(block: Block, checkout: Path) -> None:
    shared = Path(os.environ.get("GLC_SHARED") or REPOSITORY.parent / "shared") / "weights"
    folder = shared if shared.is_dir() else None
    try:
        find_backbone("alexnet", folder, download=False)
    except BackboneError as missing:
        pytest.skip(f"training needs the weights of LPIPS: {missing}")
    run_in(checkout, block.text, **({"GLC_WEIGHTS": str(folder)} if folder else {}))
    check_made(checkout, block)


def small() -> list[Any]:
    """Those of which something is run in a small form; what another goes on from is run with that."""
    followed = [before for before, after in pairwise(PROGRAMS) if after.mark == GOES_ON]
    return named(
        [
            block
            for block in PROGRAMS
            if block.kind is None
            and block not in followed
            and any(reason_not_to_run(text) is None for text in texts_of(block))
        ]
    )


@pytest.mark.parametrize("block", small())
def test_a_small_form_runs(block: Block, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = [each for each in PROGRAMS if each.page == block.page and each.number < block.number]
    chain = [block]
    while chain[0].mark == GOES_ON:
        chain.insert(0, before.pop())
    for each in [*before, *chain]:
        if each.file:
            (checkout / each.file).write_text(each.text, encoding="utf-8")
    for each in chain:
        run_small(each, checkout, monkeypatch)
