"""The commands of the pages in a small form: in this process, on small files, with a tiny model and a step of training.

What they read is made beforehand, under the names that the pages use.
"""

import io
import re
import runpy
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import imageio_ffmpeg
import pytest

from benchmarks.measures import model_config
from glc_train import cli, save_codec
from glc_train.data import ClipEncoder, PictureEncoder, render_picture, write_shards
from glc_train.media import ClipInfo, write_clip, write_picture
from glc_train.weights import build_codec, load_video, read_config
from tests.pages import REPOSITORY, Block, jobs_of
from tests.random_trunk import random_weights
from tests.training_harness import QUIET, composed, tiny_image, tiny_stages, tiny_video_overrides

RESULTS = REPOSITORY / "results/kodak/glc_image_small/results.json"
INSTALLED = REPOSITORY / "glc_train/pretrained"
_WEIGHTS = re.compile(r"(?<![\w.])(FILE|OUT|IMAGE_WEIGHTS|VIDEO_WEIGHTS)$")  # what stands for the path of weights

# Commands, and Python blocks by their first line, that are not run: a pattern, and why. They still parse and compose.
NOT_RUN = {
    r"python -m pip |pip |pre-commit ": "installs; tests/test_package.py builds the wheel",
    r"conda |source ": "changes the shell that it is typed into",
    r"make ": "each of them is a step of .ci/run, or minutes of work",
    r"docker ": "needs docker; the Dockerfile is linted",
    r"glc data (prepare|verify) ": "public data sets; tests/datasets has them in small on a server of its own",
    r"glc demo": "serves until it is interrupted; tests/test_demo_page.py has it in a browser",
    r"glc data index 's3:": "a bucket; tests/data/shards has one",
    r"srun |torchrun ": "several machines; two processes are in tests/training/test_distributed.py and test_stage.py",
    r"python -m benchmarks\.": "measures for minutes; tests/benchmarks runs the parts",
    r"python -m glc_train\.compressai |glc plot outputs/glc-ans|python evaluate.py codec=compressai": "CompressAI "
    "has to be compiled; tests/test_compressai.py, tests/evaluation/test_compressai_models.py",
    r"python evaluate\.py .*inception=FILE": "weights of 2015 that are not ours to give, and a GPU; tests/metrics",
    r'codec = glc_train.load_codec\("hf:': "the hub; tests/test_hub.py has one of its own",
}  # fmt: skip


def reason_not_to_run(text: str) -> str | None:
    """Why a command, or a Python block, is not run; None: it is."""
    return next((reason for pattern, reason in NOT_RUN.items() if re.match(pattern, text)), None)


def texts_of(block: Block) -> list[str]:
    """What `NOT_RUN` is looked through for: the commands of a bash block, or the first line of another."""
    if block.language == "bash":
        return [shlex.join(command) for command in block.commands]
    return [block.text.splitlines()[0]]


def make_checkout(folder: Path) -> None:
    """A folder that looks like the checkout in use, so that commands write nothing into the real one."""
    for name in ("train.py", "evaluate.py", "conf"):
        (folder / name).symlink_to(REPOSITORY / name)
    config = model_config()
    save_codec(build_codec(config), config, folder / "outputs/demo/weights.safetensors")
    write_picture(folder / "photo.png", render_picture(64, 90, 1))
    for number in range(8):
        write_picture(folder / f"FOLDER/{number}.jpg", render_picture(64, 90, number))
    (folder / "glc_train/pretrained").mkdir(parents=True)
    for path in INSTALLED.glob("*_image_*"):  # links: what is written under their names takes their places
        (folder / "glc_train/pretrained" / path.name).symlink_to(path)


def _clip(path: Path, frames: int = 12) -> None:
    with write_clip(path, ClipInfo(48, 32, Fraction(25), "bt709", False)) as clip:
        for number in range(frames):
            clip.write(render_picture(32, 48 + frames, 3)[:, number : number + 48])


def _known_clips(path: Path) -> None:
    for name in ("carphone", "bikes"):
        _clip(path.with_name("FOLDER") / f"{name}.mp4")


def _pictures(folder: Path) -> None:
    for number in range(3):
        write_picture(folder / f"{'more/' * number}{number}.png", render_picture(64, 90, number))


def _shards(path: Path, encoder: PictureEncoder | ClipEncoder) -> None:
    source = path.with_name(f"source of {path.name}")
    (_clip(source / "a.mp4") if isinstance(encoder, ClipEncoder) else _pictures(source))
    write_shards(source, path, encoder, samples=8, jobs=1)


def _installed_video(path: Path) -> None:
    """The installed video codec as a training exports it, with the image codec in it."""
    config = read_config(INSTALLED / "glc_video_small.safetensors")
    assert config is not None
    save_codec(load_video(), config, path)


