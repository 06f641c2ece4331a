"""The folder of an evaluation: never one that holds results of other weights or settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from glc_train.evaluation.results import EvaluationError, RunFacts
from glc_train.files import discard, write_text

if TYPE_CHECKING:
    from glc_train.evaluation.settings import EvaluationSettings

SETTINGS = "settings.json"
RESULTS = "results.json"
TIMINGS = "timings.json"
_WRITTEN = (
    RESULTS, TIMINGS, "results.csv", "report.html", "rate_distortion.png", "pictures.png", "files", "decoded",
    "details", "originals", "baselines", "frames", "clips", "measured",
)  # fmt: skip
_WITHOUT_EFFECT = ("ckpt", "trusted", "out", "overwrite", "strict", "progress", "workers", "memory")  # on the results
_READ = ("ckpt", "decoded", "bits", "inception")
_LONGEST_NAME = 100


@contextmanager
def claimed_folder(settings: EvaluationSettings, facts: RunFacts) -> Iterator[Path]:
    """The folder that the results go to, marked as theirs before the first one is written, and closed to others.

    It is `settings.out`, or else `outputs/evaluation/DATA/NAME-HASH`, with the checkpoint's name or the codec's, and a
    hash of the weights and the settings. The same evaluation writes over its own results.

    Raises:
        EvaluationError: the folder holds other results without `settings.overwrite`, or what no evaluation wrote,
            or it lies in the folder of the data, or what is read lies where results go, or another evaluation writes
            there.
    """
    identity = _identity(settings, facts)
    text = json.dumps(identity, indent=1)
    out = Path(settings.out) if settings.out else Path("outputs/evaluation", facts.dataset, _own_name(settings, text))
    root = settings.data.get("root")
    if root is not None and out.resolve().is_relative_to(Path(root).resolve()):
        raise EvaluationError(
            f"{out} lies in data.test.root={root}, so that what is decoded would be evaluated the next time: give "
            "another out=FOLDER."
        )
    for name, value in {"data.test.root": root, **{name: getattr(settings, name) for name in _READ}}.items():
        if value and any(Path(value).resolve().is_relative_to((out / each).resolve()) for each in _WRITTEN):
            raise EvaluationError(f"{name}={value} lies where results go, and would be lost: give another out=FOLDER.")
    found = _recorded(out)
    if found != identity:
        taken = [name for name in _WRITTEN if (out / name).exists()]
        if taken and found is None and RESULTS not in taken:
            raise EvaluationError(f"{out} holds {taken[0]}, which no evaluation wrote: give another out=FOLDER.")
        if taken and not settings.overwrite:
            raise EvaluationError(
                f"{out} holds results of {_difference(found, identity)}: give another out=FOLDER, or overwrite=true to "
                "replace them."
            )
    else:
        taken = []
    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / ".lock")  # goes with the process that holds it
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise EvaluationError(f"{out}: another evaluation writes there: wait for it, or give out=FOLDER.") from None
    try:
        for name in taken:
            discard(out / name)
        write_text(out / SETTINGS, text + "\n")
        yield out
    finally:
        lock.release()


def _identity(settings: EvaluationSettings, facts: RunFacts) -> dict[str, Any]:
    values = {name: value for name, value in asdict(settings).items() if name not in _WITHOUT_EFFECT}
    if (root := settings.data.get("root")) is not None:
        values["data"]["root"] = str(Path(root).resolve())
    values["data"].pop("sets", None)  # of what was found there, the bytes count
    if facts.data_sha256 is not None:
        values["data_sha256"] = facts.data_sha256
    return {"weights_sha256": facts.weights_sha256, **values, "device": facts.device, "dtype": facts.dtype}


def _own_name(settings: EvaluationSettings, identity: str) -> str:
    checkpoint = Path(settings.ckpt or "codec").resolve()
    name = settings.codec_name if settings.codec else f"{checkpoint.parent.name}_{checkpoint.stem}"
    name = name[-_LONGEST_NAME:]
    return f"{name}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"


def _recorded(out: Path) -> Any:
    """What is recorded in the folder; None: nothing, or nothing that can be read."""
    try:
        return json.loads((out / SETTINGS).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def _difference(found: Any, identity: dict[str, Any]) -> str:
    if not isinstance(found, dict):
        return "unknown settings"
    names = [name for name in identity if found.get(name) != identity[name]]
    other = ["other weights"] if "weights_sha256" in names else []
    settings = [name for name in names if name != "weights_sha256"]
    return " and ".join([*other, *([f"another choice of {', '.join(settings)}"] if settings else [])])
