"""What a stage started from and how far it came, in files beside its weights."""

import json
from pathlib import Path
from typing import Any

from glc_train.files import sha256_of, write_text
from glc_train.training.settings import StageSettings
from glc_train.training.stage import TrainingError

EXPORT = "weights.safetensors"  # what every stage ends with
START = "start.json"
SUMMARY = "summary.json"


def write_start(folder: Path, weights: Path | None) -> None:
    """Notes which weights the stage in `folder` starts from, as they are now."""
    record = {"weights": None} if weights is None else {"weights": str(weights), "sha256": sha256_of(weights)}
    write_text(folder / START, json.dumps(record, indent=1) + "\n")


def read_start(folder: Path) -> dict[str, Any]:
    """What `write_start` noted; empty for stages of earlier versions, and for those that have not begun."""
    path = folder / START
    found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return found


def write_summary(folder: Path, facts: dict[str, Any]) -> None:
    """Notes that the stage is done, and what came of it."""
    write_text(folder / SUMMARY, json.dumps(facts | {"start": read_start(folder)}, indent=1) + "\n")


def is_done(folder: Path, settings: StageSettings) -> bool:
    """Whether the stage was exported after as many steps (or minutes) as are asked for now; else it is extended.

    One that early stopping has ended is done.
    """
    summary = folder / SUMMARY
    if not (folder / EXPORT).is_file() or not summary.is_file():
        return False
    facts = json.loads(summary.read_text())
    done = settings.share_done(facts["steps"], 60 * facts["minutes"])
    return bool(done >= settings.until or facts.get("stopped_early", False))


def check_start(folder: Path, weights: Path | None, will_change: bool) -> None:
    """Refuses to go on with a stage, or to publish it, over other weights than it started from.

    Args:
        folder: of the stage.
        weights: that it would start from now; None: none are given.
        will_change: whether this run is about to train those weights further.

    Raises:
        TrainingError: says which, and what to do.
    """
    record = read_start(folder)
    if record and weights is not None and (will_change or sha256_of(weights) != record.get("sha256")):
        began = f"started from {record['weights'] or 'fresh weights'}"
        now = "which this run trains further" if will_change else f"and {weights} now is something else"
        raise TrainingError(
            f"{folder} {began}, {now}: move that folder away to train the stage anew, or choose other stages with run="
        )
    parent = weights or record.get("weights")
    if weights is None:
        _check_unchanged(folder, record)
    while parent is not None and Path(parent).name == EXPORT:
        folder = Path(parent).parent
        record = read_start(folder)
        _check_unchanged(folder, record)
        parent = record.get("weights")


def _check_unchanged(folder: Path, record: dict[str, Any]) -> None:
    parent = Path(record.get("weights") or "")
    if parent.is_file() and sha256_of(parent) != record["sha256"]:
        raise TrainingError(
            f"{folder} started from {parent}, which has changed since: move that folder away to train the stage anew"
        )
