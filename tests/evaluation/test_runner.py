from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor, nn

from glc_train.data import PictureError, read_picture, write_picture
from glc_train.evaluation import EvaluationError, PillowBaseline, evaluate_codec
from glc_train.evaluation.results import mean_of
from glc_train.metrics import PatchDistribution, PictureMetrics, count_patches, psnr
from glc_train.metrics.pictures import to_tensor
from tests.evaluation.fake_codec import DamagedCodec, FakeCodec, ReportingCodec, ShrinkingCodec
from tests.metrics.rendered import render

METRICS = PictureMetrics(["psnr", "ms_ssim"])


class ChannelMeans(nn.Module):
    num_features = 3

    def forward(self, x: Tensor) -> Tensor:
        return x.float().mean((2, 3)) / 255


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "originals"
    folder.mkdir()
    paths = [folder / "small.png", folder / "large.png"]
    write_picture(paths[0], render(48, 67))
    write_picture(paths[1], render(176, 192))
    return paths


def test_rate_is_bytes_on_disk_and_metrics_are_of_the_decoded_file(tmp_path: Path, pictures: list[Path]) -> None:
    results = evaluate_codec(ReportingCodec(), pictures, [0, 2], tmp_path / "out", METRICS, progress=False)
    assert [(r.picture, r.quality) for r in results.pictures] == [
        ("small", 0),
        ("large", 0),
        ("small", 2),
        ("large", 2),
    ]
    for result, path in zip(results.pictures, pictures * 2, strict=True):
        file = tmp_path / "out" / "files" / f"q{result.quality}" / f"{result.picture}.glc"
        original = read_picture(path)
        assert result.bytes == file.stat().st_size
        assert result.bpp == 8 * file.stat().st_size / (original.shape[0] * original.shape[1])
        assert result.estimated_bpp == pytest.approx(result.bpp / 1.25)
        assert result.ideal_bpp == pytest.approx(result.bpp / 1.2)
        decoded = FakeCodec().decompress(file.read_bytes())
        kept = read_picture(tmp_path / "out" / "decoded" / f"q{result.quality}" / f"{result.picture}.png")
        np.testing.assert_array_equal(kept, decoded)
        assert result.psnr == pytest.approx(psnr(to_tensor(original), to_tensor(decoded)).item())
        assert (result.ms_ssim is None) == (result.picture == "small")
        assert result.lpips is None
        assert result.encode_seconds > 0
        assert result.decode_seconds > 0


def test_means_are_over_pictures_and_absent_where_one_is(tmp_path: Path, pictures: list[Path]) -> None:
    results = evaluate_codec(ReportingCodec(), pictures, [1], tmp_path, METRICS, progress=False)
    (mean,) = results.means
    first, second = results.pictures
    assert mean.pictures == 2
    assert mean.bpp == pytest.approx((first.bpp + second.bpp) / 2)
    assert mean.rate_gap == pytest.approx(0.25)
    assert mean.ms_ssim is None  # the small picture has none
    both = mean_of([replace(second, ms_ssim=0.75), replace(second, ms_ssim=0.5)], 1)
    assert both.ms_ssim == pytest.approx(0.625)


def test_a_codec_without_a_report_has_no_estimate(tmp_path: Path, pictures: list[Path]) -> None:
    results = evaluate_codec(
        FakeCodec(), pictures, [0], tmp_path / "out", METRICS, save_pictures=False, suffix=".jpg", progress=False
    )
    assert results.pictures[0].estimated_bpp is None
    assert results.means[0].rate_gap is None
    assert sorted(p.name for p in (tmp_path / "out").rglob("*") if p.is_file()) == ["large.jpg", "small.jpg"]


def test_patch_distribution_is_measured_for_each_quality(tmp_path: Path, pictures: list[Path]) -> None:
    results = evaluate_codec(
        FakeCodec(),
        pictures,
        [0, 2],
        tmp_path,
        METRICS,
        new_patches=lambda: PatchDistribution(ChannelMeans(), size=16),
        progress=False,
    )
    low, high = results.means
    assert low.patches == high.patches == count_patches(48, 67, 16) + count_patches(176, 192, 16)
    assert low.fid is not None
    assert high.fid is not None
    assert low.fid > high.fid


def test_what_cannot_be_evaluated_is_one_sentence(tmp_path: Path, pictures: list[Path]) -> None:
    def run(codec: FakeCodec, paths: list[Path], qualities: list[int]) -> None:
        evaluate_codec(codec, paths, qualities, tmp_path / "out", METRICS, progress=False)

    with pytest.raises(EvaluationError, match="integers from 0 to 2"):
        run(FakeCodec(), pictures, [3])
    with pytest.raises(EvaluationError, match="distinct"):
        run(FakeCodec(), pictures, [1, 1])
    with pytest.raises(EvaluationError, match="nothing to evaluate"):
        run(FakeCodec(), [], [1])
    with pytest.raises(EvaluationError, match="both called originals_small"):
        run(FakeCodec(), [pictures[0], pictures[0]], [1])
    with pytest.raises(EvaluationError, match=r"decodes to \(47, 67, 3\)"):
        run(ShrinkingCodec(), pictures, [1])
    with pytest.raises(EvaluationError, match=r"^large at quality 1 with GLC: the weights are damaged$"):
        run(DamagedCodec(), pictures, [1])
    with pytest.raises(PictureError, match="nowhere"):
        run(FakeCodec(), [tmp_path / "nowhere.png"], [1])


def test_pictures_of_one_name_in_two_folders_stay_apart(tmp_path: Path, pictures: list[Path]) -> None:
    other = tmp_path / "other" / "small.png"
    other.parent.mkdir()
    write_picture(other, render(32, 32))
    results = evaluate_codec(FakeCodec(), [*pictures, other], [0], tmp_path / "out", METRICS, progress=False)
    assert [r.picture for r in results.pictures] == ["originals_small", "large", "other_small"]


@pytest.mark.parametrize("name", ["jpeg", "webp", "avif"])
def test_baselines_take_the_best_file_within_the_target(name: str) -> None:
    picture = render(96, 96)
    sizes = [len(PillowBaseline(name, settings=[s]).compress(picture, 0)) for s in (1, 90)]
    target = 8 * (sum(sizes) / 2) / picture[..., 0].size
    baseline = PillowBaseline(name, targets=[1e-6, target, 1000])
    files = [baseline.compress(picture, quality) for quality in range(3)]
    bpps = [8 * len(file) / picture[..., 0].size for file in files]
    assert bpps[0] <= 8 * sizes[0] / picture[..., 0].size  # the lowest there is, above its target
    assert bpps[0] < bpps[1] <= target < bpps[2]
    errors = [np.abs(baseline.decompress(f).astype(float) - picture).mean() for f in files]
    assert errors[0] > errors[1] > errors[2]


def test_baselines_refuse_what_they_do_not_know() -> None:
    with pytest.raises(EvaluationError, match="no baseline 'vtm'"):
        PillowBaseline("vtm", targets=[1])
    with pytest.raises(EvaluationError, match="either rates"):
        PillowBaseline("jpeg")
    with pytest.raises(EvaluationError, match="no quality 101"):
        PillowBaseline("webp", settings=[101])
