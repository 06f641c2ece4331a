"""What all stages of training share: both optimisers, the one counter of training steps, averages, logs."""

import copy
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.profiler import record_function

from glc_train.files import write_text
from glc_train.losses import Adversary
from glc_train.training.averaging import GradientAverage
from glc_train.training.distributed import Draws, all_mean, numbers_from_rank_zero
from glc_train.training.muon import Muon, matrices
from glc_train.training.optimisers import adamw, given_options, scale_rates, step_unless
from glc_train.training.settings import StageSettings
from glc_train.training.sharding import is_sharded, local, shard, total_norm
from glc_train.training.validation import ValidatedModule
from glc_train.weights import CHECKPOINT_CONFIG, Codec

_OPTIMISERS = "optimisers"  # key of their names in a checkpoint
_COUNTERS = "counters"  # key of a stage's counters there


class TrainingError(RuntimeError):
    """Training cannot start or go on; says why and what to do."""


@dataclass(frozen=True)
class Losses:
    """Result of one forward pass in training.

    Attributes:
        picture: scalar loss that depends on x_hat alone (None if the stage decodes no picture).
        other: scalar loss through everything else (None if there is none).
        x_hat, x: (B, 3, H, W) reconstruction, part of the graph, and its original (None as above); of clips the coded
            frames, one after the other.
        terms: scalars for the log.
        seen: what `after_step` needs of this pass, without gradient.
    """

    terms: Mapping[str, Tensor]
    other: Tensor | None = None
    picture: Tensor | None = None
    x_hat: Tensor | None = None
    x: Tensor | None = None
    seen: Any = None


