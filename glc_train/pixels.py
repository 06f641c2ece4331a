"""Pictures as arrays ⇄ the tensors that networks see; the one place that knows how 8 bits become [-1, 1]."""

import numpy as np
import torch
from torch import Tensor


def to_signed(levels: Tensor) -> Tensor:
    """uint8 0 to 255 → float32 in [-1, 1], the same shape."""
    # in place in the copy: new memory for each step takes ten times as long
    return levels.to(torch.float32, copy=True).div_(127.5).sub_(1)


def to_levels(x: Tensor) -> Tensor:
    """About [-1, 1] → uint8 0 to 255, rounded and clipped, the same shape."""
    return x.float().add(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)


def signed(x: Tensor) -> Tensor:
    """What networks see of a picture: uint8 as of `to_signed`, anything else as it is."""
    return to_signed(x) if x.dtype == torch.uint8 else x


def picture_to_tensor(picture: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """uint8 (H, W, 3) → (1, 3, H, W) float32 in [-1, 1] on `device`. Raises ValueError for anything else."""
    return to_signed(picture_to_levels(picture).to(device))


def picture_to_levels(picture: np.ndarray) -> Tensor:
    """uint8 (H, W, 3) → (1, 3, H, W), the same memory where that can be. Raises ValueError for anything else."""
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or picture.size == 0:
        raise ValueError(f"a picture is uint8 (H, W, 3), not {picture.dtype} {picture.shape}")
    writable = np.require(picture, requirements=["C", "W"])  # a copy of read-only pictures, which PyTorch warns of
    return torch.from_numpy(writable).permute(2, 0, 1)[None]


def tensor_to_picture(x: Tensor) -> np.ndarray:
    """(1, 3, H, W) in [-1, 1] → uint8 (H, W, 3), rounded and clipped."""
    return to_levels(x[0]).permute(1, 2, 0).contiguous().cpu().numpy()
