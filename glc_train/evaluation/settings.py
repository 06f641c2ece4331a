"""What an evaluation is asked to do, checked when it is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, is_dataclass
from typing import Any, cast, get_args, get_origin, get_type_hints

import torch
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

from glc_train.evaluation.results import EvaluationError, RunFacts, fingerprint
from glc_train.metrics import METRIC_NAMES
from glc_train.precision import AUTO, dtype_of, name_of


@dataclass
class DataSettings:
    """What is evaluated.

    Attributes:
        name: of the data set.
        root: its folder; None: the photographs that scikit-image and scikit-learn ship, where `packaged` is true.
        packaged: see `root`.
        expected: number of pictures; None: any.
        published: name of published curves, see `load_published`.
        clips: whether it consists of clips. The rest is of clips alone:
        frames: how many of each count, from the first; None: all.
        only: names of the clips, without suffix; None: all.
        size: width and height of raw video.

    Raises:
        EvaluationError: a number out of range.
    """

    name: str = MISSING
    root: str | None = None
    packaged: bool = False
    expected: int | None = None
    published: str | None = None
    clips: bool = False
    frames: int | None = None
    only: list[str] | None = None
    size: list[int] | None = None

    def __post_init__(self) -> None:
        if self.frames is not None:
            _at_least_one("data.frames", self.frames)
        if self.size is not None and (len(self.size) != 2 or min(self.size) < 1):
            raise EvaluationError(f"data.size={self.size}: give '[WIDTH,HEIGHT]' in pixels.")
        if self.only == []:
            raise EvaluationError("data.only=[] leaves no clip: give '[NAME,NAME]', or null for all.")

    def folder(self) -> str:
        """`root`. Raises EvaluationError where it is not known."""
        if self.root is None:
            raise EvaluationError(f"The folder of {self.name} is not known: give data.root=FOLDER.")
        return self.root


@dataclass
class EvaluationSettings:
    """What ``conf/evaluation`` says; see the comments there.

    Raises:
        EvaluationError: a number out of range, or no such device.
    """

    data: DataSettings
    ckpt: str | None = None
    out: str | None = None
    overwrite: bool = False
    strict: bool = False
    qualities: list[int] | None = None
    limit: int | None = None
    metrics: list[str] = field(default_factory=lambda: list(METRIC_NAMES))
    baselines: list[str] = field(default_factory=list)
    device: str = "auto"
    dtype: str = AUTO
    save_pictures: bool = True
    inception: str | None = None
    patch_size: int = 256
    workers: int = 1
    progress: bool = True

    def __post_init__(self) -> None:
        for name in ("limit", "patch_size", "workers"):
            if (value := getattr(self, name)) is not None:
                _at_least_one(name, value)
        try:
            torch.empty(0, device=self.torch_device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            reason = str(error).splitlines()[0].rstrip(".")
            raise EvaluationError(
                f"device={self.device}: not usable here ({reason}); give cpu, cuda or auto."
            ) from error

    @classmethod
    def from_config(cls, config: DictConfig) -> EvaluationSettings:
        """Settings from a configuration; one value stands for a list of one, and null for an empty one.

        Raises:
            EvaluationError: an option that is unknown, has no value, or one of another kind; see also the class.
        """
        try:
            values = _with_lists(cls, cast(dict[str, Any], OmegaConf.to_container(config, resolve=True)))
            return cast(EvaluationSettings, OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(cls), values)))
        except ConfigKeyError as error:
            raise EvaluationError(f"{error.full_key}: there is no such option; leave it out.") from error
        except MissingMandatoryValue as error:
            raise EvaluationError(f"{error.full_key} has no value: give {error.full_key}=VALUE.") from error
        except OmegaConfBaseException as error:
            raise EvaluationError(f"{error.full_key}: {str(error).splitlines()[0]}.") from error

    @property
    def torch_device(self) -> str:
        """``auto`` resolved."""
        return ("cuda" if torch.cuda.is_available() else "cpu") if self.device == "auto" else self.device

    def facts(self) -> RunFacts:
        """What makes the results of this evaluation, read when they are written."""
        return RunFacts(
            dataset=self.data.name,
            checkpoint=self.ckpt,
            weights_sha256=fingerprint(self.ckpt) if self.ckpt else None,
            device=self.torch_device,
            dtype=name_of(dtype_of(self.dtype, self.torch_device)),
        )


def check_qualities(qualities: Sequence[int], levels: int) -> None:
    """Raises EvaluationError unless there are some and they are distinct numbers from 0 to `levels` less one."""
    if not qualities or len(set(qualities)) != len(qualities) or not all(0 <= q < levels for q in qualities):
        raise EvaluationError(f"qualities={list(qualities)}: give distinct integers from 0 to {levels - 1}.")


def _at_least_one(name: str, value: int) -> None:
    if value < 1:
        raise EvaluationError(f"{name}={value}: give 1 or more.")


def _with_lists(kind: type, values: dict[str, Any]) -> dict[str, Any]:
    """`values` for a dataclass, with a list wherever it wants one."""
    values = dict(values)
    for name, hint in get_type_hints(kind).items():
        value, parts = values.get(name), (hint, *get_args(hint))
        if is_dataclass(hint) and isinstance(value, dict):
            values[name] = _with_lists(cast(type, hint), value)
        elif name in values and any(get_origin(part) is list for part in parts) and not isinstance(value, list | dict):
            optional = type(None) in parts
            values[name] = [value] if value is not None else None if optional else []
    return values
