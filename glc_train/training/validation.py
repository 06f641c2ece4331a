"""Validation on whole pictures and clips with the averaged weights: figures for the log and a panel to look at."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.nn import functional as F

from glc_train.backbones import BackboneError
from glc_train.codecs import ImageCodec, VideoCodec
from glc_train.data import draw_panel
from glc_train.data.pictures import write_picture
from glc_train.metrics import LPIPS
from glc_train.pixels import tensor_to_picture
from glc_train.training.latent_stage import shown_levels
from glc_train.training.stage import Stage

log = logging.getLogger(__name__)
_Cell = tuple[np.ndarray, str]  # of the panel: a picture and what it is


@dataclass(frozen=True)
class Decoded:
    """One way in which a picture or clip was coded.

    Attributes:
        name: of the way.
        x_hat: (T, 3, H, W) about [-1, 1], of T frames; a picture is one.
        bpp: rate of each frame in bits per pixel.
    """

    name: str
    x_hat: Tensor
    bpp: Sequence[float]


# A codec and x, (1, 3, H, W) or (1, T, 3, H, W) in [-1, 1] → the ways in which it was coded.
Decode = Callable[[Any, Tensor], list[Decoded]]


@torch.no_grad()
def decode_clip(codec: VideoCodec, clip: Tensor) -> list[Decoded]:
    """A clip (1, T, 3, H, W) at the shown qualities."""
    pixels = clip.shape[-1] * clip.shape[-2]
    ways = []
    for q in shown_levels(codec.quality_levels):
        frames = codec(clip, q)
        rates = [float(frame.bits_y + frame.bits_z) / pixels for frame in frames]
        ways.append(Decoded(f"q{q}", torch.cat([frame.x_hat for frame in frames]), rates))
    return ways


@torch.no_grad()
def decode_in_all_ways(codec: ImageCodec, x: Tensor, indices: bool, transform: bool) -> list[Decoded]:
    """x (1, 3, H, W) from the auto-encoder's indices (with `indices`) and at every quality (with `transform`)."""
    ways = [_decode_indices(codec, x)] if indices else []
    pixels = x.shape[-1] * x.shape[-2]
    for q in range(codec.quality_levels if transform else 0):
        out = codec(x, q)
        ways.append(Decoded(f"q{q}", out.x_hat, [float(out.bits_y + out.bits_z) / pixels]))
    return ways


def _decode_indices(codec: ImageCodec, x: Tensor) -> Decoded:
    model = codec.autoencoder
    with codec.autocast():
        quantised = model.quantiser(model.encoder(x, model.window))
        x_hat = model.decoder(quantised.vectors, model.window).float()
    bits = quantised.indices.numel() * torch.log2(torch.tensor(float(model.quantiser.codes)))
    return Decoded("stage I", x_hat, [float(bits) / (x.shape[-1] * x.shape[-2])])


class Validate(Callback):
    """Measures PSNR, LPIPS (AlexNet) and the rate on the validation pictures or clips, and writes a panel each time.

    Args:
        folder: where panels go, as `step_00001000.png`.
        decode: how a codec shows a picture or clip.
        panel_pictures: pictures or clips of the panel.
        panel_frames: at most so many frames of each clip, the first and the last among them.
    """

    def __init__(self, folder: Path, decode: Decode, panel_pictures: int = 3, panel_frames: int = 3) -> None:
        self.folder = folder
        self.decode = decode
        self.panel_pictures = panel_pictures
        self.panel_frames = panel_frames
        self._lpips: LPIPS | None = None
        self._sums: dict[str, list[float]] = {}
        self._rows: list[list[_Cell]] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Loads LPIPS; without its backbone the figure is left out, and the log says so."""
        try:
            self._lpips = LPIPS("alex")
        except BackboneError as error:
            log.warning("validation leaves LPIPS out: %s", error)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forgets the last validation."""
        if self._lpips is not None:
            self._lpips.to(pl_module.device)
        self._sums, self._rows = {}, []

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Measures one `ValPicture`, `ValClip` or tensor of that kind; every frame of a clip counts alike."""
        assert isinstance(pl_module, Stage)
        x: Tensor = getattr(batch, "x", batch).to(pl_module.device)
        originals = x.reshape(-1, *x.shape[-3:])
        codec = pl_module.averaged
        codec.compute_dtype = torch.bfloat16 if trainer.precision == "bf16-mixed" else torch.float32
        last = len(originals) - 1
        shown = sorted({round(k * last / max(1, self.panel_frames - 1)) for k in range(self.panel_frames)})
        rows = {t: [(tensor_to_picture(originals[t : t + 1]), f"original {t}" if last else "original")] for t in shown}
        with torch.autocast(x.device.type, enabled=False):
            for way in self.decode(codec, x):
                cells = self._measure(way, originals)
                for t in shown:
                    rows[t].append(cells[t])
        if batch_idx < self.panel_pictures:
            self._rows.extend(rows.values())

    def _measure(self, way: Decoded, originals: Tensor) -> list[_Cell]:
        """Notes the mean figures of one way to code the originals (T, 3, H, W); cells of all frames."""
        cells: list[_Cell] = []
        figures: dict[str, list[float]] = {}
        for x, decoded, bpp in zip(originals.split(1), way.x_hat.split(1), way.bpp, strict=True):
            x_hat = decoded.clamp(-1, 1)
            lpips = None if self._lpips is None else self._lpips((x + 1) / 2, (x_hat + 1) / 2)
            psnr = float(-10 * torch.log10(F.mse_loss(x_hat, x) / 4 + 1e-10))
            measured = {"psnr": psnr, "bpp": bpp} | ({} if lpips is None else {"lpips": float(lpips)})
            for name, value in measured.items():
                figures.setdefault(name, []).append(value)
            score = "" if lpips is None else f" LPIPS {float(lpips):.3f}"
            cells.append((tensor_to_picture(x_hat), f"{way.name}: {bpp:.4f} bpp{score}"))
        for name, values in figures.items():
            column = f"val/{name}/{way.name.replace(' ', '_')}"
            self._sums.setdefault(column, []).append(sum(values) / len(values))
        return cells

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs the means and writes the panel."""
        assert isinstance(pl_module, Stage)
        for name, values in self._sums.items():
            pl_module.log(name, sum(values) / len(values), sync_dist=True)
        pl_module.log("step", float(pl_module.train_step), sync_dist=True)
        if not trainer.is_global_zero or trainer.sanity_checking or not self._rows:
            return
        step = pl_module.train_step
        panel = draw_panel(self._rows)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_picture(self.folder / f"step_{step:08d}.png", panel)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image("panel", panel, step, dataformats="HWC")
            elif hasattr(logger, "log_image"):
                logger.log_image("panel", [panel], step=step)
        means = ", ".join(f"{n.removeprefix('val/')} {sum(v) / len(v):.4f}" for n, v in self._sums.items())
        trainer.print(f"step {step}: {means}")
