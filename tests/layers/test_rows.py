"""Large maps in stripes of rows: the same results."""

import pytest
import torch
from torch import nn

from benchmarks.measures import model_config
from glc_train.codecs import ImageCodec
from glc_train.data import render_picture
from glc_train.layers import block_a, block_b, by_rows, conv3x3, exact_copy, reach, rows
from glc_train.weights import build_codec


@pytest.fixture
def codec() -> ImageCodec:
    torch.manual_seed(0)
    config = model_config()
    return build_codec(config).eval().requires_grad_(False)


def test_the_reach_counts_every_row_that_is_seen() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(block_a(4, 8), block_b(8), conv3x3(8, 4))
    assert reach(net) == 3
    assert reach(exact_copy(net)) == 3
    x = torch.zeros(1, 4, 15, 5)
    x[..., 7, :] = 1.0
    seen = (net(x) - net(torch.zeros_like(x))).abs().amax((0, 1, 3)) > 0
    assert seen.nonzero().flatten().tolist() == list(range(4, 11))


@pytest.mark.parametrize("scale", [(1, 1), (4, 1), (1, 4)])
def test_stripes_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch, scale: tuple[int, int]) -> None:
    torch.manual_seed(0)
    layers: dict[tuple[int, int], nn.Module] = {
        (1, 1): nn.Sequential(block_b(3), block_b(3)),
        (4, 1): nn.Sequential(nn.Upsample(scale_factor=4), conv3x3(3, 3)),
        (1, 4): nn.Sequential(nn.Conv2d(3, 3, 3, 2, 1), nn.Conv2d(3, 3, 3, 2, 1)),
    }
    x, calls = torch.randn(1, 3, 36, 8), []

    def function(part: torch.Tensor) -> torch.Tensor:
        calls.append(part.shape[-2])
        out: torch.Tensor = layers[scale](part)
        return out

    monkeypatch.setattr(rows, "STRIPE_PLACES", 64 * scale[0] ** 2)
    with torch.no_grad():
        found = by_rows(function, 4, x, scale=scale)
        torch.testing.assert_close(found, layers[scale](x), rtol=1e-5, atol=1e-6)
    assert len(calls) == 5  # of eight rows, and what is left
    by_rows(function, 4, x, scale=scale)
    assert calls[-1] == 36  # with gradients


def test_files_do_not_depend_on_stripes(codec: ImageCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = render_picture(256, 192, 0)
    data = codec.compress(picture, 1)
    _, whole = codec.decompress_symbols(data)
    monkeypatch.setattr(rows, "STRIPE_PLACES", 64)
    _, ours = codec.decompress_symbols(data)
    assert torch.equal(ours, whole)
    assert codec.compress(picture, 1) == data
