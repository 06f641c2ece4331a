"""The table of codecs as configuration groups, and a codec of the table by its name."""

from __future__ import annotations

from importlib import resources
from typing import Any, cast

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from glc_train.evaluation.baselines.search import Baseline
from glc_train.evaluation.results import EvaluationError
from glc_train.evaluation.settings import Section, build

SIZES = {"": 1, "_half": 2, "_quarter": 4}


def baseline_sections() -> dict[str, Section]:
    """What describes each codec of `table.yaml`, at each of the `SIZES`, by name."""
    text = (resources.files("glc_train.evaluation.baselines") / "table.yaml").read_text(encoding="utf-8")
    table: Any = OmegaConf.to_container(OmegaConf.create(text))
    return {
        f"{name}{size}": section if divisor == 1 else _reduced(section, divisor)
        for name, section in table.items()
        for size, divisor in SIZES.items()
    }


def _reduced(section: Section, divisor: int) -> Section:
    return {"_target_": "glc_train.evaluation.Reduced", "codec": section, "divisor": divisor}


def load_baseline(name: str) -> Baseline:
    """A codec of the table. Raises EvaluationError where there is none of that name, or its package is missing."""
    sections = baseline_sections()
    if name not in sections:
        raise EvaluationError(f"There is no baseline {name!r}: choose among {', '.join(sections)}.")
    return cast(Baseline, build(name, sections[name]))


def register() -> None:
    """Makes each codec an option of the groups `codec` and `baselines` of conf/evaluate.yaml."""
    store = ConfigStore.instance()
    store.store("glc", {}, group="codec")  # the codec of `ckpt`
    folder = {"_target_": "glc_train.evaluation.DecodedFolder", "decoded": "${decoded}", "bits": "${bits}"}
    store.store("folder", {"folder": folder}, group="codec")
    for name, section in baseline_sections().items():
        for group in ("codec", "baselines"):
            store.store(name, {name: section}, group=group)
