"""Validation on whole pictures with the averaged weights: figures for the log and a panel to look at."""

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.nn import functional as F

from glc_train.backbones import BackboneError
from glc_train.codecs import ImageCodec, tensor_to_picture
from glc_train.data import ValPicture, draw_panel
from glc_train.data.pictures import write_picture
from glc_train.metrics import LPIPS
from glc_train.training.stage import Stage

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Decoded:
    """One way in which a picture was coded: its name, x_hat (1, 3, H, W) in [-1, 1], and the rate in bits per pixel."""

    name: str
    x_hat: Tensor
    bpp: float


@torch.no_grad()
def decode_in_all_ways(codec: ImageCodec, x: Tensor, with_transform: bool) -> list[Decoded]:
    """The stage I reconstruction of x (1, 3, H, W), then, with `with_transform`, every quality."""
    model = codec.autoencoder
    with codec._autocast():
        quantised = model.quantiser(model.encoder(x, model.window))
        x_hat = model.decoder(quantised.vectors, model.window).float()
    bits = quantised.indices.numel() * torch.log2(torch.tensor(float(model.quantiser.codes)))
    pixels = x.shape[-1] * x.shape[-2]
    ways = [Decoded("stage I", x_hat, float(bits) / pixels)]
    for q in range(codec.quality_levels if with_transform else 0):
        out = codec(x, q)
        ways.append(Decoded(f"q{q}", out.x_hat, float(out.bits_y + out.bits_z) / pixels))
    return ways


class Validate(Callback):
    """Measures PSNR, LPIPS (AlexNet) and the rate on the validation pictures, and writes a panel each time.

    Args:
        folder: where panels go, as `step_00001000.png`.
        with_transform: whether the transform codec is trained yet.
        panel_pictures: rows of the panel.
    """

    def __init__(self, folder: Path, with_transform: bool, panel_pictures: int = 3) -> None:
        self.folder = folder
        self.with_transform = with_transform
        self.panel_pictures = panel_pictures
        self._lpips: LPIPS | None = None
        self._sums: dict[str, list[float]] = {}
        self._rows: list[list[tuple[object, str]]] = []

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
        batch: ValPicture,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Measures one picture."""
        assert isinstance(pl_module, Stage)
        x = batch.x.to(pl_module.device)
        codec = pl_module.averaged
        codec.compute_dtype = torch.bfloat16 if trainer.precision == "bf16-mixed" else torch.float32
        row: list[tuple[object, str]] = [(tensor_to_picture(x), "original")]
        with torch.autocast(x.device.type, enabled=False):
            for way in decode_in_all_ways(codec, x, self.with_transform):
                x_hat = way.x_hat.clamp(-1, 1)
                lpips = None if self._lpips is None else self._lpips((x + 1) / 2, (x_hat + 1) / 2)
                psnr = float(-10 * torch.log10(F.mse_loss(x_hat, x) / 4 + 1e-10))
                figures = {"psnr": psnr, "bpp": way.bpp} | ({} if lpips is None else {"lpips": float(lpips)})
                for name, value in figures.items():
                    self._sums.setdefault(f"val/{name}/{way.name.replace(' ', '_')}", []).append(value)
                score = "" if lpips is None else f" LPIPS {float(lpips):.3f}"
                row.append((tensor_to_picture(x_hat), f"{way.name}: {way.bpp:.4f} bpp{score}"))
        if batch_idx < self.panel_pictures:
            self._rows.append(row)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs the means and writes the panel."""
        assert isinstance(pl_module, Stage)
        for name, values in self._sums.items():
            pl_module.log(name, sum(values) / len(values), sync_dist=True)
        pl_module.log("step", float(pl_module.train_step), sync_dist=True)
        if not trainer.is_global_zero or trainer.sanity_checking or not self._rows:
            return
        step = int(pl_module.train_step)
        panel = draw_panel(self._rows)  # type: ignore[arg-type]
        self.folder.mkdir(parents=True, exist_ok=True)
        write_picture(self.folder / f"step_{step:08d}.png", panel)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image("panel", panel, step, dataformats="HWC")
            elif hasattr(logger, "log_image"):
                logger.log_image("panel", [panel], step=step)
        means = ", ".join(f"{n.removeprefix('val/')} {sum(v) / len(v):.4f}" for n, v in self._sums.items())
        trainer.print(f"step {step}: {means}")
