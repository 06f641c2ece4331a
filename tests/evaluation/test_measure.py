"""The measuring loop on pictures: figures are those of the files, and what fails is one sentence."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

from glc_train.evaluation import EvaluationError, Pictures, Result
from glc_train.evaluation.codecs import through_files
from glc_train.evaluation.measure import Bench
from glc_train.evaluation.results import mean_of
from glc_train.evaluation.sets import readable
from glc_train.media import read_picture, write_picture
from glc_train.metrics import PatchFeatures, PictureMetrics, count_patches, ms_ssim, psnr
from glc_train.metrics.pictures import to_tensor
from tests.evaluation.fake_codec import DamagedCodec, FakeCodec, ReportingCodec, ShrinkingCodec
from tests.metrics.rendered import render


class ChannelMeans(nn.Module):
    num_features = 3

    def forward(self, x: Tensor) -> Tensor:
        return x.float().mean((2, 3)) / 255


@pytest.fixture
def pictures(tmp_path: Path) -> Pictures:
    folder = tmp_path / "originals"
    write_picture(folder / "small.png", render(48, 67))
    write_picture(folder / "large.png", render(176, 192))
    return Pictures(root=str(folder))


def measured(codec: FakeCodec, pictures: Pictures, qualities: list[int], out: Path, **options: Any) -> list[Result]:
    metrics = PictureMetrics({"psnr": psnr, "ms_ssim": ms_ssim})
    bench = Bench(through_files(codec), qualities, out, metrics, {}, **options)
    return [result for item in pictures.items() for result in bench(item)]


def test_rate_is_bytes_on_disk_and_metrics_are_of_the_decoded_file(tmp_path: Path, pictures: Pictures) -> None:
    results = measured(ReportingCodec(), pictures, [0, 2], tmp_path / "out")
    assert [(r.name, r.quality) for r in results] == [("large", 0), ("large", 2), ("small", 0), ("small", 2)]
    for result in results:
        file = tmp_path / "out" / "files" / f"q{result.quality}" / f"{result.name}.glc"
        original = read_picture(tmp_path / f"originals/{result.name}.png")
        assert result.bytes == file.stat().st_size
        assert result.bpp == 8 * file.stat().st_size / (original.shape[0] * original.shape[1])
        assert result.estimated_bpp == pytest.approx(result.bpp / 1.25)
        assert result.ideal_bpp == pytest.approx(result.bpp / 1.2)
        decoded = FakeCodec().decompress(file.read_bytes())
        kept = read_picture(tmp_path / "out" / "decoded" / f"q{result.quality}" / f"{result.name}.png")
        np.testing.assert_array_equal(kept, decoded)
        assert result.scores["psnr"] == pytest.approx(psnr(to_tensor(original), to_tensor(decoded)).item())
        assert (result.scores["ms_ssim"] is None) == (result.name == "small")
        assert result.row()["lpips"] is None
        assert result.encode_seconds > 0
        assert result.decode_seconds > 0


def test_means_are_over_pictures_and_absent_where_one_is(tmp_path: Path, pictures: Pictures) -> None:
    first, second = measured(ReportingCodec(), pictures, [1], tmp_path)
    mean = mean_of([first, second])
    assert mean.count == 2
    assert mean.figures["bpp"] == pytest.approx((first.bpp + second.bpp) / 2)
    assert mean.figures["rate_gap"] == pytest.approx(0.25)
    assert mean.figures["ms_ssim"] is None  # the small picture has none
    both = mean_of([replace(first, scores={"ms_ssim": value}) for value in (0.75, 0.5)])
    assert both.figures["ms_ssim"] == pytest.approx(0.625)


def test_a_codec_without_a_report_has_no_estimate(tmp_path: Path, pictures: Pictures) -> None:
    class Named(FakeCodec):
        suffix = ".jpg"

    results = measured(Named(), pictures, [0], tmp_path / "out", save_pictures=False)
    assert results[0].estimated_bpp is None
    assert mean_of(results).figures["rate_gap"] is None
    assert sorted(p.name for p in (tmp_path / "out").rglob("*") if p.is_file()) == ["large.jpg", "small.jpg"]


def test_patch_distribution_is_measured_for_each_quality(tmp_path: Path, pictures: Pictures) -> None:
    features = PatchFeatures(ChannelMeans(), size=16)
    results = measured(FakeCodec(), pictures, [0, 2], tmp_path, features=features)
    low, high = (mean_of([r for r in results if r.quality == quality]).figures for quality in (0, 2))
    assert low["patches"] == high["patches"] == count_patches(48, 67, 16) + count_patches(176, 192, 16)
    assert low["fid"] is not None
    assert high["fid"] is not None
    assert low["fid"] > high["fid"]


def test_what_fails_is_one_sentence(tmp_path: Path, pictures: Pictures) -> None:
    with pytest.raises(EvaluationError, match=r"^large at quality 1 with GLC: frame 0 is \(176.*to \(175, 192, 3\)"):
        measured(ShrinkingCodec(), pictures, [1], tmp_path)
    with pytest.raises(EvaluationError, match=r"^large at quality 1 with GLC: the weights are damaged$"):
        measured(DamagedCodec(), pictures, [1], tmp_path, warm=True)


def test_pictures_of_one_name_in_two_folders_stay_apart(tmp_path: Path, pictures: Pictures) -> None:
    write_picture(tmp_path / "originals/other/small.png", render(32, 32))
    assert [item.name for item in pictures.items()] == ["large", "other_small", "originals_small"]
    write_picture(tmp_path / "originals/a/other/small.png", render(32, 32))
    with pytest.raises(EvaluationError, match="both called other_small"):
        readable(pictures.items(), strict=False, progress=False)
