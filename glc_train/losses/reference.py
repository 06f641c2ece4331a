"""LPIPS and the style loss of many pictures against one, whose features are computed once."""

from torch import Tensor

from glc_train.losses.perceptual import PerceptualLoss, on_device_of


class PerceptualReference:
    """`PerceptualLoss.with_style` against a fixed x: the same values and gradients in less time.

    Args:
        loss: whose network is used.
        x: (1, 3, H, W) in [-1, 1].
    """

    def __init__(self, loss: PerceptualLoss, x: Tensor) -> None:
        on_device_of(x, loss.network)
        self._network = loss.network
        self._originals = self._network.originals(x)

    def __call__(self, x_hat: Tensor) -> tuple[Tensor, Tensor]:
        """LPIPS and style loss of x_hat, (1, 3, H, W) in [-1, 1]; scalars."""
        return self._network.compare(x_hat, self._originals)
