import pytest
import torch
from torch import Tensor

from glc_train.layers import (
    ChannelNorm,
    SpatialAttention,
    Up2,
    VectorQuantiser,
    block_a,
    block_b,
    block_c,
    lower_bound,
    round_ste,
)


@pytest.mark.parametrize("shape", [(2, 8, 5, 7), (1, 8, 80, 70)])  # the second needs several pieces of distances
def test_nearest_is_the_nearest(shape: tuple[int, ...]) -> None:
    quantiser, x = VectorQuantiser(50, 8), torch.randn(shape)
    distances = (x[:, None] - quantiser.embedding.weight[None, :, :, None, None]).square().sum(2)
    indices = quantiser.nearest(x)
    assert indices.dtype == torch.int64
    assert torch.equal(indices, distances.argmin(1))
    assert torch.equal(quantiser.lookup(indices)[0, :, 1, 2], quantiser.embedding.weight[indices[0, 1, 2]])


def test_a_code_vector_is_its_own_nearest() -> None:
    quantiser = VectorQuantiser(64, 16)
    indices = torch.randperm(64).view(1, 8, 8)
    assert torch.equal(quantiser.nearest(quantiser.lookup(indices)), indices)
    assert quantiser.codes == 64


def test_gradients_of_quantisation() -> None:
    quantiser, x = VectorQuantiser(16, 4), torch.randn(1, 4, 3, 3, requires_grad=True)
    out, upstream = quantiser(x), torch.randn(1, 4, 3, 3)
    assert torch.allclose(out.straight_through, out.vectors)
    (gradient,) = torch.autograd.grad((out.straight_through * upstream).sum(), x)
    assert torch.equal(gradient, upstream)
    (codebook,) = torch.autograd.grad((out.vectors * upstream).sum(), quantiser.embedding.weight)
    used = torch.zeros(16, dtype=torch.bool).index_fill_(0, out.indices.unique(), True)
    assert torch.equal(codebook.abs().sum(1) > 0, used)


def test_rounding() -> None:
    x = torch.tensor([-1.6, -0.4, 0.4, 2.7], requires_grad=True)
    assert round_ste(x).tolist() == [-2.0, 0.0, 0.0, 3.0]
    (gradient,) = torch.autograd.grad(round_ste(x).mul(torch.arange(4.0)).sum(), x)
    assert gradient.tolist() == [0.0, 1.0, 2.0, 3.0]


def test_below_the_bound_only_gradients_that_raise_pass() -> None:
    x = torch.tensor([0.1, 0.1, 2.0, 2.0], requires_grad=True)
    assert lower_bound(x, 0.5).tolist() == [0.5, 0.5, 2.0, 2.0]
    upstream = torch.tensor([1.0, -1.0, 1.0, -1.0])  # descent follows the negative: the second raises x
    (gradient,) = torch.autograd.grad(lower_bound(x, 0.5), x, upstream)
    assert gradient.tolist() == [0.0, -1.0, 1.0, -1.0]


@pytest.mark.parametrize(("height", "width"), [(4, 4), (3, 4), (1, 2)])
def test_a_window_that_holds_the_map_changes_nothing(height: int, width: int) -> None:
    attention, x = SpatialAttention(16, groups=4), torch.randn(2, 16, height, width)
    assert torch.equal(attention(x, window=4), attention(x))


def test_windows_are_independent() -> None:
    attention, x = SpatialAttention(16, groups=4), torch.randn(1, 16, 7, 10)
    out = attention(x, window=4)
    assert out.shape == x.shape
    assert not torch.allclose(out, attention(x))
    normed = attention.norm(x)  # over the whole map
    q, k, v = attention.q(normed), attention.k(normed), attention.v(normed)

    def by_hand(rows: slice, columns: slice) -> Tensor:
        a, b, c = (t[0, :, rows, columns].flatten(1) for t in (q, k, v))
        weights = torch.softmax(a.t() @ b / 16**0.5, dim=1)
        mixed = (c @ weights.t()).unflatten(1, x[0, 0, rows, columns].shape)
        return x[:, :, rows, columns] + attention.proj_out(mixed[None])

    for rows, columns in ((slice(0, 4), slice(4, 8)), (slice(4, 7), slice(8, 10))):  # an inner and the smallest window
        assert torch.allclose(out[:, :, rows, columns], by_hand(rows, columns), atol=1e-5)


@pytest.mark.parametrize("block", [block_a, block_b, block_c])
@pytest.mark.parametrize(("before", "after"), [(8, None), (8, 12), (12, 8)])
def test_blocks_keep_the_map_and_change_the_channels(block: object, before: int, after: int | None) -> None:
    assert callable(block)
    network, x = block(before, after), torch.randn(1, before, 5, 6, requires_grad=True)
    out = network(x)
    assert out.shape == (1, after or before, 5, 6)
    out.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_up2_doubles_the_map() -> None:
    assert Up2(8, 12)(torch.randn(1, 8, 3, 5)).shape == (1, 12, 6, 10)


def test_channel_norm_does_not_see_the_rest_of_the_picture() -> None:
    norm = ChannelNorm(6)
    x = torch.randn(2, 6, 8, 8)
    whole = norm(x)
    assert torch.allclose(norm(x[..., 2:5, 3:7]), whole[..., 2:5, 3:7], atol=1e-6)
    assert torch.allclose(whole.mean(1), torch.zeros(2, 8, 8), atol=1e-5)
    assert torch.allclose(whole.var(1, unbiased=False), torch.ones(2, 8, 8), atol=1e-3)
