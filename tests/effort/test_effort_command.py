"""`glc compress --effort`: better pictures of the same bytes, from the command line."""

from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from glc_train.codecs import ImageCodec
from glc_train.effort import PerceptualMixture, refiner
from glc_train.media import read_picture, write_picture
from tests.test_cli import codec, glc, photo, weights

__all__ = ["codec", "photo", "weights"]  # fixtures


@pytest.fixture
def _nearness(monkeypatch: pytest.MonkeyPatch) -> None:
    """Effort for the mean squared error alone, which needs no weights."""
    monkeypatch.setattr(refiner, "_default_distortion", lambda: PerceptualMixture({"mse": 1.0}))


def nearness(codec: ImageCodec, photo: Path, file: Path) -> float:
    return float(np.square(read_picture(photo).astype(float) - codec.decompress(file.read_bytes())).mean())


@pytest.mark.usefixtures("_nearness")
def test_effort_keeps_the_size_and_comes_nearer(weights: Path, codec: ImageCodec, photo: Path, tmp_path: Path) -> None:
    plain, refined, options = tmp_path / "0.glc", tmp_path / "5.glc", ("--weights", weights, "--quality", 1)
    assert glc("compress", photo, plain, *options) == 0
    assert glc("compress", photo, refined, *options, "--effort", 4) == 0
    assert refined.stat().st_size <= 1.01 * plain.stat().st_size
    assert nearness(codec, photo, refined) < nearness(codec, photo, plain)
    assert glc("compress", photo, tmp_path / "s.glc", *options, "--effort", 9, "--effort-seconds", 1e-9) == 0
    assert abs((tmp_path / "s.glc").stat().st_size - plain.stat().st_size) <= 4


@pytest.mark.usefixtures("_nearness")
def test_effort_uses_what_a_target_leaves(weights: Path, codec: ImageCodec, photo: Path, tmp_path: Path) -> None:
    picture = read_picture(photo)
    sizes = sorted(len(codec.compress(picture, quality)) for quality in range(codec.quality_levels))
    most = sizes[2] - 1
    plain, refined = tmp_path / "0.glc", tmp_path / "5.glc"
    options = ("--weights", weights, "--target-bpp", 8 * most / (picture.shape[0] * picture.shape[1]))
    assert glc("compress", photo, plain, *options) == 0
    assert glc("compress", photo, refined, *options, "--effort", 4) == 0
    assert refined.stat().st_size <= most
    assert nearness(codec, photo, refined) < nearness(codec, photo, plain)


@pytest.mark.usefixtures("_nearness")
def test_every_picture_of_a_folder_is_refined(weights: Path, codec: ImageCodec, photo: Path, tmp_path: Path) -> None:
    pictures, options = tmp_path / "pictures", ("--weights", weights, "--quality", 1)
    for name, side in (("a", 48), ("b", 96)):
        write_picture(pictures / f"{name}.png", read_picture(photo)[:side, :64])
    assert glc("compress", pictures, tmp_path / "plain", *options) == 0
    assert glc("compress", pictures, tmp_path / "refined", *options, "--effort", 2) == 0
    for name in ("a", "b"):
        original, files = pictures / f"{name}.png", [tmp_path / each / f"{name}.glc" for each in ("refined", "plain")]
        assert nearness(codec, original, files[0]) < nearness(codec, original, files[1])


@pytest.mark.parametrize("option", [("--effort-seconds", 5), ("--effort-distortion", "no.Loss")])
def test_options_of_effort_are_refused_without_it(
    option: tuple[object, ...], photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert glc("compress", photo, tmp_path / "x.glc", *option) == 1
    assert capsys.readouterr().err == f"glc: {option[0]}: there is no effort; add --effort 1 to 9, or leave it out.\n"


class Green:
    """A distortion of one's own."""

    def __call__(self, x_hat: Tensor, x: Tensor) -> dict[str, Tensor]:
        return {"green": (x_hat[:, 1] - x[:, 1]).square().mean()}


def test_a_distortion_is_named(
    weights: Path, codec: ImageCodec, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, refined, options = tmp_path / "0.glc", tmp_path / "5.glc", ("--weights", weights, "--quality", 1)
    assert glc("compress", photo, plain, *options) == 0
    assert glc("compress", photo, refined, *options, "--effort", 4, "--effort-distortion", f"{__name__}.Green") == 0
    original = read_picture(photo)[..., 1].astype(float)
    errors = [np.square(original - codec.decompress(file.read_bytes())[..., 1]).mean() for file in (plain, refined)]
    assert errors[1] < errors[0]
    assert glc("compress", photo, plain, *options, "--overwrite", "--effort", 4, "--effort-distortion", "no.Loss") == 1
    assert "--effort-distortion no.Loss: there is no such class" in capsys.readouterr().err
