"""Which elements of y are coded in which pass.

Masks are built for each map: a few microseconds, and no cache that two context models could share by mistake.
"""

import torch
from torch import Tensor

# position (row mod 2, column mod 2) of channel group g in pass k, as 2·row + column
_FOUR_PART = ((0, 1, 2, 3), (3, 2, 1, 0), (2, 3, 0, 1), (1, 0, 3, 2))


def four_part_masks(channels: int, height: int, width: int, device: torch.device | None = None) -> Tensor:
    """Masks (4, C, h, w), bool: four channel groups over four positions (GLC image model; He et al. 2022).

    Every element is in exactly one pass. `channels` must be a multiple of 4.
    """
    if channels % 4:
        raise ValueError(f"the four-part context needs channels in multiples of 4, not {channels}")
    masks = torch.zeros(4, 4, channels // 4, height, width, dtype=torch.bool, device=device)
    for k, positions in enumerate(_FOUR_PART):
        for group, position in enumerate(positions):
            masks[k, group, :, position // 2 :: 2, position % 2 :: 2] = True
    return masks.flatten(1, 2)


def checkerboard_masks(channels: int, height: int, width: int, device: torch.device | None = None) -> Tensor:
    """Masks (2, C, h, w), bool: pass 0 has the first half of the channels where row + column is even, the second half
    where it is odd; pass 1 the rest (GLC video model). `channels` must be even.
    """
    if channels % 2:
        raise ValueError(f"the checkerboard context needs an even number of channels, not {channels}")
    rows = torch.arange(height, device=device).view(-1, 1)
    columns = torch.arange(width, device=device).view(1, -1)
    even = (rows + columns) % 2 == 0
    first = torch.cat([even.expand(channels // 2, -1, -1), (~even).expand(channels // 2, -1, -1)])
    return torch.stack([first, ~first])
