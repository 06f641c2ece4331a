"""The promise that files decode everywhere: what steers the entropy coder has the same bits under every setting."""

import io
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from glc_train.autoencoder import VQVAE
from glc_train.bitstream import ClipFormat
from glc_train.codecs import ImageCodec, VideoDecoder, compress_clip, decompress_clip, expand_quality
from glc_train.layers import FiniteScalarQuantiser
from glc_train.transform import ImageTransform
from glc_train.weights import load_any_codec, save_codec
from tests.codecs.exact_bits import SETTINGS, video_codec, write_example
from tests.codecs.video_harness import CLIP, QUALITY, VIDEO

# Moves and comparisons; sums, products and quotients of two numbers; rounding. IEEE 754 defines them all.
DEFINED = {
    "_has_compatible_shallow_copy_type", "_local_scalar_dense", "_to_copy", "_unsafe_view", "abs", "add", "add_",
    "alias", "bucketize", "cat", "chunk", "clamp", "clamp_", "clamp_max", "clamp_min", "clone", "constant_pad_nd",
    "contiguous", "copy_", "detach", "div", "expand", "expand_as", "flatten", "floor_", "index", "index_copy_",
    "index_put_", "index_select", "item", "leaky_relu", "lift_fresh", "lt", "masked_fill_", "max", "mul", "mul_",
    "nonzero", "ones_like", "pad", "permute",
    "pixel_shuffle", "reshape", "resolve_conj", "resolve_neg", "round", "round_", "select", "slice", "split", "sub",
    "t", "to", "transpose", "unbind", "unflatten", "unsqueeze", "view", "zeros_like",
}  # fmt: skip
PRODUCTS = {"matmul", "mm", "bmm", "conv2d", "convolution"}  # of integers whose sums are exact
FSQ: dict[str, Any] = {
    "widths": [32],
    "latent_channels": 8,
    "codes": 30,
    "res_blocks": 1,
    "patch": 8,
    "groups": 8,
    "fsq_levels": [6, 5],
}


class Operations(TorchDispatchMode):
    """Collects what is done with floating-point tensors, and looks at what goes into it."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.largest = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        tensors = [t for t in tree_leaves((args, kwargs, out)) if isinstance(t, torch.Tensor)]
        assert all(t.dtype != torch.float64 for t in tensors)  # which Apple's GPUs have not
        if any(t.is_floating_point() for t in tensors):
            name = func.name().removeprefix("aten::").split(".")[0]
            self.names.add(name)
            if name in ("add", "add_", "sub"):
                assert "alpha" not in (kwargs or {})  # a product and a sum, fused on some machines
            if name == "addcmul":  # fused or not: the product is exact
                assert bool((torch.frexp(args[2]).mantissa == 0.5).all())
            if name == "div" and not getattr(args[1], "ndim", 0):  # GPUs multiply by the reciprocal of a number
                assert math.frexp(float(args[1]))[0] == 0.5
            if name in PRODUCTS:
                a, b = (operand.double() for operand in args[:2])
                assert torch.equal(a, a.round())
                assert torch.equal(b, b.round())
                assert min(float(a.abs().max()), float(b.abs().max())) <= 256
                assert max(float(a.abs().max()), float(b.abs().max())) < 1024
                self.largest = max(self.largest, float(func(a.abs(), b.abs(), *args[2:], **(kwargs or {})).max()))
        return out


def picture(height: int = 40, width: int = 50, seed: int = 0) -> np.ndarray:
    """uint8 (height, width, 3), noise."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def image_codec(kind: str, config: dict[str, Any]) -> ImageCodec:
    """Random weights of the variant `kind`."""
    section = {k: v for k, v in config["autoencoder"].items() if k != "_target_"}
    transform = {k: v for k, v in config["transform"].items() if k != "_target_"}
    if kind == "finite scalars":
        return ImageCodec(VQVAE(**FSQ), None).eval()
    if kind == "indices":
        return ImageCodec(VQVAE(**section), None).eval()
    changed = {"published": {}, "bare": {"context": "none", "hyper_prior": "factorised"}}[kind]
    return ImageCodec(VQVAE(**section), ImageTransform(**(transform | changed))).eval()


