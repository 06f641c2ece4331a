from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from glc_train.files import sha256_of
from glc_train.metrics import (
    PatchFeatures,
    check_patch_count,
    compare_distributions,
    count_patches,
    cut_patches,
    inception,
    load_inception,
)
from glc_train.metrics.inception import Inception2015, resize_like_tensorflow1
from tests.metrics.rendered import coarsen, render


class ChannelMeans(nn.Module):
    num_features = 3

    def forward(self, x: Tensor) -> Tensor:
        return x.float().mean((2, 3)) / 255


@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from([8, 16, 32]))
def test_the_count_is_what_is_cut(height: int, width: int, size: int) -> None:
    assert len(cut_patches(np.zeros((height, width, 3), np.uint8), size)) == count_patches(height, width, size)


def test_patches_are_the_two_grids() -> None:
    picture = render(40, 33)
    patches = cut_patches(picture, 16)
    assert len(patches) == 4 + 2
    np.testing.assert_array_equal(patches[1], picture[0:16, 16:32])
    np.testing.assert_array_equal(patches[2], picture[16:32, 0:16])
    np.testing.assert_array_equal(patches[5], picture[24:40, 8:24])


def test_known_data_sets_are_held_to_their_count() -> None:
    kodak = 18 * count_patches(512, 768, 64) + 6 * count_patches(768, 512, 64)
    check_patch_count("kodak", kodak, 64)
    check_patch_count("clic2020_test", 28650)
    check_patch_count("any folder", 1)
    with pytest.raises(ValueError, match="28650"):
        check_patch_count("clic2020_test", 28649)


def test_fid_is_the_frechet_distance_of_the_features() -> None:
    patches = PatchFeatures(ChannelMeans(), size=16, batch=5)
    a = render(80, 80)
    b = coarsen(a, 96)
    scores = compare_distributions(patches(a), patches(b))
    real, fake = (cut_patches(p, 16).mean((1, 2)) / 255 for p in (a, b))
    cov = [np.cov(v.T) for v in (real, fake)]
    cross = np.sqrt(np.linalg.eigvals(cov[0] @ cov[1]).real.clip(0)).sum()
    expected = ((real.mean(0) - fake.mean(0)) ** 2).sum() + np.trace(cov[0]) + np.trace(cov[1]) - 2 * cross
    assert scores.patches == count_patches(80, 80, 16)
    assert scores.fid == pytest.approx(expected, rel=1e-3)
    assert scores.kid is not None
    assert compare_distributions(patches(a), patches(b)) == scores  # the subsets of KID are drawn with a fixed seed


def test_too_few_patches_give_none() -> None:
    patches = PatchFeatures(ChannelMeans(), size=64)
    scores = compare_distributions(patches(render(64, 64)), patches(render(64, 64)))
    assert patches(render(63, 64)).shape == (0, 3)
    assert (scores.fid, scores.kid, scores.patches) == (None, None, 1)


def test_tensorflow_resize_keeps_the_first_sample_and_interpolates() -> None:
    x = torch.arange(4.0).reshape(1, 1, 1, 4)
    assert resize_like_tensorflow1(x, 8)[0, 0, 0].tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3]


def test_inception_weights_are_read_strictly(tmp_path: Path) -> None:
    network = Inception2015()
    good, bad = tmp_path / "good.pth", tmp_path / "bad.pth"
    torch.save(network.state_dict(), good)
    torch.save({"fc.weight": network.fc.weight.data}, bad)
    patch = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    with torch.no_grad():
        features = load_inception(good)(patch)
        np.testing.assert_array_equal(features, network.eval()(patch))
    assert features.shape == (1, 2048)
    with pytest.raises(ValueError, match="Conv2d_1a_3x3"):
        load_inception(bad)
    with pytest.raises(ValueError, match="does not exist"):
        load_inception(tmp_path / "none.pth")


def test_inception_weights_are_fetched_once_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    served = tmp_path / "weights.pth"
    torch.save(Inception2015().state_dict(), served)
    named = served.rename(tmp_path / f"weights-{sha256_of(served)[:8]}.pth")
    monkeypatch.setattr(inception, "_URL", named.as_uri())
    first = load_inception("download").state_dict()
    named.unlink()
    again = load_inception("download").state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    monkeypatch.setattr(inception, "_URL", (tmp_path / "gone-00000000.pth").as_uri())
    with pytest.raises(ValueError, match=r"cannot be fetched from file:.*: fetch that file elsewhere, and give incep"):
        load_inception("download")
    (tmp_path / "gone-00000000.pth").write_bytes(b"other bytes")
    with pytest.raises(ValueError, match=r"cannot be fetched from .*hash value"):
        load_inception("download")
