"""The settings that every stage has."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from glc_train.training.schedule import WarmupCosine

MuonFor = Literal["all", "autoencoder"]


@dataclass(frozen=True)
class StageSettings:
    """Settings that every stage has.

    Attributes:
        steps: training steps of the stage.
        minutes: if set, the stage also ends after this many minutes of training (resumed time included), with the
            schedules reaching their end then; such a run cannot be repeated exactly.
        until: share of steps or minutes after which the stage ends, wherever its schedules stand then.
        lr, weight_decay, betas: of AdamW.
        muon_lr: if set, the weights of linear layers and convolutions are trained by `Muon` with this rate, all else by
            AdamW: more progress per step, for about 40% more time on a CPU.
        muon_for: whose weights `Muon` trains: of every part, or of the auto-encoder alone.
        gradient_clip_val: largest norm of the gradient.
        accumulate: batches that make one training step. The data module gives them as one, and they go through the
            networks one after the other.
        checkpoint_activations: recompute the auto-encoder's activations in the backward pass, to save memory.
        ema_decay: of the averaged weights that validation and export use; ramped up from 0 over the first steps.
        max_bad_steps: so many steps in a row whose loss or gradient is not finite stop the run. Looked at once in as
            many steps, because a GPU has to be waited for.
        seed: of everything that training draws.
        schedule: factor of the learning rate.

    Raises:
        ValueError: `muon_for` is neither of its two values, or `until` no share.
    """

    steps: int
    minutes: float | None = None
    until: float = 1.0
    lr: float = 1e-4
    muon_lr: float | None = None
    muon_for: MuonFor = "all"
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.99)
    gradient_clip_val: float = 1.0
    accumulate: int = 1
    checkpoint_activations: bool = False
    ema_decay: float = 0.999
    max_bad_steps: int = 50
    seed: int = 0
    schedule: WarmupCosine = field(default_factory=WarmupCosine)

    def __post_init__(self) -> None:
        if self.muon_for not in get_args(MuonFor):
            raise ValueError(f"muon_for must be {' or '.join(get_args(MuonFor))}, not {self.muon_for}")
        if not 0 < self.until <= 1:
            raise ValueError(f"until must be above 0 and at most 1, not {self.until}")

    def share_done(self, steps: int, seconds: float) -> float:
        """Share of the steps or of the minutes that is done, whichever is greater; 1 is all of them."""
        of_time = seconds / 60 / self.minutes if self.minutes else 0.0
        return max(steps / self.steps, of_time)
