import copy
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from glc_train.autoencoder import VQVAE
from glc_train.codecs import GOP, FrameState, ImageCodec, VideoCodec, expand_quality
from glc_train.transform import ImageTransform, VideoTransform

VIDEO: dict[str, Any] = {
    "latent_channels": 32, "channels": 8, "token_channels": 8, "tokens": 4, "heads": 2, "codes": 16,
    "quality_levels": 64, "depth": 1, "refine_depth": 1, "context_depth": 2, "condition_channels": 4,
}  # fmt: skip


# ------------------------------------------------------------------ groups of pictures


def test_the_published_pattern() -> None:
    gop = GOP()
    assert [t for t in range(200) if gop.is_intra(t)] == [0, 96, 192]
    assert [t for t in range(1, 96) if gop.resets(t)] == [1, 33, 65]
    assert [gop.adaptor(t, has_y=True) for t in range(1, 10)] == [None, 0, 2, 0, 2, 0, 2, 0, 1]
    assert [gop.adaptor(t, has_y=True) for t in (32, 33, 34)] == [0, None, 0]
    assert all(gop.adaptor(t, has_y=False) is None for t in range(96))


def test_every_intra_period_begins_anew() -> None:
    gop = GOP(intra_period=5, pattern=[0, 2, 1], reset_interval=3)
    for t in range(5):
        for method in (gop.is_intra, gop.resets, gop.position):
            assert method(t) == method(t + 5) == method(t + 10)
        assert gop.adaptor(t, True) == gop.adaptor(t + 5, True)
    assert [gop.adaptor(t, True) for t in range(1, 5)] == [None, 1, 0, None]
    assert gop == GOP(5, (0, 2, 1), 3)


def test_special_periods() -> None:
    assert [GOP(intra_period=None).is_intra(t) for t in (0, 1, 96, 1000)] == [True, False, False, False]
    assert GOP(intra_period=None).position(1000) == 1000
    assert all(GOP(intra_period=1).is_intra(t) for t in range(5))
    assert all(GOP(reset_interval=1).adaptor(t, True) is None for t in range(1, 96))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"intra_period": 0}, "intra_period must be at least 1"),
        ({"reset_interval": 0}, "reset_interval must be at least 1"),
        ({"pattern": []}, "pattern must list adaptors"),
        ({"pattern": [0, -1]}, "pattern must list adaptors"),
    ],
)
def test_patterns_that_mean_nothing_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GOP(**arguments)


# ------------------------------------------------------------------ quality levels of frame 0


def gains(codec: ImageCodec) -> tuple[Tensor, Tensor]:
    """Gains (levels, C, 1, 1) of analysis and synthesis."""
    assert isinstance(codec.transform, ImageTransform)
    return codec.transform.analysis.gain.detach(), codec.transform.decoder.synthesis.gain.detach()


def test_gains_are_interpolated_with_both_ends_aligned(codec: ImageCodec) -> None:
    expanded = expand_quality(codec, 64)
    assert expanded.quality_levels == 64
    assert codec.quality_levels == 4
    for ours, theirs in zip(gains(expanded), gains(codec), strict=True):
        wide, narrow = ours.flatten(1), theirs.flatten(1)
        place = np.arange(64) * 3 / 63
        for channel in (0, 5):
            expected = np.interp(place, np.arange(4), narrow[:, channel].numpy())
            assert wide[:, channel].numpy() == pytest.approx(expected, rel=1e-5)
        assert torch.equal(wide[[0, 63]], narrow[[0, 3]])
        assert torch.allclose(wide[[21, 42]], narrow[[1, 2]], rtol=1e-6)
    assert expanded.autoencoder is codec.autoencoder


def test_quality_of_frame_0_is_that_of_the_image_model(codec: ImageCodec) -> None:
    x = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.inference_mode():
        ours, theirs = expand_quality(codec, 64)(x, 21), codec(x, 1)
    assert torch.equal(ours.symbols, theirs.symbols)
    assert torch.allclose(ours.latent_hat, theirs.latent_hat, atol=1e-4)


def test_one_level_expands_to_equal_ones(codec: ImageCodec) -> None:
    one = expand_quality(codec, 1)
    assert torch.equal(gains(one)[0], gains(codec)[0][:1])
    assert torch.equal(gains(expand_quality(one, 5))[0], gains(one)[0].expand(5, -1, -1, -1))


# ------------------------------------------------------------------ the codec


@pytest.fixture(scope="module")
def video(codec: ImageCodec, tiny_config: dict[str, Any]) -> VideoCodec:
    torch.manual_seed(4)
    own = VQVAE(**{k: v for k, v in tiny_config["autoencoder"].items() if k != "_target_"})
    gop = GOP(intra_period=5, reset_interval=3)
    return VideoCodec(codec, VideoTransform(**VIDEO), own, gop).eval().requires_grad_(False)


def clip(batch: int = 1, frames: int = 4, height: int = 50, width: int = 70) -> Tensor:
    """Noise that moves: (batch, frames, 3, height, width) in [-1, 1]."""
    still = torch.rand(batch, 3, height, width + frames) * 2 - 1
    return torch.stack([still[..., t : t + width] for t in range(frames)], dim=1)


