"""What it costs to start: ``glc --help``, ``glc --version`` and a small picture, beside ``import torch`` alone.

``python -m benchmarks.startup`` runs each as a process of its own, in turn, and takes the smallest of several times:
seconds by the clock, seconds of the processor (all threads), and the largest memory.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.record import checked, machine_load, machine_options, spread, write_record
from glc_train.data import render_picture
from glc_train.media import write_picture

SIDE = 64  # of the picture
# Runs the command that it is given as a child, and prints what that took: wait4 counts one process alone.
WATCH = """
import json, os, resource, sys, time
start = time.perf_counter()
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, 1, 0)])
_, status, used = os.wait4(child, 0)
scale = 2**20 if sys.platform == "darwin" else 2**10
print(json.dumps({
    "exit_code": os.waitstatus_to_exitcode(status), "seconds": time.perf_counter() - start,
    "processor_seconds": used.ru_utime + used.ru_stime, "peak_mb": used.ru_maxrss / scale,
}))
"""


def commands(folder: Path) -> dict[str, list[str]]:
    """What is started, with a picture in the folder."""
    write_picture(folder / "small.png", render_picture(SIDE, SIDE, 0))
    glc = [sys.executable, "-m", "glc_train"]
    small, coded, decoded = (str(folder / name) for name in ("small.png", "small.glc", "decoded.png"))
    return {
        "python": [sys.executable, "-c", "pass"],
        "import torch": [sys.executable, "-c", "import torch"],
        "glc --help": [*glc, "--help"],
        "glc --version": [*glc, "--version"],
        f"glc compress {SIDE}x{SIDE}": [*glc, "compress", small, coded, "--overwrite"],
        f"glc decompress {SIDE}x{SIDE}": [*glc, "decompress", coded, decoded, "--overwrite"],
    }


def started(command: Sequence[str]) -> dict[str, float]:
    """What one run of the command took. Raises RuntimeError if it fails."""
    watched = [sys.executable, "-c", WATCH, *command]
    found: dict[str, float] = json.loads(subprocess.run(watched, stdout=subprocess.PIPE, check=True).stdout)
    if found.pop("exit_code"):
        raise RuntimeError(f"{' '.join(command)} failed")
    return found


def measure(rounds: int) -> dict[str, Any]:
    """Figures of all commands, which take turns."""
    with tempfile.TemporaryDirectory(prefix="glc_train-") as folder:
        todo = commands(Path(folder))
        for command in todo.values():
            started(command)  # puts the files into the memory of the system
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in todo}
        for _ in range(rounds):
            for name, command in todo.items():
                runs[name].append(started(command))
    return {name: {key: spread([each[key] for each in found]) for key in found[0]} for name, found in runs.items()}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="runs of each command (default 5)")
    machine_options(parser)
    return checked(parser, parser.parse_args(arguments), rounds=1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints a line for each command and writes the record."""
    options = parse(arguments)
    load = machine_load()
    results = measure(options.rounds)
    for name, found in results.items():
        print(
            f"{name:22} {found['seconds']['min']:5.2f} s, {found['processor_seconds']['min']:5.2f} s of processor, "
            f"{found['peak_mb']['median']:5.0f} MB",
            flush=True,
        )
    write_record(options, "startup", load, results)


if __name__ == "__main__":
    main()
