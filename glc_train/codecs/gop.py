"""Groups of pictures: which frame is coded how, and what one frame leaves to the next."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class GOP:
    """Which frame is coded how (GLC, TCSVT 2025). Frames count from 0; every intra period begins anew.

    In a file with intra frames at scene cuts, count t from the last intra frame.

    Attributes:
        intra_period: frames from one intra frame to the next; `None`: only frame 0 is one. Published 96.
        pattern: adaptor of the temporal context, by the frame's place in its intra period.
        reset_interval: a chain of conditional frames starts anew so often; published 32.
        scene_cuts: whether files begin a new period at every scene cut; networks are trained without.
    """

    intra_period: int | None = 96
    pattern: Sequence[int] = (0, 1, 0, 2, 0, 2, 0, 2)
    reset_interval: int = 32
    scene_cuts: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "pattern", tuple(self.pattern))
        if self.intra_period is not None and self.intra_period < 1:
            raise ValueError(f"gop.intra_period must be at least 1 or null, not {self.intra_period}")
        if self.reset_interval < 1:
            raise ValueError(f"gop.reset_interval must be at least 1, not {self.reset_interval}")
        if not self.pattern or min(self.pattern) < 0:
            raise ValueError(f"gop.pattern must list adaptors, 0 or above, not {list(self.pattern)}")

    def position(self, t: int) -> int:
        """Place of frame t in its intra period."""
        return t if self.intra_period is None else t % self.intra_period

    def is_intra(self, t: int) -> bool:
        """Whether frame t is coded by the image codec."""
        return self.position(t) == 0

    def resets(self, t: int) -> bool:
        """Whether frame t starts a chain, whatever came before: the first of every `reset_interval` frames."""
        return (self.position(t) - 1) % self.reset_interval == 0

    def adaptor(self, t: int, has_y: bool) -> int | None:
        """Adaptor of the temporal context of frame t, `None` where a chain starts.

        `has_y`: whether frame t − 1 was coded conditionally.
        """
        return self.pattern[self.position(t) % len(self.pattern)] if has_y and not self.resets(t) else None


@dataclass(frozen=True)
class FrameState:
    """What one frame leaves to the next.

    Attributes:
        latent_hat: (B, N, h, w), its decoded latent.
        has_y: whether it was coded conditionally.
        index: its number t.
    """

    latent_hat: Tensor
    has_y: bool
    index: int
