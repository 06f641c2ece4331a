"""The groups `codec` and `baselines` of conf/evaluate.yaml, which are no files but made of a table of codecs.

They stand apart from what measures codecs, whose imports take seconds that help and mistakes need not wait for.
"""

from __future__ import annotations

from importlib import resources
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

SIZES = {"": 1, "_half": 2, "_quarter": 4}


def baseline_sections() -> dict[str, dict[str, Any]]:
    """What describes each codec of `table.yaml`, at each of the `SIZES`, by name."""
    text = (resources.files("glc_train") / "evaluation/baselines/table.yaml").read_text(encoding="utf-8")
    table: Any = OmegaConf.to_container(OmegaConf.create(text))
    return {
        f"{name}{size}": section if divisor == 1 else _reduced(section, divisor)
        for name, section in table.items()
        for size, divisor in SIZES.items()
    }


def _reduced(section: dict[str, Any], divisor: int) -> dict[str, Any]:
    return {"_target_": "glc_train.evaluation.Reduced", "codec": section, "divisor": divisor}


def register() -> None:
    """Makes each codec an option of the groups `codec` and `baselines` of conf/evaluate.yaml."""
    store = ConfigStore.instance()
    store.store("glc", {}, group="codec")  # the codec of `ckpt`
    folder = {"_target_": "glc_train.evaluation.DecodedFolder", "decoded": "${decoded}", "bits": "${bits}"}
    store.store("folder", {"folder": folder}, group="codec")
    compressai = {"_target_": "glc_train.evaluation.CompressAICodec", "architecture": None, "weights": None}
    for name, section in (baseline_sections() | {"compressai": compressai}).items():
        for group in ("codec", "baselines"):
            store.store(name, {name: section}, group=group)
