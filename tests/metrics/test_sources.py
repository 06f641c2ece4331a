"""Where the metrics come from, as results say."""

from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
from torch import nn
from torchmetrics.image import StructuralSimilarityIndexMeasure

from glc_train.backbones import digest
from glc_train.files import sha256_of
from glc_train.metrics import (
    DISTS,
    LPIPS,
    SMALLEST_SIDES,
    MetricSource,
    PatchFeatures,
    distribution_sources,
    ms_ssim,
    source_of,
)


def own(original: torch.Tensor, decoded: torch.Tensor) -> float:
    return float((original - decoded).abs().mean())


class Network(nn.Linear):
    num_features = 2


def test_the_package_that_computes_it_is_named_with_its_version(backbone_folder: Path | None) -> None:
    assert source_of(partial(ms_ssim)) == MetricSource(
        "glc_train.metrics.fidelity.ms_ssim", "torchmetrics", version("torchmetrics")
    )
    assert source_of(StructuralSimilarityIndexMeasure()).package == "torchmetrics"
    sources = [source_of(each) for each in (LPIPS(folder=backbone_folder), LPIPS("vgg", backbone_folder))]
    sources.append(source_of(DISTS(folder=backbone_folder)))
    assert [each.version for each in sources] == [version("lpips"), version("lpips"), version("DISTS_pytorch")]
    assert len({each.weights_sha256 for each in sources}) == 3
    assert sources[0] == source_of(LPIPS(folder=backbone_folder))


def test_what_belongs_to_no_package_is_known_by_its_file() -> None:
    assert source_of(own) == MetricSource(f"{__name__}.own", None, sha256_of(__file__))


def test_weights_of_the_features_are_those_of_their_network() -> None:
    network = Network(3, 2)
    for source in distribution_sources(PatchFeatures(network)).values():
        assert source.package == "torchmetrics"
        assert source.weights_sha256 == digest(network.state_dict())
        assert str(source.target).endswith(f"of {__name__}.Network")


def test_each_metric_that_can_be_named_says_which_pictures_are_too_small(repository: Path) -> None:
    named = {path.stem for path in (repository / "conf/metrics").glob("*.yaml")}
    assert named - SMALLEST_SIDES.keys() == {"vmaf"}, "that one is of clips"