def mean_terms(passes: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Means of the scalars of several passes, each over the passes that have it."""
    names = dict.fromkeys(name for terms in passes for name in terms)
    return {name: torch.stack([terms[name].float() for terms in passes if name in terms]).mean() for name in names}


class Stage(ValidatedModule):
    """Base of the stages. Optimises by hand, because a discriminator needs it, and in this one place only.

    Args:
        codec: what is trained; parts that `trained_modules` leaves out are frozen.
        codec_config: configuration of the codec, kept in checkpoints.
        settings: see `StageSettings`.
        adversary: discriminator, or None.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    """Parts of the codec, such as `autoencoder`, that must have been trained before; the others may be new."""
    codebook_of: ClassVar[str] = "autoencoder"
    """Part of the codec whose codebook is trained."""

    def __init__(
        self,
        codec: Codec,
        codec_config: Mapping[str, Any],
        settings: StageSettings,
        adversary: Adversary | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.codec: Codec = codec
        self.codec_config = dict(codec_config)
        self.settings = settings
        self.adversary = adversary
        self.ema: Codec | None = None
        self.fresh = True  # whether the stage's codebook is untrained, and still has to get its entries from the data
        self.train_step = 0  # our own counter: Lightning's counts every optimiser's steps
        self.seconds = 0.0
        # What a GPU counts stays there: to read it is to wait.
        self.register_buffer("bad_steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("bad_in_a_row", torch.zeros((), dtype=torch.int64), persistent=False)
        self._clock: float | None = None
        self._given: list[dict[str, Any]] = []

    bad_steps: Tensor
    bad_in_a_row: Tensor

    # ---------------------------------------------------------------- for the stages to define

    def trained_modules(self) -> Iterable[nn.Module]:
        """Modules that the main optimiser trains."""
        raise NotImplementedError

    def losses(self, x: Tensor, draws: Draws) -> Losses:
        """One forward pass on crops x (B, 3, H, W) or clips (B, T, 3, H, W) in [-1, 1]; all randomness from `draws`."""
        raise NotImplementedError

    def after_step(self, seen: Sequence[Any], draws: Draws) -> None:
        """Called after each training step with `Losses.seen` of all its passes."""

    # ---------------------------------------------------------------- set-up

    def prepare(self) -> None:
        """Freezes what is not trained and makes the average; to be called after weights are loaded, if at all."""
        self.codec.requires_grad_(False)
        for module in self.trained_modules():
            module.requires_grad_(True)
        self.codec.autoencoder.checkpoint_activations(self.settings.checkpoint_activations)
        frozen: dict[int, Any] = {id(p): p for p in self.codec.parameters() if not p.requires_grad}
        self.ema = copy.deepcopy(self.codec, frozen).requires_grad_(False).eval()  # shares what is frozen

    def configure_model(self) -> None:
        """Prepares a stage that is not prepared yet; with `Sharding`, spreads the parameters over the ranks."""
        if self.ema is None:
            self.prepare()
        mesh = self.device_mesh
        if mesh is not None and not any(is_sharded(p) for p in self.parameters()):
            shard(self, mesh["data_parallel"])

    @torch.no_grad()
    def _average(self) -> None:
        """Moves the averaged weights towards the present ones; buffers are copied."""
        assert self.ema is not None
        n = self.train_step
        decay = min(self.settings.ema_decay, n / (10 + n))
        pairs = [(a, p) for a, p in zip(self.ema.parameters(), self.codec.parameters(), strict=True) if a is not p]
        torch._foreach_lerp_([local(a) for a, _ in pairs], [local(p) for _, p in pairs], 1 - decay)
        for averaged, current in zip(self.ema.buffers(), self.codec.buffers(), strict=True):
            averaged.copy_(current)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW for the codec, with `muon_lr` also Muon, and with an adversary AdamW for the discriminator.

        A subclass may give others. Those of the discriminator, if there is one, are the last. The stage's schedule
        multiplies the learning rates that they are made with.
        """
        s = self.settings
        parts = self.trained_modules() if s.muon_for == "all" else [self.codec.autoencoder]
        weights = [] if s.muon_lr is None else matrices(parts)
        if s.muon_lr is not None and not weights:
            raise TrainingError("this stage trains no layer of the auto-encoder: set muon_for=all or muon_lr=null")
        apart = {id(weight) for weight in weights}
        others = [p for m in self.trained_modules() for p in m.parameters() if id(p) not in apart]
        optimisers: list[torch.optim.Optimizer] = [adamw(others, s.lr, s.betas, s.weight_decay)]
        if s.muon_lr is not None:
            optimisers.append(Muon(weights, lr=s.muon_lr))
        if self.adversary is not None:
            optimisers.append(adamw(list(self.adversary.parameters()), self.adversary.lr, (0.5, 0.9), 0.0))
        return optimisers

    def on_fit_start(self) -> None:
        """Notes how the optimisers were made, before a checkpoint changes them.

        Raises:
            TrainingError: they cannot serve.
        """
        optimisers = self._all_optimisers()
        self._given = given_options(optimisers)
        if self.lr_schedulers():
            raise TrainingError(
                f"{type(self).__name__}.configure_optimizers gives a scheduler of the learning rate: the stage has its "
                "own, see its option `schedule`; give optimisers alone"
            )
        if self.adversary is not None and len(optimisers) < 2:
            raise TrainingError(
                f"{type(self).__name__}.configure_optimizers gives {len(optimisers)} optimiser, and the discriminator "
                "needs one of its own: give it as the last, or set adversary=null"
            )

    def _all_optimisers(self) -> list[LightningOptimizer]:
        optimisers = self.optimizers()
        return list(optimisers) if isinstance(optimisers, list) else [optimisers]

    @property
    def frozen_networks(self) -> list[nn.Module]:
        """Networks of the pixel losses and of the discriminator that are no part of the stage's state."""
        parts = (getattr(self, "picture", None), None if self.adversary is None else self.adversary.discriminator)
        return [network for part in parts for network in getattr(part, "networks", ())]

    @property
    def progress(self) -> float:
        """Share of the stage done, 0 to 1."""
        done = self.settings.share_done(self.train_step, self.seconds)
        return min(1.0, done / self.settings.until)

    # ---------------------------------------------------------------- one step

    def training_step(self, batch: Tensor, batch_idx: int) -> None:
        """One training step, whole: a checkpoint after it has no gradients under way."""
        self._tick()
        accumulate, step = self.settings.accumulate, self.train_step
        parts = batch.chunk(accumulate) if accumulate > 1 else (batch,)
        passes: list[dict[str, Tensor]] = []
        seen: list[Any] = []
        for k, part in enumerate(parts):
            draws = Draws(self.settings.seed, step * accumulate + k, self.global_rank, self.trainer.world_size)
            with record_function("losses"):
                losses = self.losses(part, draws)
            passes.append(self._backward(losses, step, len(part) / len(batch), last=k == len(parts) - 1))
            seen.append(losses.seen)
            del losses  # and with it the graph
        terms = mean_terms(passes)
        with record_function("optimiser"):
            terms |= self._optimise(step, against="loss/discriminator" in terms)
        with record_function("codebook"):
            self.after_step(seen, draws)
        with record_function("EMA"):
            if self.ema is not None:
                self._average()
        self.train_step += 1
        # A metric named "step" is what Lightning's loggers take for the abscissa. A tensor, because Lightning makes a
        # number one on the device, and waits.
        self.log_dict({f"train/{k}": v for k, v in terms.items()} | {"step": torch.tensor(float(step))})
        self.log("loss", terms["loss"], prog_bar=True, logger=False)
        if self.progress >= 1.0:
            self.trainer.should_stop = True

    def _tick(self) -> None:
        now = time.monotonic()
        self.seconds += 0.0 if self._clock is None else min(now - self._clock, 60.0)
        self._clock = now
        if self.settings.minutes:
            (self.seconds,) = numbers_from_rank_zero([self.seconds])  # every rank must stop at the same step

    def _optimise(self, step: int, against: bool) -> dict[str, Tensor]:
        """Steps the optimisers; returns what there is to log."""
        optimisers = self._all_optimisers()
        factor = self.settings.schedule(step, self.progress * self.settings.until)
        scale_rates(optimisers, self._given, factor)
        lr = torch.as_tensor(optimisers[0].param_groups[0]["lr"], dtype=torch.float32)
        discriminator = [] if self.adversary is None else [optimisers.pop()]
        norm = self._clip_and_step(optimisers, self._averages[0])
        self._count_bad(~torch.isfinite(norm))
        terms = {
            "grad_norm": norm,
            "lr": lr,
            "skipped_steps": self.bad_steps.float(),
        }
        if against:
            assert self.adversary is not None
            terms["grad_norm/discriminator"] = self._clip_and_step(discriminator, self._averages[1])
        return terms

    @cached_property
    def _averages(self) -> list[GradientAverage]:
        """Of the codec's gradients and of the discriminator's."""
        sides = (self.trained_modules(), [] if self.adversary is None else [self.adversary])
        return [GradientAverage(p for module in side for p in module.parameters()) for side in sides]

    def _backward(self, losses: Losses, step: int, share: float, last: bool) -> dict[str, Tensor]:
        """Gradients of both sides, times `share`; returns what there is to log. The last of a step completes them."""
        codec, discriminator = self._averages
        with record_function("backward"), codec.overlapping(last):
            terms, seen = self._generator_backward(losses, step, share)
            terms = dict(losses.terms) | terms
        if self.adversary is not None and self.adversary.learns(step) and losses.x_hat is not None:
            assert losses.x is not None
            with record_function("discriminator"):
                loss = self.adversary.discriminator_loss(losses.x, losses.x_hat, seen)
                with discriminator.overlapping(last):
                    self.manual_backward(share * loss)
            terms["loss/discriminator"] = loss.detach()
        return terms

    def _generator_backward(
        self, losses: Losses, step: int, share: float
    ) -> tuple[dict[str, Tensor], list[Tensor] | None]:
        """What there is to log, and what the discriminator has seen, if it has."""
        parts = [part for part in (losses.picture, losses.other) if part is not None]
        total = torch.stack([part.float() for part in parts]).sum()
        terms = {"loss": total.detach()}
        if losses.picture is None or self.adversary is None or not self.adversary.seen_by_generator(step):
            self.manual_backward(share * total)
            return terms, None
        assert losses.x_hat is not None
        (reconstruction,) = torch.autograd.grad(losses.picture, losses.x_hat, retain_graph=True)
        last_layer = self.codec.autoencoder.decoder.last_layer
        with record_function("discriminator"):
            through = self.adversary.generator_gradient(losses.x_hat, reconstruction, last_layer, all_mean)
        # One backward pass: a scalar whose gradient at x_hat is the combined gradient.
        carrier = (losses.x_hat * through.gradient.detach()).sum()
        self.manual_backward(share * (carrier if losses.other is None else carrier + losses.other))
        return terms | {"loss/generator": through.loss, "adaptive_weight": through.weight}, through.seen

    def _clip_and_step(self, optimisers: Sequence[Any], average: GradientAverage) -> Tensor:
        """Clips the average over ranks and steps, unless it is not finite; returns its norm."""
        average.wait()
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)  # float16 only
        scale = 1.0 if scaler is None else scaler.get_scale()
        gradients = [p.grad for p in average.parameters if p.grad is not None]
        norm = total_norm(gradients) / scale
        limit = self.settings.gradient_clip_val
        torch._foreach_mul_([local(g) for g in gradients], (limit / (norm + 1e-6)).clamp(max=1))
        for optimiser in optimisers:
            # The float16 scaler skips such steps itself, and must see them to lower its scale.
            if scaler is not None or step_unless(~torch.isfinite(norm), optimiser.optimizer):
                optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        return norm.detach()

    def _count_bad(self, bad: Tensor) -> None:
        self.bad_steps += bad
        self.bad_in_a_row.add_(1).mul_(bad)
        most = max(1, self.settings.max_bad_steps)
        if (self.train_step + 1) % most or int(self.bad_in_a_row) < most:
            return
        names: list[str] = getattr(getattr(self.trainer, "datamodule", None), "last_batch_names", list)()
        dump = Path(self.trainer.default_root_dir) / f"bad_batch_rank{self.global_rank}.json"
        write_text(dump, json.dumps({"step": self.train_step, "pictures": names}, indent=1) + "\n")
        raise TrainingError(
            f"{int(self.bad_in_a_row)} steps in a row had a loss or gradient that is not finite "
            f"(step {self.train_step}; the last batch's pictures are named in {dump}): "
            "lower the learning rate or the clipping norm, or use trainer.precision=32-true"
        )

    # ---------------------------------------------------------------- checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps the counters, the configuration, with which the checkpoint alone gives a codec, and the optimisers."""
        checkpoint[CHECKPOINT_CONFIG] = json.dumps(self.codec_config)
        checkpoint[_OPTIMISERS] = self._optimiser_names
        checkpoint[_COUNTERS] = {"train_step": self.train_step, "seconds": self.seconds, "fresh": self.fresh}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes the counters; refuses the state of other optimisers, which PyTorch would fail on later.

        Raises:
            TrainingError: names both.
        """
        saved = checkpoint.get(_OPTIMISERS, self._optimiser_names)  # checkpoints of earlier versions do not say
        if saved != self._optimiser_names:
            raise TrainingError(
                f"the checkpoint was written with {' and '.join(saved)}, this run trains with "
                f"{' and '.join(self._optimiser_names)}: give muon_lr, muon_for and adversary (or _target_) as before, "
                "or another name= (or out=)"
            )
        counters = checkpoint.get(_COUNTERS) or self._earlier_counters(checkpoint.get("state_dict", {}))
        self.train_step, self.seconds, self.fresh = (counters[name] for name in ("train_step", "seconds", "fresh"))

    def _earlier_counters(self, state: dict[str, Tensor]) -> dict[str, Any]:
        """Those of checkpoints of earlier versions, which have them among the tensors."""
        found = {name: state.pop(name) for name in ("train_step", "seconds", "batches", "watch.steps") if name in state}
        step = int(found.get("train_step", 0))
        fresh = self.fresh and step <= getattr(self, "free_steps", 0)
        return {"train_step": step, "seconds": float(found.get("seconds", 0.0)), "fresh": fresh}

    @property
    def _optimiser_names(self) -> list[str]:
        """As `configure_optimizers` makes them; those of a subclass by its name."""
        maker = next(kind for kind in type(self).mro() if "configure_optimizers" in vars(kind))
        if maker is not Stage:
            return [f"the optimisers of {maker.__name__}"]
        muon = [] if self.settings.muon_lr is None else [f"Muon (muon_for={self.settings.muon_for})"]
        return ["AdamW", *muon, *([] if self.adversary is None else ["AdamW of the discriminator"])]

    @property
    def averaged(self) -> Codec:
        """The codec with averaged weights."""
        return self.codec if self.ema is None else self.ema
