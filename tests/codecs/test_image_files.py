"""Files of the image codec: exact round trips, whatever the threads; sizes; errors in use."""

import copy
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from glc_train.bitstream import (
    ContentCheck,
    FormatError,
    GaussianTables,
    ImageHeader,
    SymbolWriter,
    WeightsMismatchError,
    pack_image,
)
from glc_train.codecs import ImageCodec, exact_stream, pad_to_multiple
from glc_train.codecs.exact_stream import ExactLatentCoder
from glc_train.codecs.symbol_steps import ChooseStep, Places, TableIndex
from glc_train.pixels import picture_to_tensor, tensor_to_picture
from glc_train.transform import PriorParameters, SymbolStep
from glc_train.weights import save_codec
from tests.codecs.conftest import scaled_codec

SIZES = [(1, 1), (1, 70), (63, 65), (64, 64), (200, 120)]
# Layers of the tiny decoder that give the parameters of pass 0 and of the others.
FUSION = "hyper_synthesis.fusion.1.1.conv_out"
CONTEXT = "context.shared.0.1.conv_out"
FIXED_COST = 16  # bytes beyond the ideal code length: header, checks, and the end of the entropy code


def latent_coder(codec: ImageCodec) -> ExactLatentCoder:
    """The exact coder of a codec with a transform."""
    coder = codec.picture_coder()
    assert isinstance(coder, ExactLatentCoder)
    return coder


def digest(latent: torch.Tensor) -> str:
    return hashlib.sha256(latent.numpy().tobytes()).hexdigest()


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_round_trip(codec: ImageCodec, photograph: np.ndarray, height: int, width: int) -> None:
    picture = photograph[:height, :width]
    for quality in range(codec.quality_levels):
        result = codec.compress_with_report(picture, quality)
        assert result.data == codec.compress(picture, quality)
        header, latent = codec.decompress_latent(result.data)
        assert (header.height, header.width, header.quality) == (height, width, quality)
        decoded = codec.decompress(result.data)
        assert decoded.shape == picture.shape
        assert decoded.dtype == np.uint8
        assert len(result.data) <= result.ideal_bits / 8 + FIXED_COST
        assert len(result.data) >= result.ideal_bits / 8
        # The decoded picture is the one that `forward` promises, but for symbols on a rounding edge.
        with torch.inference_mode():
            out = codec(picture_to_tensor(picture), quality)
        error = (latent.float() - out.latent_hat).square().mean().sqrt() / out.latent_hat.std()
        assert float(error) < 0.2
        assert 0 < result.estimated_bits_z < 1.2 * float(out.bits_z.sum()) + 1  # tables adapt, which the model does not
        assert float(out.bits_y.sum()) == pytest.approx(result.estimated_bits_y, rel=0.02, abs=16)


def test_a_latent_that_was_computed_elsewhere_makes_the_same_file(codec: ImageCodec, photograph: np.ndarray) -> None:
    picture = photograph[:63, :130]
    with torch.inference_mode():
        latent = codec.encode_latent(pad_to_multiple(picture_to_tensor(picture), codec.multiple))
    assert codec.compress_latent(latent, (63, 130), 1) == codec.compress(picture, 1)
    for wrong in ((65, 130), (130, 63), (0, 130), (63, -1)):
        with pytest.raises(ValueError, match=r"the latent of a picture of .* is \("):
            codec.compress_latent(latent, wrong, 1)
    with pytest.raises(ValueError, match="quality"):
        codec.compress_latent(latent, (63, 130), codec.quality_levels)
    with pytest.raises(ValueError, match="infinities or NaN"):
        codec.compress_latent(latent * torch.nan, (63, 130), 1)


