"""Loss of a vector quantiser."""

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

BetaPlacement = Literal["commitment", "codebook"]


def vq_loss(x: Tensor, codes: Tensor, beta: float = 0.25, placement: BetaPlacement = "commitment") -> Tensor:
    """Pulls inputs and their codes together.

    Args:
        x: (B, C, h, w) what was quantised.
        codes: (B, C, h, w) nearest code vectors, with the codebook's gradient.
        beta: weight of one of the two terms.
        placement: "commitment" puts β on ‖x − sg(e)‖² (VQ-VAE, van den Oord et al. 2017, equation 3); "codebook" puts
            it on ‖e − sg(x)‖², as the published GLC code does.

    Returns:
        Scalar mean.
    """
    x, codes = x.float(), codes.float()
    commitment = F.mse_loss(x, codes.detach())
    codebook = F.mse_loss(codes, x.detach())
    return codebook + beta * commitment if placement == "commitment" else commitment + beta * codebook
