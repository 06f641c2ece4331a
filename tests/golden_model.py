"""The base model with the parameters of the golden figures."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor


def fill_module(golden: Path) -> ModuleType:
    """The module that makes golden parameters and pictures."""
    spec = importlib.util.spec_from_file_location("golden_fill", golden / "fill.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def published_state(golden: Path, kind: str = "image") -> dict[str, Tensor]:
    """State under the published names."""
    fill = fill_module(golden)
    seed = json.loads((golden / "meta.json").read_text())["weight_seed"]
    shapes = json.loads((golden / f"{kind}_parameters.json").read_text())
    return {
        name: torch.from_numpy(np.ascontiguousarray(fill.parameter(name, tuple(shape), seed))) for name, shape in shapes.items()
    }