def test_frames_are_coded_as_the_gop_says(video: VideoCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int | None] = []
    forward = VideoTransform.forward

    def spy(self: VideoTransform, latent: Tensor, previous: Tensor, adaptor: int | None, *rest: Any) -> Any:
        asked.append(adaptor)
        return forward(self, latent, previous, adaptor, *rest)

    monkeypatch.setattr(VideoTransform, "forward", spy)
    outputs = video(clip(frames=7), 30)
    assert [out.index for out in outputs] == list(range(7))
    assert [out.intra for out in outputs] == [True, False, False, False, False, True, False]
    assert asked == [None, 0, 2, None, None]  # frame 4 is 1 modulo 3, frame 6 follows an intra frame
    for out in outputs:
        assert (out.frame_context is None) is out.intra
        assert out.x_hat.shape == (1, 3, 50, 70)
        assert out.bits_y.shape == out.bits_z.shape == (1,)
        assert out.latent_hat.shape == (1, 32, 4, 8)  # padded to 64 × 128, in every frame alike
        assert out.z_indices.shape == ((1, 1, 2) if out.intra else (1, 4, 1))


def test_a_clip_is_its_frames_one_by_one(video: VideoCodec) -> None:
    pictures = clip(batch=2)
    quality = torch.tensor([5, 60])
    together = video(pictures, quality)
    state: FrameState | None = None
    for t, out in enumerate(together):
        before = copy.deepcopy(state)
        alone, after = video.code_frame(pictures[:, t], quality, state)
        assert torch.equal(alone.x_hat, out.x_hat)
        assert (after.has_y, after.index) == (t > 0, t)
        assert torch.equal(after.latent_hat, out.latent_hat)
        if state is not None and before is not None:  # the frame left the state as it was
            assert torch.equal(state.latent_hat, before.latent_hat)
            with pytest.raises(FrozenInstanceError):
                state.index = 9  # type: ignore[misc]
        state = after


def test_a_frame_depends_on_the_past_alone(video: VideoCodec) -> None:
    pictures = clip()
    changed = pictures.clone()
    changed[:, 2] = 0
    ours, theirs = video(pictures, 30), video(changed, 30)
    assert [torch.equal(a.x_hat, b.x_hat) for a, b in zip(ours, theirs, strict=True)] == [True, True, False, False]


def test_conditional_frames_use_their_own_autoencoder(video: VideoCodec) -> None:
    outputs = video(clip(height=64, width=64), 30)
    for out in outputs:
        network = video.image.autoencoder if out.intra else video.own_autoencoder
        assert network is not None
        assert torch.equal(out.x_hat, network.decoder(out.latent_hat, network.window))
    names = [name.split(".")[0] for name in video.state_dict()]
    assert set(names) == {"image", "transform", "own_autoencoder"}


def test_without_one_they_share_the_image_codecs(codec: ImageCodec) -> None:
    shared = VideoCodec(codec, VideoTransform(**VIDEO))
    assert shared.autoencoder is codec.autoencoder
    assert not any(name.startswith("own_autoencoder") for name in shared.state_dict())
    assert sum(p.numel() for p in shared.parameters()) == sum(
        p.numel() for part in (shared.image, shared.transform) for p in part.parameters()
    )
    assert shared.gop == GOP()


def test_an_image_codec_of_the_same_levels_is_taken_as_it_is(codec: ImageCodec) -> None:
    expanded = expand_quality(codec, 64)
    assert VideoCodec(expanded, VideoTransform(**VIDEO)).image is expanded
    assert VideoCodec(codec, VideoTransform(**(VIDEO | {"quality_levels": 4}))).image is codec


@pytest.mark.parametrize("quality", [-1, 64])
def test_quality_out_of_range_is_refused(video: VideoCodec, quality: int) -> None:
    with pytest.raises(ValueError, match="quality must be 0 to 63"):
        video(clip(frames=2), quality)
    state = video.code_frame(clip()[:, 0], 3, None)[1]
    with pytest.raises(ValueError, match="quality must be 0 to 63"):
        video.code_frame(clip()[:, 1], quality, state)


def test_parts_that_do_not_fit_are_refused(codec: ImageCodec, tiny_config: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"the image auto-encoder has 32 latent channels at 1/16 .* not 12 at 1/16"):
        VideoCodec(codec, VideoTransform(**(VIDEO | {"latent_channels": 12})))
    section = {k: v for k, v in tiny_config["autoencoder"].items() if k != "_target_"}
    with pytest.raises(ValueError, match=r"the video auto-encoder has 32 latent channels at 1/8 .* not 32 at 1/16"):
        VideoCodec(codec, VideoTransform(**VIDEO), VQVAE(**(section | {"patch": 2})))
    with pytest.raises(ValueError, match=r"gop\.pattern \[0, 3\] goes beyond video\.adaptors=3"):
        VideoCodec(codec, VideoTransform(**VIDEO), gop=GOP(pattern=(0, 3)))
    with pytest.raises(ValueError, match="needs an image model with quality levels, not IndexTransform"):
        VideoCodec(ImageCodec(codec.autoencoder, None), VideoTransform(**VIDEO))


def test_gradients_run_through_the_frames(codec: ImageCodec) -> None:
    video = VideoCodec(copy.deepcopy(codec).requires_grad_(False), VideoTransform(**VIDEO)).train()
    outputs = video(clip(frames=3), 30, "ste")
    (gradient,) = torch.autograd.grad(outputs[2].latent_hat.sum(), outputs[1].latent_hat)
    assert float(gradient.abs().sum()) > 0
    first = video.transform.decoder.context_model.intra_adaptor.weight
    (late,) = torch.autograd.grad(video(clip(frames=3), 30, "ste")[2].latent_hat.sum(), first)
    assert float(late.abs().sum()) > 0  # only frame 1 uses it
