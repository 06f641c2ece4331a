"""The models of conf/model as plain values, which `build_codec` and, under `transform`, `build_video` take."""

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

_MODELS = Path(__file__).resolve().parents[1] / "conf" / "model"


def model_config(name: str = "tiny") -> dict[str, Any]:
    """That of conf/model/NAME.yaml: "tiny", "video/tiny"; without references, made anew at every call."""
    config: Any = OmegaConf.to_container(OmegaConf.load(_MODELS / f"{name}.yaml"))
    return dict(config)