KINDS = ("published", "bare", "indices", "finite scalars")


@pytest.mark.parametrize("kind", KINDS)
def test_only_defined_operations_decode_a_picture(kind: str, tiny_config: dict[str, Any]) -> None:
    codec = image_codec(kind, tiny_config)
    data = codec.compress(picture(), 0)
    codec._exact = type(codec._exact)()  # so that the coder is made and calibrated under observation
    with Operations() as seen:
        codec.decompress_symbols(data)
    assert seen.names <= DEFINED | PRODUCTS | {"addcmul"}
    assert seen.largest < 2**24
    assert (seen.largest > 0) == (kind in ("published", "bare"))


class NoFloat64(TorchDispatchMode):
    """As on a device without that type."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        assert all(t.dtype != torch.float64 for t in tree_leaves((args, kwargs, out)) if isinstance(t, torch.Tensor))
        return out


def test_no_float64_is_needed_to_code_and_show(tiny_config: dict[str, Any]) -> None:
    codecs, frames = [image_codec(kind, tiny_config) for kind in KINDS], [picture(seed=seed) for seed in range(2)]
    video = video_codec()
    with NoFloat64():
        for codec in codecs:
            assert codec.decompress(codec.compress(picture(), 0)).shape == picture().shape
        assert len(decompress_clip(video, compress_clip(video, frames, QUALITY, CLIP).data)) == 2


def test_only_defined_operations_decode_a_clip() -> None:
    data = compress_clip(video_codec(), [picture(seed=seed) for seed in range(3)], QUALITY, CLIP).data
    codec = video_codec()
    with Operations() as seen:
        decoder = VideoDecoder(codec, io.BytesIO(data))
        while (record := decoder._next_latent()) is not None and record.kind != "end":
            pass
    assert "bucketize" in seen.names  # the weight map
    assert seen.names <= DEFINED | PRODUCTS | {"addcmul"}
    assert 0 < seen.largest < 2**24


def test_every_setting_computes_the_same_bits(tmp_path: Path, repository: Path) -> None:
    """One process also walks the settings that can be changed within one."""
    write_example(tmp_path, [picture(seed=seed) for seed in range(3)])
    settings: list[dict[str, str]] = [
        {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE"},
        {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
        {"ONEDNN_DEFAULT_FPMATH_MODE": "ANY"},
        {},
    ]
    names = {name for setting in settings for name in setting}
    plain = {k: v for k, v in os.environ.items() if k not in names}
    plain["OMP_WAIT_POLICY"] = "PASSIVE"  # threads that wait must not take the processor from the others
    command = [sys.executable, "-m", "tests.codecs.exact_bits", str(tmp_path)]
    running = [
        subprocess.Popen(
            [*command, *([] if setting else ["walk"])],
            cwd=repository,
            env=plain | setting,
            stdout=subprocess.PIPE,
            text=True,
        )
        for setting in settings
    ]
    found = [json.loads(process.communicate(timeout=300)[0]) for process in running]
    assert found[0]["damages"] == []
    assert found[0]["contiguous"] == found[0]["channels last"] == found[0]["strided"]
    assert len(found[0]["latents"]["plain"]) == 4  # of three frames and a picture
    walked = found[-1]["latents"]
    assert walked.keys() == SETTINGS.keys()
    assert all(latents == walked["plain"] for latents in walked.values())
    assert all(other | {"latents": walked} == found[-1] for other in found)
    assert all(other["latents"]["plain"] == walked["plain"] for other in found)


@pytest.mark.parametrize("levels", [2, 5, 64])
def test_gains_are_rounded_once_from_float64(levels: int, tiny_config: dict[str, Any]) -> None:
    codec = image_codec("published", tiny_config)
    torch.nn.init.uniform_(codec.transform.decoder.synthesis.gain)
    gain = codec.transform.decoder.synthesis.gain.detach()[:, :, 0, 0].numpy()
    expanded = expand_quality(codec, levels).transform.decoder.synthesis.gain.detach()[:, :, 0, 0].numpy()
    for level in range(levels):
        row, part = divmod(level * 3, levels - 1)
        low, high = gain[row].astype(np.float64), gain[min(row + 1, 3)].astype(np.float64)
        expected = [a + (b - a) * (part / (levels - 1)) for a, b in zip(low.tolist(), high.tolist(), strict=True)]
        assert np.array_equal(expanded[level], np.array(expected).astype(np.float32))


# ------------------------------------------------------------------ what a caller's settings must not change


@pytest.fixture
def float64_default() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("float64_default")
@pytest.mark.parametrize("kind", ["published", "finite scalars", "video"])
def test_a_default_type_of_float64_changes_nothing(kind: str, tiny_config: dict[str, Any], tmp_path: Path) -> None:
    torch.set_default_dtype(torch.float32)
    config = {"autoencoder": tiny_config["autoencoder"], "transform": tiny_config["transform"]}
    codec = video_codec() if kind == "video" else image_codec(kind, tiny_config)
    if kind == "finite scalars":
        config = {"autoencoder": FSQ, "transform": None}
    if kind == "video":
        levels = {"transform": config["transform"] | {"quality_levels": 64}}
        config = {"image": config | levels, "transform": VIDEO, "own_autoencoder": True, "gop": {"intra_period": 5}}
    save_codec(codec, config, tmp_path / "weights.safetensors")
    before = load_any_codec(tmp_path / "weights.safetensors")
    torch.set_default_dtype(torch.float64)
    after = load_any_codec(tmp_path / "weights.safetensors")
    assert {p.dtype for p in after.parameters()} == {torch.float32}
    assert after.fingerprint == before.fingerprint
    frames = [picture(), picture(seed=1)][: 2 if kind == "video" else 1]
    size = ClipFormat(width=frames[0].shape[1], height=frames[0].shape[0])
    data = compress_clip(after, frames, 0, size).data
    shown = decompress_clip(after, data)
    after.reconstruct(torch.zeros(1, 3, 64, 64, dtype=torch.float32), 0)
    torch.set_default_dtype(torch.float32)
    assert data == compress_clip(before, frames, 0, size).data
    assert np.array_equal(shown, decompress_clip(before, data))


def test_finite_scalars_do_not_depend_on_an_outer_autocast(tiny_config: dict[str, Any]) -> None:
    codec = image_codec("finite scalars", tiny_config)
    data = codec.compress(picture(), 0)
    latent = codec.decompress_symbols(data)[1]
    quantiser = codec.autoencoder.quantiser
    assert isinstance(quantiser, FiniteScalarQuantiser)
    with torch.autocast("cpu", torch.bfloat16):
        fresh = image_codec("finite scalars", tiny_config)
        fresh.load_state_dict(codec.state_dict())
        assert torch.equal(fresh.decompress_symbols(data)[1], latent)


def test_subnormal_weights_are_zero_whatever_the_process_does_with_them() -> None:
    codec = video_codec()
    bias = codec.transform.decoder.get_parameter("temporal_prior.bias")
    weight = codec.transform.decoder.get_parameter("temporal_prior.weight")
    weight.zero_()
    bias.fill_(1e-39)
    weight[0, 0, 1, 1] = 1e-40
    assert codec.frame_coder().decoder.get_buffer("temporal_prior.weight").count_nonzero() == 0
    assert codec.frame_coder().decoder.get_buffer("temporal_prior.bias").count_nonzero() == 0


def test_a_clip_decodes_under_an_outer_autocast() -> None:
    data = compress_clip(video_codec(), [picture(seed=seed) for seed in range(3)], QUALITY, CLIP).data
    plain = VideoDecoder(video_codec(), io.BytesIO(data))
    latents = [plain._chain.previous().latent_hat for _ in plain]
    with torch.autocast("cpu", torch.bfloat16):
        decoder = VideoDecoder(video_codec(), io.BytesIO(data))
        assert all(torch.equal(decoder._chain.previous().latent_hat, x) for _, x in zip(decoder, latents, strict=True))
    assert decoder.damages == []
