"""What an evaluation is asked to do, checked when it is made."""

from __future__ import annotations

import inspect
import math
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from typing import Any, cast, get_args, get_origin, get_type_hints

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from glc_train import provenance
from glc_train.effort import HIGHEST_EFFORT
from glc_train.evaluation.results import CODEC, EvaluationError, RunFacts
from glc_train.evaluation.sets import EvaluationSet
from glc_train.files import sha256_of
from glc_train.memory import parse
from glc_train.precision import AUTO, dtype_of, name_of

Section = dict[str, Any]
"""A configuration with `_target_`, plain values."""


@dataclass
class EvaluationSettings:
    """What `conf/evaluate.yaml` says; see the comments there.

    Attributes:
        data: of the data set.
        metrics, baselines: by their names in the results.
        codec: under test, by its name in the results; nothing: the GLC codec of `ckpt`.
        decoded, bits: of the codec "folder", see `DecodedFolder`.
        effort: 0 to 9, of the GLC codec.
        distortion: what the effort lessens.

    Raises:
        EvaluationError: a number out of range, or no such device.
    """

    data: Section
    ckpt: str | None = None
    trusted: list[str] = field(default_factory=list)
    out: str | None = None
    overwrite: bool = False
    strict: bool = False
    qualities: list[int] | None = None
    rates: list[float] | None = None
    effort: int = 0
    distortion: dict[str, Any] = field(default_factory=lambda: {"_target_": "glc_train.effort.PerceptualMixture"})
    limit: int | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    codec: dict[str, Any] = field(default_factory=dict)
    decoded: str | None = None
    bits: str | None = None
    baselines: dict[str, Any] = field(default_factory=dict)
    device: str = "auto"
    dtype: str = AUTO
    memory: str | None = None
    save_pictures: bool = True
    inception: str | None = None
    patch_size: int = 256
    workers: int = 1
    progress: bool = True

    def __post_init__(self) -> None:
        for name in ("limit", "patch_size", "workers"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise EvaluationError(f"{name}={value}: give 1 or more.")
        self._check_codec()
        if self.memory is not None:
            try:
                parse(self.memory)
            except ValueError as error:
                raise EvaluationError(f"memory={error}.") from error
        try:
            torch.empty(0, device=self.torch_device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            reason = str(error).splitlines()[0].rstrip(".")
            reason = "no such device" if reason.startswith("Expected one of") else reason  # a list of twenty names
            raise EvaluationError(
                f"device={self.device}: not usable here ({reason}); give cpu, cuda or auto."
            ) from error

    def _check_codec(self) -> None:
        if (self.decoded or self.bits) and "folder" not in self.codec:
            raise EvaluationError(
                "decoded= and bits= are of decoded pictures in a folder: give codec=folder with them."
            )
        if len(self.codec) > 1:
            raise EvaluationError(f"codec has {' and '.join(self.codec)}: give one, the others as baselines.")
        if self.codec and self.ckpt is not None:
            raise EvaluationError(f"ckpt={self.ckpt}: {self.codec_name} takes no weights from there; leave it out.")
        if self.codec and self.effort:
            raise EvaluationError(f"effort={self.effort}: {self.codec_name} takes none; leave it out.")
        if not 0 <= self.effort <= HIGHEST_EFFORT:
            raise EvaluationError(f"effort={self.effort}: give 0 to {HIGHEST_EFFORT}.")
        if self.codec_name in self.baselines:
            raise EvaluationError(f"{self.codec_name} is the codec under test: leave it out of the baselines.")
        rates = self.rates
        if rates is not None and not (0 < len(set(rates)) == len(rates) and all(0 < rate < math.inf for rate in rates)):
            raise EvaluationError(f"rates={rates}: give distinct positive bits per pixel, as [0.02,0.04].")

    @classmethod
    def from_config(cls, config: DictConfig) -> EvaluationSettings:
        """Settings from a configuration; one value stands for a list of one, and null for an empty one.

        Raises:
            EvaluationError: an option that is unknown, or has a value of another kind; see also the class.
        """
        values = cast(Section, OmegaConf.to_container(config, resolve=True))
        data = values.get("data") or {}
        if not isinstance(data.get("test"), dict):
            raise EvaluationError("The chosen data has nothing to test with: choose another one, as data=packaged.")
        return cast(EvaluationSettings, _typed(cls, values | {"data": data["test"]}))

    @property
    def codec_name(self) -> str:
        """Of the codec under test, in the results."""
        return next(iter(self.codec), CODEC)

    @property
    def torch_device(self) -> str:
        """`auto` resolved."""
        return ("cuda" if torch.cuda.is_available() else "cpu") if self.device == "auto" else self.device

    def build_data(self) -> EvaluationSet:
        """The data set. Raises EvaluationError where its configuration does not fit."""
        return cast(EvaluationSet, build("data.test", self.data))

    def facts(self, data: EvaluationSet) -> RunFacts:
        """What makes the results of this evaluation on a data set, read when they are written."""
        return RunFacts(
            dataset=data.name,
            codec=self.codec_name,
            data_sha256=getattr(data, "digest", None),
            checkpoint=self.ckpt,
            weights_sha256=sha256_of(self.ckpt) if self.ckpt else None,
            device=self.torch_device,
            hardware=provenance.hardware(self.torch_device),
            dtype=name_of(dtype_of(self.dtype, self.torch_device)),
            effort=self.effort,
        )


def build(key: str, section: Any, **arguments: Any) -> Any:
    """What the configuration `section` describes; `arguments` stand where it says null, at any depth.

    Raises:
        EvaluationError: there is no such class, or it takes other arguments.
        Exception: of the class itself, as it is.
    """
    if not isinstance(section, Mapping) or "_target_" not in section:
        raise EvaluationError(f"{key} is not the description of an object: give {key}._target_=CLASS.")
    section = _filled(section, arguments)
    target = section.pop("_target_")
    try:
        kind = pkgutil.resolve_name(target)
    except (ImportError, AttributeError, ValueError) as error:
        raise EvaluationError(f"{key}._target_={target}: there is no such class ({error}).") from error
    if isinstance(kind, type) and is_dataclass(kind):
        return _typed(kind, section, f"{key}.")
    partial = section.get("_partial_", False)
    given = {name: value for name, value in section.items() if name != "_partial_"}
    try:
        (inspect.signature(kind).bind_partial if partial else inspect.signature(kind).bind)(**given)
    except TypeError as error:
        raise EvaluationError(f"{key}: {error}.") from error
    try:
        return instantiate({"_target_": target, **section}, _convert_="all")
    except InstantiationException as error:
        raise (error.__cause__ or error) from None


def _filled(section: Any, arguments: Mapping[str, Any]) -> Any:
    if not isinstance(section, Mapping):
        return section
    return {
        name: arguments.get(name) if value is None else _filled(value, arguments) for name, value in section.items()
    }


def check_qualities(qualities: Sequence[int], levels: int) -> None:
    """Raises EvaluationError unless there are some and they are distinct numbers from 0 to `levels` less one."""
    if not qualities or len(set(qualities)) != len(qualities) or not all(0 <= q < levels for q in qualities):
        raise EvaluationError(f"qualities={list(qualities)}: give distinct integers from 0 to {levels - 1}.")


def _typed(kind: type, values: Section, prefix: str = "") -> Any:
    """A dataclass of `values`, each of its field's type, with a list wherever a field wants one."""
    values = dict(values)
    for name, hint in get_type_hints(kind).items():
        value, parts = values.get(name), (hint, *get_args(hint))
        if name in values and any(get_origin(part) is list for part in parts) and not isinstance(value, list | dict):
            optional = type(None) in parts
            values[name] = [value] if value is not None else None if optional else []
    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), values))
    except ConfigKeyError as error:
        raise EvaluationError(f"{prefix}{error.full_key}: there is no such option; leave it out.") from error
    except OmegaConfBaseException as error:
        raise EvaluationError(f"{prefix}{error.full_key}: {str(error).splitlines()[0]}.") from error