INPUTS: dict[str, Callable[[Path], object]] = {
    "FILE.safetensors": tiny_image,
    "OUT.safetensors": tiny_image,
    "IMAGE_WEIGHTS.safetensors": tiny_image,
    "outputs/glc_image_tiny/weights.safetensors": tiny_image,
    "photos": _pictures,
    "HELD_OUT": _pictures,
    "other/*.jpg": lambda path: write_picture(path.with_name("c.jpg"), render_picture(64, 90, 0)),
    "SETS/openimages/train": _pictures,
    "clip.mp4": _clip,
    "in.mp4": _clip,
    "CLIPS": lambda path: _clip(path / "a.mp4"),
    "clip.yuv": lambda path: path.write_bytes(bytes(416 * 240 * 3 // 2 * 2)),
    "SHARDS": lambda path: _shards(path, PictureEncoder()),
    "CLIP_SHARDS": lambda path: _shards(path, ClipEncoder()),
    "list.txt": lambda path: path.write_text("photo.png\n"),
    "sizes.csv": lambda path: path.write_text("picture,bytes\n" + "".join(f"{n},100\n" for n in range(8))),
    "FOLDER/results.json": lambda path: path.write_bytes(RESULTS.read_bytes()),
    "results/kodak/glc_image_small/results.json": lambda path: path.write_bytes(RESULTS.read_bytes()),
    "VIDEO_WEIGHTS.safetensors": _installed_video,
    "outputs/glc_video_small_cpu/weights.safetensors": _installed_video,
    "[carphone,bikes]": _known_clips,
}


def make_inputs(folder: Path, commands: list[list[str]]) -> None:
    """What else commands name and do not make themselves."""
    made = {words[4] for words in commands if words[:3] == ["glc", "data", "shard"]}
    for name, make in INPUTS.items():
        named = re.compile(rf"(?<![\w./]){re.escape(name)}(?![\w.])")
        if (
            name not in made
            and not (folder / name).exists()
            and any(named.search(word) for words in commands for word in words)
        ):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            make(folder / name)


def small_training(arguments: Sequence[str]) -> list[str]:
    """Arguments of `train.py` in a small form: a tiny model, one step of the first stage, on a processor."""
    (first, *_) = jobs_of(list(arguments))
    config = composed([each for each in first if not each.startswith("hydra.")])
    kept = [each for each in arguments if not each.startswith(("model=", "trainer=", "trainer."))]
    stage = str(next(iter(config.run or config.stages)))
    if _gives(arguments, "image"):
        small = [each for each in tiny_video_overrides(Path(), 1) if not each.startswith(("out=", "recipe="))]
        small += ["data.val_clips=1", "data.val_frames=2", "data.val_max_side=64"]
    else:
        small = [*QUIET, "trainer=cpu", "trainer.precision=32-true", "prior_batches=1", *tiny_stages(config)]
        small += ["data.val_pictures=1", "data.val_max_side=64"] if "val_pictures" in config.data else []
        small += [] if str(config.init_from).startswith("glc_train/") else ["model=tiny"]
    if _gives(arguments, "hparams_search"):
        small.append("hydra.sweeper.n_trials=2")
    return [*kept, *small, f"run=[{stage}]", f"stages.{stage}.val_every=1"]


def small_evaluation(arguments: Sequence[str]) -> list[str]:
    """Arguments of `evaluate.py` in a small form: one picture, one quality, one metric."""
    small = {"limit": "1", "metrics": "[psnr]", "qualities": "0", "device": "cpu", "progress": "false"}
    if any(_gives(arguments, name) for name in ("rates", "codec")):
        del small["qualities"]
    if "data=kodak" in arguments:
        small["data.test.expected"] = "null"
    return [*arguments, *(f"{name}={value}" for name, value in small.items() if not _gives(arguments, name))]


def _gives(arguments: Sequence[str], name: str) -> bool:
    return any(each.startswith(f"{name}=") for each in arguments)


def run_small(block: Block, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs what is run of a block, in `folder`, which `make_checkout` has made."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("GLC_CACHE", str(folder / "cache"))  # where `glc weights add` puts its copy
    monkeypatch.setattr("glc_train.backbones.find_backbone", lambda net, *_, **__: (random_weights(net), folder / net))
    for module in ("glc_train.evaluation.sets", "glc_train.data.module"):
        monkeypatch.setattr(f"{module}.packaged_pictures", lambda _: sorted(folder.glob("FOLDER/*"))[:4])
    if block.language == "python":
        if reason_not_to_run(texts_of(block)[0]) is None:
            exec(compile(block.text, block.page, "exec"), {})
        return
    commands = [words for words in block.commands if reason_not_to_run(shlex.join(words)) is None]
    commands = [[_WEIGHTS.sub(r"\1.safetensors", word) for word in words] for words in commands]
    make_inputs(folder, commands)
    piped = b""
    for words in commands:
        piped = _run(words, piped)


def _run(words: list[str], given: bytes) -> bytes:
    """Runs a command of ours in this process, on what is given as its input; what it wrote."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    output = io.TextIOWrapper(io.BytesIO())
    before = sys.stdin, sys.stdout, sys.argv
    sys.stdin, sys.stdout = io.TextIOWrapper(io.BytesIO(given)), output
    try:
        code = _code(words)
    finally:
        sys.stdin, sys.stdout, sys.argv = before
        for number, handler in handlers.items():
            signal.signal(number, handler)
    output.flush()
    assert isinstance(output.buffer, io.BytesIO)
    assert code in (0, None), f"{shlex.join(words)}: {code}"
    return output.buffer.getvalue()


def _code(words: list[str]) -> object:
    """The exit code, None for 0."""
    try:
        match words:
            case ["glc", *arguments]:
                return cli.main(arguments)
            case ["python", "train.py", *arguments]:
                sys.argv = ["train.py", *small_training(arguments)]
                runpy.run_path(str(REPOSITORY / "train.py"), run_name="__main__")
            case ["python", "evaluate.py", *arguments]:
                sys.argv = ["evaluate.py", *small_evaluation(arguments)]
                runpy.run_path(str(REPOSITORY / "evaluate.py"), run_name="__main__")
            case ["python", "-m", module, *arguments]:
                sys.argv = [module, *arguments]
                runpy.run_module(module, run_name="__main__", alter_sys=False)
            case ["ffmpeg", *arguments]:
                return subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), *arguments], check=False).returncode
            case [program, *_]:
                pytest.fail(f"say in tests/page_commands.py how {program} is run, or why not")
    except SystemExit as end:
        return end.code
    return None
