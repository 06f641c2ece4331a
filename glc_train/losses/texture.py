"""How strong the texture is, as a training loss."""

import torch
from torch import Tensor
from torch.nn import functional as F

_WINDOW = 8  # pixels of each scale, over which strength is measured
_FLOOR = 1e-5  # of the variance: keeps the gradient of the root finite; half a grey level


def texture_strength(x: Tensor) -> Tensor:
    """Local standard deviation (B, C, h', w') of what a 2×2 reduction of x (B, C, h, w) loses."""
    detail = x - F.interpolate(F.avg_pool2d(x, 2), scale_factor=2.0, mode="bilinear", align_corners=False)
    power = F.avg_pool2d(detail.square(), _WINDOW, _WINDOW // 2)
    return (power + _FLOOR).sqrt()


def texture_loss(x_hat: Tensor, x: Tensor, scales: int = 3) -> Tensor:
    """Mean absolute difference of the strength of texture, over octaves of x_hat and x, (B, C, H, W) in [-1, 1].

    Pixels need not agree, only how much there is of each octave at each place: a local standard deviation, as in the
    Wasserstein distortion of Qiu et al. 2023, on a Laplacian pyramid. LPIPS compares directions of features, hence
    hardly sees that a plain surface carries too strong a pattern.

    Args:
        scales: octaves; H and W must be multiples of 2^scales and hold at least one window of 8 pixels at each.
    """
    total = torch.zeros((), device=x.device)
    x_hat, x = x_hat.float(), x.float()
    for _ in range(scales):
        total = total + F.l1_loss(texture_strength(x_hat), texture_strength(x))
        x_hat, x = F.avg_pool2d(x_hat, 2), F.avg_pool2d(x, 2)
    return total / scales
