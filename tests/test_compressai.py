"""Our codec with the interface of CompressAI's models, and in its own evaluation where that package is installed."""

import copy
import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.measures import model_config
from glc_train import compressai as adapter
from glc_train.codecs import ImageCodec
from glc_train.compressai import CompressAIModel, main, register
from glc_train.data import render_picture
from glc_train.evaluation.result_files import read_results
from glc_train.media import read_picture, write_picture
from glc_train.weights import build_codec
from tests.training_harness import tiny_image

VARIANTS: dict[str, dict[str, Any]] = {
    "as published": {},
    "factorised prior": {"hyper_prior": "factorised"},
    "no context": {"context": "none"},
}


def tiny(**transform: Any) -> ImageCodec:
    config = model_config()
    torch.manual_seed(0)
    codec = build_codec(config | {"transform": config["transform"] | transform}).eval()
    with torch.no_grad():  # so that symbols are not all zero
        codec.transform.analysis.gain.mul_(20)
    return codec


@pytest.fixture(scope="module")
def codec() -> ImageCodec:
    return tiny()


def batch(height: int, width: int, count: int = 2) -> torch.Tensor:
    pictures = np.stack([render_picture(height, width, number) for number in range(count)])
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_likelihoods_are_the_estimated_bits(variant: dict[str, Any]) -> None:
    codec, x = tiny(**variant), batch(70, 64)
    with torch.no_grad():
        out = CompressAIModel(codec, 1).eval()(x)
        expected = codec.reconstruct(2 * x - 1, 1)
    assert set(out) == {"x_hat", "likelihoods"}
    assert torch.equal(out["x_hat"], (expected.x_hat + 1) / 2)
    bits = sum(-likelihood.log2().flatten(1).sum(1) for likelihood in out["likelihoods"].values())
    assert torch.allclose(torch.as_tensor(bits), expected.bits, rtol=1e-4)
    assert all(float(each.min()) > 0 and float(each.max()) <= 1 for each in out["likelihoods"].values())


def test_indices_alone_have_likelihoods_too() -> None:
    config = model_config()
    codec, x = build_codec(config | {"transform": None}).eval(), batch(64, 64)
    likelihoods = CompressAIModel(codec, 0).eval()(x)["likelihoods"]
    bits = sum(-each.log2().sum() for each in likelihoods.values())
    assert float(bits) == pytest.approx(float(codec.reconstruct(2 * x - 1, 0).bits.sum()), rel=1e-5)


def test_a_loss_over_rate_and_distortion_has_gradients(codec: ImageCodec) -> None:
    model, x = CompressAIModel(copy.deepcopy(codec), 1).train(), batch(64, 64)
    out = model(x)
    loss = (out["x_hat"] - x).square().mean() - out["likelihoods"]["y"].log().mean()
    loss.backward()
    gradient = model.codec.transform.analysis.gain.grad
    assert gradient is not None
    assert float(gradient.abs().sum()) > 0


@pytest.mark.parametrize("size", [(64, 64), (33, 70)])
def test_strings_are_files(codec: ImageCodec, size: tuple[int, int]) -> None:
    model, x = CompressAIModel(codec, 2), batch(*size)
    assert model.update(force=True)
    made = model.compress(x)
    assert set(made) == {"strings", "shape"}
    (strings,) = made["strings"]
    pictures = [render_picture(*size, number) for number in range(2)]
    assert strings == [codec.compress(picture, 2) for picture in pictures]
    x_hat = model.decompress(**made)["x_hat"]
    assert x_hat.shape == x.shape
    for data, each in zip(strings, x_hat, strict=True):
        decoded = each.permute(1, 2, 0).mul(255).round().byte().numpy()
        assert np.array_equal(decoded, codec.decompress(data))
    with pytest.raises(ValueError, match=re.escape(f"of {size}, not of (8, 8)")):
        model.decompress(made["strings"], (8, 8))


def test_what_it_cannot_do_is_said(codec: ImageCodec) -> None:
    with pytest.raises(ValueError, match="quality must be 0 to 3, not 4"):
        CompressAIModel(codec, 4)
    with pytest.raises(ValueError, match="leave --half out"):
        CompressAIModel(codec, 0).half()


def test_without_the_package_a_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "compressai", None)
    with pytest.raises(SystemExit, match=re.escape("pip install 'glc_train[compressai]'")):
        main(["pretrained"])


def test_its_own_evaluation_measures_our_files(
    tmp_path: Path, codec: ImageCodec, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("compressai", reason="CompressAI is not installed: pip install 'glc_train[compressai]'")
    sizes = [(192, 256), (176, 200)]  # its evaluation pads to multiples of 64, evenly on both sides
    for number, size in enumerate(sizes):
        write_picture(tmp_path / f"pictures/{number}.png", render_picture(*size, number))
    monkeypatch.setattr(adapter, "load_codec", lambda *_, **__: codec)
    arguments = ["pretrained", str(tmp_path / "pictures"), "-a", "glc", "-q", "0,3", "-d", str(tmp_path), "-o", "out"]
    main(arguments)
    (curve,) = read_results(tmp_path / "out.json").curves
    assert curve.metrics == ["psnr", "ms_ssim"]
    for quality, point in zip((0, 3), curve.points, strict=True):
        bpp, psnr = [], []
        for number, (height, width) in enumerate(sizes):
            picture = read_picture(tmp_path / f"pictures/{number}.png")
            above, left = (-height % 64) // 2, (-width % 64) // 2
            padded = np.pad(picture, ((above, -height % 64 - above), (left, -width % 64 - left), (0, 0)))
            data = codec.compress(padded, quality)
            decoded = codec.decompress(data)[above : above + height, left : left + width]
            bpp.append(8 * len(data) / (height * width))
            error = (decoded.astype(float) - picture) ** 2
            psnr.append(10 * math.log10(255**2 / error.mean()))
        assert point["bpp"] == pytest.approx(np.mean(bpp))
        assert point["psnr"] == pytest.approx(np.mean(psnr), abs=1e-3)
    capsys.readouterr()
    main([*arguments, "--entropy-estimation"])
    (estimated,) = read_results(tmp_path / "out.json").curves
    assert estimated.rate == "estimated"
    assert json.loads(capsys.readouterr().out)["results"]["bpp"] == [point["bpp"] for point in estimated.points]
    register(codec, "other")
    import compressai.zoo

    assert compressai.zoo.image_models["other"](quality=1, metric="mse", pretrained=True).quality == 1


@pytest.mark.slow
def test_the_program_takes_other_weights(tmp_path: Path) -> None:
    pytest.importorskip("compressai", reason="CompressAI is not installed: pip install 'glc_train[compressai]'")
    write_picture(tmp_path / "pictures/0.png", render_picture(192, 192, 0))
    weights = tiny_image(tmp_path / "tiny.safetensors")
    main(["--weights", str(weights), "pretrained", str(tmp_path / "pictures"), "-a", "glc", "-d", str(tmp_path)])
    assert (tmp_path / "glc-ans.json").is_file()
