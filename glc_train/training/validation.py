"""Validation on whole pictures and clips with the averaged weights: how they are decoded, and means of the figures."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import lightning
import torch
from torch import Tensor
from torch.utils.data import DistributedSampler
from torchmetrics import MeanMetric

from glc_train.backbones import BackboneError
from glc_train.codecs import shown_levels
from glc_train.metrics import LPIPS, psnr
from glc_train.training.distributed import largest
from glc_train.weights import Codec

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Decoded:
    """One way in which a picture or clip was coded.

    Attributes:
        name: of the way.
        x_hat: (T, 3, H, W) about [-1, 1], of T frames; a picture is one.
        bpp: (T,) rate of each frame in bits per pixel.
    """

    name: str
    x_hat: Tensor
    bpp: Tensor


@dataclass(frozen=True)
class Scored(Decoded):
    """As `Decoded`, x_hat within [-1, 1], and (T,) PSNR in dB and LPIPS, `None` without its backbone."""

    psnr: Tensor
    lpips: Tensor | None


def decode_at_qualities(codec: Codec, x: Tensor) -> list[Decoded]:
    """A picture (1, 3, H, W) or clip (1, T, 3, H, W) at the shown qualities."""
    ways = []
    for q in shown_levels(codec.quality_levels):
        out = codec.reconstruct(x, q)
        bpp = out.bits.flatten() / (x.shape[-1] * x.shape[-2])
        ways.append(Decoded(f"q{q}", out.x_hat.reshape(-1, *x.shape[-3:]), bpp))
    return ways


def decode_indices(codec: Codec, x: Tensor) -> Decoded:
    """A picture (1, 3, H, W) from the indices of the auto-encoder's codebook."""
    model = codec.autoencoder
    latent = codec.encode_latent(x)
    with codec.autocast():
        quantised = model.quantiser(latent)
    x_hat = codec.decode_latent(quantised.vectors)
    bits = quantised.indices.numel() * torch.log2(torch.tensor([float(model.quantiser.codes)]))
    return Decoded("stage I", x_hat, bits / (x.shape[-1] * x.shape[-2]))


def fills_up(loader: Any, place: int) -> bool:
    """Whether item `place` of this rank was given to another as well, so that all ranks have equally many."""
    sampler = getattr(loader, "sampler", None)
    if not isinstance(sampler, DistributedSampler):
        return False
    return place * sampler.num_replicas + sampler.rank >= len(sampler.dataset)  # type: ignore[arg-type]


class Validation:
    """Means of PSNR, LPIPS (AlexNet) and rate over all validation pictures or clips of all ranks."""

    def __init__(self) -> None:
        self._lpips: LPIPS | None = None
        self._tried = False
        self._means: dict[str, MeanMetric] = {}

    def begin(self, device: torch.device) -> None:
        """Forgets the last validation. Without its backbone LPIPS is left out, on every rank, and the log says so."""
        if not self._tried:
            self._tried = True
            try:
                self._lpips = LPIPS("alex")
            except BackboneError as error:
                log.warning("validation leaves LPIPS out: %s", error)
            if largest([int(self._lpips is None)]) == [1]:
                self._lpips = None
        if self._lpips is not None:
            self._lpips.to(device)
        self._means = {}

    def score(self, way: Decoded, x: Tensor, counts: bool = True) -> Scored:
        """Measures one way to code x (T, 3, H, W); where it `counts`, every frame of a clip does alike."""
        x_hat = way.x_hat.clamp(-1, 1)
        pair = (x + 1) / 2, (x_hat + 1) / 2
        # Frame by frame: a clip of whole pictures at once would take much memory.
        frames = list(zip(pair[0].split(1), pair[1].split(1), strict=True))
        lpips = None if self._lpips is None else torch.cat([self._lpips(*frame).flatten() for frame in frames])
        scored = Scored(way.name, x_hat, way.bpp, psnr(*pair), lpips)
        for name in ("psnr", "bpp", "lpips"):
            value = getattr(scored, name)
            if value is not None:
                column = f"val/{name}/{way.name.replace(' ', '_')}"
                mean = self._means.setdefault(column, MeanMetric().to(x.device))
                mean.update(value.mean(), 1.0 if counts else 0.0)
        return scored

    def means(self) -> dict[str, Tensor]:
        """The mean of each figure so far, the same on every rank."""
        return {name: mean.compute() for name, mean in self._means.items()}


class ValidatedModule(lightning.LightningModule):
    """A module whose averaged codec is validated, by `Trainer.fit` as by `Trainer.validate`.

    Attributes:
        train_step: how many steps it has been trained.
    """

    train_step: int

    def __init__(self) -> None:
        super().__init__()
        self.validation = Validation()

    @property
    def averaged(self) -> Codec:
        """The codec with averaged weights."""
        raise NotImplementedError

    def ways(self, x: Tensor) -> list[Decoded]:
        """How a picture (1, 3, H, W) or clip (1, T, 3, H, W) in [-1, 1] is decoded in the validation."""
        return decode_at_qualities(self.averaged, x)

    def on_validation_epoch_start(self) -> None:
        """Forgets the last validation."""
        self.validation.begin(self.device)

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Any]:
        """Scores this rank's pictures or clips: a `ValPicture`, a `ValClip` or a tensor of that kind.

        Returns:
            `scored`: of each its frames (T, 3, H, W) and a `Scored` for each of its `ways`.
        """
        x: Tensor = getattr(batch, "x", batch)
        loaders = self.trainer.val_dataloaders
        loader = loaders[dataloader_idx] if isinstance(loaders, Sequence) else loaders
        first = batch_idx * (getattr(loader, "batch_size", None) or 1)
        self.averaged.compute_dtype = torch.bfloat16 if self.trainer.precision == "bf16-mixed" else torch.float32
        scored = []
        with torch.autocast(x.device.type, enabled=False):
            for place, item in enumerate(x.split(1), first):
                frames, counts = item.reshape(-1, *item.shape[-3:]), not fills_up(loader, place)
                scored.append((frames, [self.validation.score(way, frames, counts) for way in self.ways(item)]))
        return {"scored": scored}

    def on_validation_epoch_end(self) -> None:
        """Logs the means over all ranks."""
        means = self.validation.means()
        self.log_dict(means | {"step": float(self.train_step)}, sync_dist=True)
        if means and not self.trainer.sanity_checking:
            figures = ", ".join(f"{name.removeprefix('val/')} {float(mean):.4f}" for name, mean in means.items())
            self.trainer.print(f"step {self.train_step}: {figures}")
