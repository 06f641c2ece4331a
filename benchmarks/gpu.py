"""All that needs a GPU in one command of under four minutes: its tests, and benchmarks of files and training.

``python -m benchmarks.gpu OUT`` writes a log and a JSON record of each part into the folder OUT, and prints a page.
What fails or takes too long does not keep the others from running. ``--device cpu --tiny`` tries the command itself.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from glc_train.files import write_text

ROOT = Path(__file__).resolve().parents[1]
ALL_SECONDS = 235  # of all parts together
_LINES = 14  # of the end of a log on the page
_PATIENCE = 10  # times as long may a try take, on a processor that others use as well
_PREDICTOR = "++stages.joint.predictor=null"


@dataclass(frozen=True)
class Part:
    """One program of the run.

    Attributes:
        name: of its log and its record.
        module: what Python runs.
        seconds: after which it is ended.
        arguments: beside the device and the record's file.
        tiny: arguments in place of them, for a try.
    """

    name: str
    module: str
    seconds: float
    arguments: tuple[str, ...] = ()
    tiny: tuple[str, ...] = ()

    def command(self, out: Path, device: str, tiny: bool) -> list[str]:
        """What is run."""
        arguments = [each.format(out=out) for each in (self.tiny if tiny else self.arguments)]
        if self.module != "pytest":
            arguments += ["--device", device, "--out", str(out / f"{self.name}.json")]
        return [sys.executable, "-m", self.module, *arguments]


def _tests() -> tuple[str, ...]:
    """The files that have tests for a GPU: to import all the others would take half of the time."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return tuple(str(file) for file in files if "mark.gpu" in file.read_text(encoding="utf-8"))


_TINY_STEP = (
    "--model", "tiny", "--cases", "joint", "--rounds", "1", "--steps", "1", "--profile", "{out}/step_profile.txt",
    "--set", "stages.joint.crop_size=64", "stages.joint.batch_size=2", _PREDICTOR,
    *(f"stages.joint.picture.{term}=0" for term in ("lpips", "vgg", "style")),
)  # fmt: skip
# Without the options of pyproject.toml, which need all that development needs.
_GPU_TESTS = ("-o", "addopts=--import-mode=importlib", "-m", "gpu", "-q", "-rfE", *_tests())
PARTS = (
    Part("tests", "pytest", 35, _GPU_TESTS, _GPU_TESTS),
    Part(
        "autoencoder", "benchmarks.autoencoder", 50, ("--compile",),
        ("--models", "tiny", "--sizes", "96x64", "--repeats", "1"),
    ),
    Part(
        "codec", "benchmarks.codec", 30, ("--models", "small", "base"),
        ("--models", "tiny", "--size", "96", "64", "--repeats", "1"),
    ),
    Part(
        "clip", "benchmarks.clip", 50, ("--sizes", "1920x1080", "--frames", "48", "--rounds", "1"),
        ("--models", "tiny", "--sizes", "64x64", "--frames", "2", "--rounds", "1"),
    ),
    Part("step", "benchmarks.step", 70, ("--rounds", "3", "--profile", "{out}/step_profile.txt"), _TINY_STEP),
    Part(
        "step_base", "benchmarks.step", 75,
        ("--experiment", "glc_image_base", "--model", "base", "--rounds", "1", "--profile",
         "{out}/step_base_profile.txt", "--set", "stages.joint.batch_size=8", "stages.joint.crop_size=256"),
        _TINY_STEP,
    ),
    Part(
        "step_compiled", "benchmarks.step", 120,
        ("--rounds", "1", "--compile", "--profile", "{out}/step_compiled_profile.txt"), _TINY_STEP,
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Result:
    """How a part went: its `state`, the seconds that it took, and the end of its log."""

    part: Part
    state: str
    seconds: float
    lines: list[str]


def run(part: Part, command: Sequence[str], out: Path, seconds: float) -> Result:
    """Runs a part for at most `seconds`; its log goes to `out`."""
    log, start = out / f"{part.name}.log", time.monotonic()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
            start_new_session=True,  # so that its own processes end with it
        )  # fmt: skip
        try:
            code = process.wait(seconds)
            state = "done" if code == 0 else f"failed with exit code {code}"
        except subprocess.TimeoutExpired:
            state = f"ended after its {seconds:.0f} s"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return Result(part, state, time.monotonic() - start, [line for line in lines if line.strip()][-_LINES:])


def page(results: Sequence[Result]) -> str:
    """What there is to read of all parts."""
    parts = [
        "\n".join([f"== {r.part.name}: {r.state}, {r.seconds:.0f} s", *(f"   {line[:160]}" for line in r.lines)])
        for r in results
    ]
    return "\n".join(parts) + f"\n== {sum(result.seconds for result in results):.0f} s in all\n"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for logs and records")
    names = [part.name for part in PARTS]
    parser.add_argument("--parts", nargs="+", choices=names, default=names, metavar="PART", help=", ".join(names))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="tiny networks: to try the command itself")
    parser.add_argument("--seconds", type=float, default=ALL_SECONDS, help=f"for all parts (default {ALL_SECONDS})")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the parts one after the other and prints the page; 1 where one of them failed."""
    options = parse(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    out, end = options.out.resolve(), time.monotonic() + options.seconds * (_PATIENCE if options.tiny else 1)
    results: list[Result] = []
    for part in PARTS:
        left = end - time.monotonic()
        if part.name not in options.parts:
            continue
        if left < 1:
            results.append(Result(part, "not begun: no time left", 0.0, []))
            continue
        seconds = min(part.seconds * (_PATIENCE if options.tiny else 1), left)
        results.append(run(part, part.command(out, options.device, options.tiny), out, seconds))
        write_text(out / "summary.txt", page(results))
        print(f"{part.name}: {results[-1].state}, {results[-1].seconds:.0f} s", flush=True)
    print(page(results), flush=True)
    return int(any(result.state != "done" for result in results))


if __name__ == "__main__":
    raise SystemExit(main())
