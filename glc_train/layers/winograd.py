"""3×3 convolutions by Winograd's minimal filtering (Lavin and Gray, CVPR 2016): 4 times fewer multiplications.

F(4×4, 3×3): tiles of 6×6 inputs give 4×4 outputs each, as 36 matrix products between two linear transforms. In float32
the result differs by about 1e-5 of its size from that of the sum over the taps.
"""

import math
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

# Interpolation at 0, ±1, ±2 and infinity: the transforms of inputs, weights and outputs along one axis.
_INPUT = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_WEIGHT = ((6, 0, 0), (-4, -4, -4), (-4, 4, -4), (1, 2, 4), (1, -2, 4), (0, 0, 24))  # in 24ths
_OUTPUT = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))

_CHANNELS = {"AVX2": 64, "AVX512": 192}  # with fewer, the transforms cost what the products save
_CHUNK = 128  # tiles of a thread at a time: large enough for the products, small enough for its cache
_CHUNK_BYTES = 32 << 20  # of a buffer, however many threads there are


@cache
def least_channels() -> float:
    """From how many channels on the way by matrix products is faster; infinite where that is not known.

    Products must reach the speed of convolutions: MKL's do on Intel's processors.
    """
    if not torch.backends.mkl.is_available():
        return math.inf
    try:
        intel = "GenuineIntel" in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return math.inf
    return _CHANNELS.get(torch.backends.cpu.get_cpu_capability(), math.inf) if intel else math.inf


def transformed(weight: Tensor) -> Tensor:
    """Weights (out, C, 3, 3) → what `winograd` multiplies by, (36, C, out): four times as many numbers."""
    out, into = weight.shape[:2]
    taps = weight.transpose(0, 1).reshape(into * out, 9)
    return (_transform(_WEIGHT) / 24**2 @ taps.t()).view(36, into, out)


def winograd(x: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, int] = (1, 1)) -> Tensor:
    """Convolution of x (B, C, h, w), channels last, float32, on a processor, without gradients.

    Args:
        x: the map.
        weight: (36, C, out), `transformed`.
        bias: (out,).
        padding: zeros above and below, and at both sides: 0 or 1.

    Returns:
        (B, out, h − 2 + 2 · padding[0], w − 2 + 2 · padding[1]), channels last.
    """
    size = (len(x), weight.shape[2], *(side - 2 + 2 * pad for side, pad in zip(x.shape[-2:], padding, strict=True)))
    out = torch.empty(size, memory_format=torch.channels_last)
    products = _Products(weight, bias, -(-size[-2] // 4), -(-size[-1] // 4))
    for source, target in zip(x, out, strict=True):
        products.convolve(source.permute(1, 2, 0), target.permute(1, 2, 0), padding)
    return out


@cache
def _transform(matrix: tuple[tuple[int, ...], ...]) -> Tensor:
    """That of both axes at once."""
    with torch.inference_mode(False):
        both = torch.tensor(matrix, dtype=torch.float32)
        return torch.kron(both, both)


@cache
def transforms() -> tuple[Tensor, Tensor, Tensor]:
    """Of both axes at once: of tiles of the input (36, 36), of weights (36, 9) and of tiles of products (16, 36)."""
    with torch.inference_mode(False):
        return _transform(_INPUT), _transform(_WEIGHT) / 24**2, _transform(_OUTPUT)


class _Products:
    """Products with transformed weights (36, C, out), and buffers for so many tiles as are computed together."""

    def __init__(self, weight: Tensor, bias: Tensor | None, rows: int, columns: int) -> None:
        self.weight = weight
        _, self.into, self.out = weight.shape
        self.bias = weight.new_zeros(self.out) if bias is None else bias
        self.of_input = _transform(_INPUT)
        self.of_output = F.pad(_transform(_OUTPUT), (0, 1), value=1)  # adds the bias, which stands below the products
        widest = max(self.into, self.out)
        tiles = max(_CHUNK, min(_CHUNK * torch.get_num_threads(), _CHUNK_BYTES // (4 * 36 * widest)))
        self.columns = -(-columns // -(-columns // tiles))  # of a chunk
        self.rows = max(1, min(rows, tiles // self.columns))
        tiles = self.rows * self.columns
        self.window = weight.new_empty(4 * self.rows + 2, 4 * self.columns + 2, self.into)
        self.first = weight.new_empty(37 * tiles * widest)
        self.second = weight.new_empty(36 * tiles * widest)

    def convolve(self, x: Tensor, out: Tensor, padding: tuple[int, int]) -> None:
        """x (h, w, C) → out, chunk by chunk."""
        for top in range(0, out.shape[0], 4 * self.rows):
            rows = min(self.rows, -(-(out.shape[0] - top) // 4))
            for left in range(0, out.shape[1], 4 * self.columns):
                columns = min(self.columns, -(-(out.shape[1] - left) // 4))
                seen = self._seen(x, top - padding[0], left - padding[1], 4 * rows + 2, 4 * columns + 2)
                made = self._tiles(seen, rows, columns)
                target = out[top : top + 4 * rows, left : left + 4 * columns]
                if target.shape[:2] == (4 * rows, 4 * columns):
                    target.view(rows, 4, columns, 4, self.out).permute(1, 3, 0, 2, 4).copy_(made)
                else:  # tiles reach beyond the map
                    whole = made.permute(2, 0, 3, 1, 4).reshape(4 * rows, 4 * columns, self.out)
                    target.copy_(whole[: target.shape[0], : target.shape[1]])

    def _seen(self, x: Tensor, top: int, left: int, rows: int, columns: int) -> Tensor:
        """Part of the map that begins at (top, left), with zeros where there is none."""
        first, before = max(0, top), max(0, left)
        part = x[first : top + rows, before : left + columns]
        if part.shape[:2] == (rows, columns):
            return part
        window = self.window[:rows, :columns].zero_()
        window[first - top :, before - left :][: part.shape[0], : part.shape[1]] = part
        return window

    def _tiles(self, seen: Tensor, rows: int, columns: int) -> Tensor:
        """(4 · rows + 2, 4 · columns + 2, C) → (4, 4, rows, columns, out): position in the tile, tile, channel."""
        row, column, _ = seen.stride()
        tiles = rows * columns
        a, b = self.first[: 36 * tiles * self.into], self.second[: 36 * tiles * self.into]
        overlapping = seen.as_strided((6, 6, rows, columns, self.into), (row, column, 4 * row, 4 * column, 1))
        a.view(overlapping.shape).copy_(overlapping)
        transformed = torch.mm(self.of_input, a.view(36, -1), out=b.view(36, -1))
        a, b = self.first[: 37 * tiles * self.out], self.second[: 16 * tiles * self.out]
        products = a.view(37, tiles, self.out)
        torch.bmm(transformed.view(36, tiles, self.into), self.weight, out=products[:36])
        products[36] = self.bias
        return torch.mm(self.of_output, a.view(37, -1), out=b.view(16, -1)).view(4, 4, rows, columns, self.out)