def test_encoder_and_decoder_agree_on_every_value(
    codec: ImageCodec, photograph: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The encoder's own decoded y, not only its symbols, is what the decoder gets."""
    seen: list[torch.Tensor] = []
    decoder = latent_coder(codec).decoder
    original = decoder.decode_y

    def decode_y(prior: PriorParameters, step: SymbolStep) -> torch.Tensor:
        seen.append(original(prior, step))
        return seen[-1]

    monkeypatch.setattr(decoder, "decode_y", decode_y)
    codec.decompress_latent(codec.compress(photograph[:100, :90], 2))
    assert len(seen) == 2
    assert seen[0].abs().sum() > 0
    assert torch.equal(seen[0], seen[1])


@pytest.mark.parametrize("gain", [1.0, 3.0, 8.0])
def test_what_a_file_costs(tiny_config: dict[str, Any], photograph: np.ndarray, gain: float) -> None:
    codec = scaled_codec(tiny_config, gain)
    for size in (64, 192, 400):
        result = codec.compress_with_report(photograph[:size, :size], 2)
        overhead = len(result.data) - result.ideal_bits / 8
        assert 0 <= overhead <= FIXED_COST
        if len(result.data) >= 1200:
            assert overhead <= 0.01 * len(result.data)
        assert result.estimated_bits == pytest.approx(result.estimated_bits_y + result.estimated_bits_z)


def test_optimised_quantisation_makes_smaller_files(tiny_config: dict[str, Any], photograph: np.ndarray) -> None:
    codec, picture = scaled_codec(tiny_config, 3.0), photograph[:192, :192]
    rounded, plain = codec.compress_with_report(picture, 2), codec.compress(picture, 1)
    codec.transform.rdoq = (0.0, 0.0, 0.1, 0.0)
    result = codec.compress_with_report(picture, 2)
    assert len(result.data) < len(rounded.data)
    assert codec.compress(picture, 1) == plain
    with torch.inference_mode():
        out = codec(picture_to_tensor(picture), 2)
    assert float(out.bits_y.sum()) == pytest.approx(result.estimated_bits_y, rel=0.02, abs=16)
    codec.transform.rdoq = (0.0,) * 4  # a decoder need not know
    _, latent = codec.decompress_latent(result.data)
    assert float((latent.float() - out.latent_hat).square().mean().sqrt() / out.latent_hat.std()) < 0.1


class DrawnFromTheModel(ChooseStep):
    """Symbols drawn from the Gaussians of each pass."""

    def code(self, mean: torch.Tensor, scale: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        self.target[at] = mean + torch.randn_like(mean) * scale
        return super().code(mean, scale, at)


@pytest.mark.parametrize("centre", [0.15, 0.4, 1.0, 6.0])
def test_the_estimate_is_what_symbols_of_the_model_cost(
    tiny_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch, centre: float
) -> None:
    monkeypatch.setattr(exact_stream, "ChooseStep", DrawnFromTheModel)
    codec = scaled_codec(tiny_config, 1.0)
    channels = codec.transform.channels
    for layer, first in ((FUSION, channels), (CONTEXT, 0)):
        conv = codec.transform.decoder.get_submodule(layer)
        conv.get_parameter("bias")[first : first + channels] = centre * torch.linspace(0.5, 1.5, channels)
        conv.get_parameter("weight")[first : first + channels] *= 0.1 * centre
    report = (
        latent_coder(codec)
        .choose_y(torch.zeros(1, channels, 32, 32), torch.randint(64, (1, 8, 8)))
        .pack(ContentCheck())
    )
    assert report.estimated_bits_y > 800
    assert report.ideal_bits == pytest.approx(report.estimated_bits_y + report.estimated_bits_z, rel=0.01)
    assert len(report.payload) <= report.ideal_bits / 8 + 4


def test_escapes_come_back(tiny_config: dict[str, Any], photograph: np.ndarray) -> None:
    codec = scaled_codec(tiny_config, 40.0)
    coder = latent_coder(codec)
    y, z = torch.randn(1, 32, 8, 8) * 300, torch.randint(64, (1, 2, 2))
    y[0, 0, 0, 0] = 1e6
    report = coder.choose_y(y, z).pack(ContentCheck())
    assert report.ideal_bits > 20 * y.numel()  # nearly every symbol lies outside of its table
    check = ContentCheck()
    decoded = coder.read_symbols(report.payload, 8, 8, codec.device, check)
    assert check.digest() == report.content_check
    assert torch.equal(decoded, report.decoded)
    assert torch.isfinite(coder.latent(decoded, 1)).all()


READ_ELSEWHERE = """
import hashlib, json, sys
from pathlib import Path
import torch
from glc_train.bitstream import FormatError
from glc_train.weights import load_codec
torch.set_num_threads(2)
codec = load_codec(sys.argv[1])
out = {"threads": torch.get_num_threads(), "digests": {}, "errors": {}}
for path in sorted(Path(sys.argv[2]).glob("*.glc")):
    try:
        header, latent = codec.decompress_symbols(path.read_bytes())
        out["digests"][path.stem] = hashlib.sha256(latent.numpy().tobytes()).hexdigest()
    except FormatError as error:
        out["errors"][path.stem] = str(error)
# Not ru_maxrss: that of a new process starts at its parent's.
status = Path("/proc/self/status").read_text()
out["peak_bytes"] = int(status.split("VmHWM:")[1].split()[0]) * 1024
print(json.dumps(out))
"""


def read_elsewhere(weights: Path, files: Path, repository: Path) -> dict[str, Any]:
    """Decodes every file of a folder in another process, with two threads."""
    run = subprocess.run(
        [sys.executable, "-c", READ_ELSEWHERE, str(weights), str(files)],
        cwd=repository,
        env=os.environ | {"OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    result: dict[str, Any] = json.loads(run.stdout)
    return result


def test_another_process_decodes_the_same_bits(
    codec: ImageCodec, tiny_config: dict[str, Any], photograph: np.ndarray, tmp_path: Path, repository: Path
) -> None:
    save_codec(codec, tiny_config, tmp_path / "weights.safetensors")
    expected = {}
    for height, width in SIZES:
        file = codec.compress(photograph[:height, :width], 3)
        (tmp_path / f"{height}x{width}.glc").write_bytes(file)
        expected[f"{height}x{width}"] = digest(codec.decompress_symbols(file)[1])
    # Right weights and checksum: as much as a file of this size may claim with nonsense for a payload, and more.
    claim = pack_image(ImageHeader(1024, 1024, 0, codec.fingerprint, 1), np.random.default_rng(0).bytes(128))
    (tmp_path / "claim.glc").write_bytes(claim)
    (tmp_path / "huge.glc").write_bytes(pack_image(ImageHeader(65536, 65536, 0, codec.fingerprint, 1), b"")[:2000])
    result = read_elsewhere(tmp_path / "weights.safetensors", tmp_path, repository)
    assert result["threads"] == 2
    assert result["digests"] == expected
    assert set(result["errors"]) == {"claim", "huge"}
    assert result["peak_bytes"] < 1e9


def test_threads_do_not_matter(codec: ImageCodec, photograph: np.ndarray) -> None:
    file = codec.compress(photograph[:200, :120], 1)
    latent = codec.decompress_symbols(file)[1]
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert torch.equal(codec.decompress_symbols(file)[1], latent)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_files_pass_between_processor_and_graphics_card(codec: ImageCodec, photograph: np.ndarray) -> None:
    there = copy.deepcopy(codec).to("cuda")
    for writer, reader in ((codec, there), (there, codec)):
        file = writer.compress(photograph[:200, :120], 1)
        assert torch.equal(reader.decompress_symbols(file)[1].cpu(), writer.decompress_symbols(file)[1].cpu())


def test_bfloat16_decodes_the_same_latent(codec: ImageCodec, photograph: np.ndarray) -> None:
    picture = photograph[:100, :130]
    low = copy.deepcopy(codec)
    low.compute_dtype = torch.bfloat16
    file = codec.compress(picture, 2)
    assert torch.equal(low.decompress_symbols(file)[1], codec.decompress_symbols(file)[1])
    ours, theirs = low.decompress(file).astype(int), codec.decompress(file).astype(int)
    assert 0 < np.abs(ours - theirs).mean() < 4  # the picture itself is computed coarsely
    assert np.array_equal(codec.decompress(low.compress(picture, 2)).shape, picture.shape)


def test_other_weights_are_refused(codec: ImageCodec, photograph: np.ndarray) -> None:
    file = codec.compress(photograph[:64, :64], 0)
    parts = ("autoencoder.decoder.last_layer", "transform.z_counts", "transform.decoder.synthesis.gain")
    for part in (*parts, "transform.z_quantiser.embedding.weight"):
        other = copy.deepcopy(codec)
        owner, name = part.rsplit(".", 1)
        getattr(other.get_submodule(owner), name).view(-1)[0] += 1
        with pytest.raises(WeightsMismatchError, match="fingerprint"):
            other.decompress(file)
    # The encoder's own parts do not matter to a decoder.
    encoder = copy.deepcopy(codec)
    encoder.get_parameter("autoencoder.encoder.quant_conv.bias").add_(1)
    encoder.get_parameter("transform.analysis.gain").add_(1)
    assert encoder.fingerprint == codec.fingerprint
    assert np.array_equal(encoder.decompress(file), codec.decompress(file))


def test_weights_changed_in_place_are_used(codec: ImageCodec, photograph: np.ndarray) -> None:
    codec, picture = copy.deepcopy(codec), photograph[:64, :64]
    before = codec.compress(picture, 1)
    codec.transform.decoder.get_parameter(f"{CONTEXT}.bias").add_(0.5)
    after = codec.compress(picture, 1)
    assert after != before
    assert codec.decompress(after).shape == picture.shape
    with pytest.raises(WeightsMismatchError):
        codec.decompress(before)


def test_weights_loaded_in_inference_mode_work(codec: ImageCodec, photograph: np.ndarray) -> None:
    with torch.inference_mode():
        other = copy.deepcopy(codec)
    file = codec.compress(photograph[:64, :64], 1)
    assert torch.equal(other.decompress_symbols(file)[1], codec.decompress_symbols(file)[1])


def test_a_decoder_that_computes_differently_is_found_out(codec: ImageCodec, photograph: np.ndarray) -> None:
    other = copy.deepcopy(codec)
    file = codec.compress(photograph[:128, :128], 1)
    # The fingerprint is that of the weights: unchanged.
    latent_coder(other).decoder.get_buffer(f"{FUSION}.bias").add_(0.01)
    assert other.fingerprint == codec.fingerprint
    with pytest.raises(FormatError, match=r"did not decode to what was encoded|damaged"):
        other.decompress(file)


def test_the_content_check_covers_tables_and_symbols() -> None:
    zeros, mask, digests = torch.zeros(1, 4, 2, 2), torch.ones(4, 2, 2, dtype=torch.bool), set()
    for scale, target in ((1.0, 0.0), (1.1, 0.0), (1.0, 1.0)):
        check = ContentCheck()
        step = ChooseStep(TableIndex(GaussianTables()), Places(), zeros + target, 0.0)
        step(zeros + scale, zeros, mask)
        step.write(SymbolWriter(), check, None)
        digests.add(check.digest())
    assert len(digests) == 3


@pytest.mark.parametrize("quality", [-1, 4, 1000])
def test_quality_out_of_range(codec: ImageCodec, photograph: np.ndarray, quality: int) -> None:
    with pytest.raises(ValueError, match=f"quality must be 0 to 3, not {quality}"):
        codec.compress(photograph[:64, :64], quality)


def test_integers_of_numpy_are_qualities_and_floats_are_not(codec: ImageCodec, photograph: np.ndarray) -> None:
    picture = photograph[:64, :64]
    assert codec.compress(picture, np.int64(2)) == codec.compress(picture, 2)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        codec.compress(picture, 2.0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((64, 64), np.uint8),
        np.zeros((64, 64, 4), np.uint8),
        np.zeros((64, 64, 3), np.float32),
        np.zeros((0, 64, 3), np.uint8),
        np.zeros((64, 0, 3), np.uint8),
    ],
)
def test_what_is_no_picture(codec: ImageCodec, picture: np.ndarray) -> None:
    with pytest.raises(ValueError, match="a picture is uint8"):
        codec.compress(picture, 0)


@pytest.mark.parametrize("shape", [(65537, 1), (1, 65537)])
def test_too_large_a_picture(codec: ImageCodec, shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="sides of at most 65536"):
        codec.compress(np.broadcast_to(np.zeros(3, np.uint8), (*shape, 3)), 0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_diverged_weights_write_no_file(codec: ImageCodec, photograph: np.ndarray, value: float) -> None:
    codec = copy.deepcopy(codec)
    codec.transform.analysis.gain[1] = value
    with pytest.raises(ValueError, match="damaged or diverged"):
        codec.compress(photograph[:64, :64], 1)
    assert codec.compress(photograph[:64, :64], 2)  # another quality is none the worse


@pytest.mark.parametrize(("height", "width"), [(1, 1), (65, 130), (64, 64)])
def test_forward_takes_any_size(codec: ImageCodec, height: int, width: int) -> None:
    x = torch.rand(2, 3, height, width) * 2 - 1
    with torch.inference_mode():
        out = codec(x, torch.tensor([0, 3]))
        alone = codec(x[1:], 3)
    assert out.x_hat.shape == x.shape
    assert out.bits_y.shape == out.bits_z.shape == (2,)
    assert torch.allclose(alone.latent, out.latent[1:], atol=1e-4)
    assert float(alone.bits_y[0]) == pytest.approx(float(out.bits_y[1]), rel=0.05)


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_padding_replicates_at_the_right_and_bottom(dtype: torch.dtype) -> None:
    x = torch.arange(6, dtype=dtype).view(1, 1, 2, 3)
    assert pad_to_multiple(x, 4)[0, 0].tolist() == [[0, 1, 2, 2], [3, 4, 5, 5], [3, 4, 5, 5], [3, 4, 5, 5]]
    assert pad_to_multiple(x, 1) is x or torch.equal(pad_to_multiple(x, 1), x)


def test_pictures_and_tensors() -> None:
    picture = np.arange(256 * 3, dtype=np.int64).reshape(16, 16, 3).astype(np.uint8)
    x = picture_to_tensor(picture)
    assert x.shape == (1, 3, 16, 16)
    assert float(x.min()) == -1
    assert float(x.max()) == 1
    assert np.array_equal(tensor_to_picture(x), picture)
    assert tensor_to_picture(torch.tensor([-3.0, 3.0]).view(1, 1, 1, 2).expand(1, 3, 1, 2))[0].tolist() == [
        [0] * 3,
        [255] * 3,
    ]
