import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure
from torchmetrics.image import StructuralSimilarityIndexMeasure

from glc_train.media import read_picture
from glc_train.metrics import DISTS, LPIPS, PictureMetrics, ms_ssim, psnr
from glc_train.metrics.pictures import to_tensor
from tests.metrics.rendered import coarsen, render


def all_metrics(folder: Path | None) -> PictureMetrics:
    return PictureMetrics({"psnr": psnr, "ms_ssim": ms_ssim, "lpips": LPIPS(folder=folder), "dists": DISTS(folder)})


@pytest.mark.parametrize(("net", "p0", "p1"), [("alex", 0.7219, 0.1376), ("vgg", 0.5686, 0.4217)])
def test_lpips_on_its_authors_pairs(shared: Path, backbone_folder: Path | None, net: str, p0: float, p1: float) -> None:
    metric = LPIPS(net, backbone_folder)  # type: ignore[arg-type]
    pairs = shared / "data" / "metric_pairs"
    reference = to_tensor(read_picture(pairs / "lpips_ref.png"))
    for name, expected in (("lpips_p0.png", p0), ("lpips_p1.png", p1)):
        assert metric(reference, to_tensor(read_picture(pairs / name))).item() == pytest.approx(expected, abs=1e-4)


def test_dists_on_its_authors_pair(shared: Path, backbone_folder: Path | None) -> None:
    pairs = shared / "data" / "metric_pairs"
    a, b = (to_tensor(read_picture(pairs / name)) for name in ("dists_r0.png", "dists_r1.png"))
    assert DISTS(backbone_folder)(a, b).item() == pytest.approx(0.3347, abs=1e-4)


def test_recorded_values_on_rendered_pictures(backbone_folder: Path | None) -> None:
    a = render(96, 112)
    scores = all_metrics(backbone_folder).measure(a, coarsen(a))
    assert scores["lpips"] == pytest.approx(0.20296, abs=2e-4)
    assert scores["dists"] == pytest.approx(0.26298, abs=2e-4)
    assert scores["ms_ssim"] is None
    assert list(scores) == ["psnr", "ms_ssim", "lpips", "dists"]


def test_equal_pictures_are_at_distance_zero(backbone_folder: Path | None) -> None:
    a = render(64, 64)
    scores = all_metrics(backbone_folder).measure(a, a)
    assert scores["psnr"] == math.inf
    assert scores["lpips"] == pytest.approx(0, abs=1e-6)
    assert scores["dists"] == pytest.approx(0, abs=1e-5)


def test_a_batch_gives_the_values_of_its_pictures(backbone_folder: Path | None) -> None:
    a, b = to_tensor(render(64, 64)), to_tensor(coarsen(render(64, 64)))
    for metric in (LPIPS(folder=backbone_folder), DISTS(backbone_folder)):
        both = metric(torch.cat([a, a]), torch.cat([b, a]))
        assert both.tolist() == pytest.approx([metric(a, b).item(), metric(a, a).item()], abs=1e-5)


def test_tiny_pictures_have_no_perceptual_value(backbone_folder: Path | None) -> None:
    metrics = all_metrics(backbone_folder)
    small, enough = render(31, 64), render(32, 32)
    assert metrics.measure(small, coarsen(small))["lpips"] is None
    assert metrics.measure(small, coarsen(small))["dists"] is None
    assert np.isfinite(metrics.measure(enough, coarsen(enough))["lpips"] or np.nan)


def test_metrics_of_ones_own_and_of_torchmetrics_are_measured() -> None:
    def brightness(original: Tensor, decoded: Tensor) -> Tensor:
        return (decoded - original).mean()

    metrics = PictureMetrics({"brightness": brightness, "ssim": StructuralSimilarityIndexMeasure(data_range=1.0)})
    a = render(32, 32)
    for b in (coarsen(a), a):  # the second is not averaged with the first
        found, (x, y) = metrics.measure(a, b), (to_tensor(a), to_tensor(b))
        assert found["brightness"] == pytest.approx(float(y.mean() - x.mean()), abs=1e-6)
        ssim = structural_similarity_index_measure(x, y, data_range=1.0)
        assert isinstance(ssim, Tensor)
        assert found["ssim"] == pytest.approx(ssim.item())
    with pytest.raises(ValueError, match=r"the metric map gave \(1, 3, 32, 32\) values"):
        PictureMetrics({"map": lambda original, decoded: decoded - original}).measure(a, a)
    with pytest.raises(ValueError, match="uint8"):
        metrics.measure(np.zeros((8, 8, 3)), np.zeros((8, 8, 3)))


def test_an_original_goes_through_the_network_once_for_all_qualities(backbone_folder: Path | None) -> None:
    pictures = [render(64, 64), render(64, 80)[:, 16:]]
    for metric in (LPIPS(folder=backbone_folder), LPIPS("vgg", backbone_folder), DISTS(backbone_folder)):
        plain = metric.trunk.features
        passes: list[Tensor] = []
        figures = []

        def counted(x: Tensor, plain: Any = plain, passes: list[Tensor] = passes) -> Any:
            passes.append(x)
            return plain(x)

        metric.trunk.features = counted
        for picture in pictures:
            for step in (48, 24):
                # anew, as they are read
                original, decoded = to_tensor(picture.copy()), to_tensor(coarsen(picture, step))
                figures.append(metric(original, decoded).item())
        assert len(passes) == 2 * 3
        for kept, number, step in zip(figures, (0, 0, 1, 1), (48, 24, 48, 24), strict=True):
            metric.trunk.kept = None
            original, decoded = to_tensor(pictures[number]), to_tensor(coarsen(pictures[number], step))
            assert metric(original, decoded).item() == kept
