"""What the programs import, and what a small picture costs: measured in processes of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.measures import model_config
from glc_train import __main__
from glc_train.data import render_picture
from glc_train.media import write_picture
from glc_train.weights import build_codec, build_video, load_codec, save_codec

# Prints what was imported that is no part of Python, and the growth of the peak of memory in MiB (macOS counts bytes).
REPORT = """
import json, resource, runpy, sys
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
{first}
modules, memory = set(sys.modules), peak()
for program, *arguments in json.loads(sys.argv[1]):
    sys.argv = [program, *arguments]
    try:
        runpy.run_path(program, run_name="__main__")
    except SystemExit as end:
        assert end.code in ({codes})
    print(flush=True)
growth = peak() - memory
new = sorted({{name for name in sys.modules.keys() - modules if name.partition(".")[0] not in sys.stdlib_module_names}})
print(json.dumps([new, growth]), flush=True)
"""

# What `glc` takes from other libraries to code pictures and clips. Their own parts in C have names of their own.
LIBRARIES = {"PIL", "av", "constriction", "einops", "glc_train", "numpy", "rich", "safetensors", "simplejpeg", "torch"}
COMPILED = ("_cython_", "cython_runtime", "_sysconfigdata")
# PyTorch's compiler, and what symbolic shapes are computed with: seconds and 150 MB for nothing.
COMPILER = {"torch._dynamo", "torch._inductor", "torch.fx.experimental.symbolic_shapes", "sympy", "triton"}


ROOT = Path(__file__).parents[1]
GLC = str(ROOT / "glc_train/__main__.py")


def imports(
    commands: list[list[str]], first: str = "", cwd: Path | None = None, codes: str = "0, None"
) -> tuple[set[str], float]:
    """Modules that the commands (program, arguments) import after `first`, and the growth of the peak memory in MiB."""
    program = [sys.executable, "-c", REPORT.format(first=first, codes=codes), json.dumps(commands)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(program, capture_output=True, text=True, cwd=cwd, env=environment)
    assert done.returncode == 0, done.stderr
    modules, growth = json.loads(done.stdout.splitlines()[-1])
    return set(modules), growth


@pytest.mark.parametrize(
    "chosen", [{}, {"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "ACTIVE"}], ids=["nothing", "spins", "policy"]
)
def test_idle_threads_sleep_soon_unless_told_otherwise(chosen: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    environment = dict(chosen)
    monkeypatch.setattr(os, "environ", environment)
    monkeypatch.setattr("glc_train.cli.main", lambda ready: 0)
    monkeypatch.setattr("glc_train.interruption.leave_at_once", lambda: None)
    assert __main__.main() == 0
    assert environment == (chosen or {"GOMP_SPINCOUNT": "10000"})


def test_help_version_and_wrong_arguments_need_no_library() -> None:
    names = (
        "compress",
        "decompress",
        "info",
        "fetch-weights",
        "data",
        "data prepare",
        "data list",
        "data shard",
        "weights",
        "weights add",
    )
    commands = [["--help"], ["--version"], [], ["nonsense"], ["compress", "--quality", "high"]]
    commands += [[*name.split(), "--help"] for name in names]
    modules, _ = imports([[GLC, *arguments] for arguments in commands], codes="0, 2")
    assert {name.partition(".")[0] for name in modules} == {"glc_train"}


def test_plots_and_pages_of_results_need_no_pytorch(repository: Path, tmp_path: Path) -> None:
    results = str(repository / "results/kodak/glc_image_small/results.json")
    commands = [["plot", results, "--metric", "psnr"], ["report", results, "--out", "page.html"]]
    modules, _ = imports([[GLC, *arguments] for arguments in commands], cwd=tmp_path)
    assert (tmp_path / "page.html").exists()
    assert not {name.partition(".")[0] for name in modules} & {"torch", "lightning", "torchmetrics"}


@pytest.mark.parametrize("name", ["train.py", "evaluate.py"])
def test_help_and_mistakes_of_the_others_need_neither_pytorch_nor_lightning(name: str, tmp_path: Path) -> None:
    program = str(ROOT / name)
    modules, _ = imports([[program, "--help"], [program, "nonsense=1"]], cwd=tmp_path, codes="0, 1, None")
    assert "hydra" in modules
    assert not {name.partition(".")[0] for name in modules} & {"torch", "lightning", "torchmetrics", "numpy"}


@pytest.fixture
def video(tmp_path: Path) -> Path:
    config = {"image": model_config(), "transform": model_config("video/tiny")}  # quality levels: 4 and 64
    save_codec(build_video(config), config, tmp_path / "video.safetensors")
    return tmp_path / "video.safetensors"


def test_coding_imports_neither_training_nor_a_compiler(video: Path, tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    for number in range(2):
        write_picture(tmp_path / f"frames/{number}.png", render_picture(64, 64, number))
    commands = [
        ["compress", "frames/0.png", "0.glc"],
        ["info", "0.glc"],
        ["decompress", "0.glc", "0.png"],
        ["compress", "frames", "clip.glcv", "--weights", str(video)],
        ["decompress", "clip.glcv", "clip.mp4", "--weights", str(video)],
    ]
    modules, growth = imports([[GLC, *arguments] for arguments in commands], "import torch", tmp_path)
    assert (tmp_path / "0.png").exists()
    assert (tmp_path / "clip.mp4").exists()
    tops = {name.partition(".")[0] for name in modules if not name.startswith(COMPILED)}
    assert tops <= LIBRARIES
    assert not modules & COMPILER
    assert {name.split(".")[1] for name in modules if name.startswith("glc_train.")} == {
        "ahead", "autoencoder", "bitstream", "cli", "codecs", "errors", "extras", "files", "interruption", "layers",
        "media", "memory", "pickles", "pixels", "precision", "processes", "transform", "weights",
    }  # fmt: skip
    # The installed weights are 49 MB in 16 bits; the networks, their exact copies and the mapped file take thrice that.
    assert growth < 320


def test_loading_draws_no_numbers_and_keeps_whole_weights_where_they_are(tmp_path: Path) -> None:
    config = model_config()
    saved = build_codec(config)
    for half, mapped in ((False, True), (True, False)):
        path = tmp_path / f"{half}.safetensors"
        save_codec(saved, config, path, half=half)
        torch.manual_seed(5)
        before = torch.get_rng_state()
        codec = load_codec(path)
        assert torch.equal(torch.get_rng_state(), before)
        state = codec.state_dict().values()
        span = max(t.data_ptr() + t.nbytes for t in state) - min(t.data_ptr() for t in state)
        assert (span == sum(t.nbytes for t in state)) == mapped  # side by side, as in the file
        content = path.read_bytes()
        for (name, ours), theirs in zip(codec.named_parameters(), saved.parameters(), strict=True):
            assert torch.equal(ours, theirs.half().float() if half else theirs), name
            ours.fill_(0.0)
        assert path.read_bytes() == content  # what is done to the codec stays in memory
