"""The losses of the video stages: which frames are trained how, and what reaches them."""

from typing import Any

import pytest
import torch
from torch import Tensor

from glc_train.codecs import GOP
from glc_train.training import ClipSettings, Draws, VideoStage
from glc_train.training.video_stages import places_of
from glc_train.transform import VideoTransform
from tests.tiny_stages import LEVELS, clips, stage


def gradients(made: VideoStage, frames: int = 4) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Gradients of the whole loss by parameter, and what was logged."""
    losses = made.losses(clips(frames), Draws(0, 0))
    parts = [part for part in (losses.picture, losses.other) if part is not None]
    torch.stack(parts).sum().backward()
    named = {name: p.grad for name, p in made.named_parameters() if p.grad is not None}
    return named, dict(losses.terms)


# ------------------------------------------------------------------ which frame is coded how


def test_places_are_those_of_the_codec() -> None:
    gop = GOP(intra_period=40, reset_interval=16)
    places = places_of(gop, 45, ClipSettings())
    assert [place.t for place in places] == [t for t in range(45) if t not in (0, 40)]
    assert [p.adaptor for p in places] == [gop.adaptor(p.t, has_y=p.t not in (1, 41)) for p in places]
    assert {p.weight for p in places} == {1.0}


def test_weights_follow_the_frame_type_and_the_phase() -> None:
    settings = ClipSettings(frame_weights=[0.5, 1.2, 0.9])
    assert [p.weight for p in places_of(GOP(), 10, settings)] == [1.2, 0.5, 0.9, 0.5, 0.9, 0.5, 0.9, 0.5, 1.2]
    moved = places_of(GOP(), 4, settings, phase=6)
    assert [(p.adaptor, p.weight) for p in moved] == [(None, 0.9), (0, 0.5), (1, 1.2)]
    seen = {p.adaptor for phase in range(8) for p in places_of(GOP(), 3, settings, phase)}
    assert seen == {None, 0, 1, 2}


def test_the_phase_is_drawn_from_the_step() -> None:
    made, phases = stage(random_phase=True), []
    with torch.no_grad():
        for step in (*range(12), 4):
            frames, _, _ = made.code(clips(3), Draws(0, step))
            phases.append(frames[1].place.adaptor)
    assert set(phases) == {0, 1, 2}
    assert phases[-1] == phases[4]


def test_frames_are_coded_as_the_codec_codes_them() -> None:
    made = stage()
    frames, terms, _ = made.code(clips(3), Draws(0, 0))
    quality = Draws(0, 0).balanced(2, LEVELS)
    with torch.no_grad():
        expected = made.codec(clips(3), quality)
    for frame, out in zip(frames, expected[1:], strict=True):
        assert torch.allclose(frame.latent_hat, out.latent_hat, atol=1e-5)
        assert torch.equal(frame.z_indices, out.z_indices)
    bits = torch.stack([out.bits_y + out.bits_z for out in expected[1:]]).mean(0) / 64**2
    assert float(terms["bpp_y"] + terms["bpp_z"]) == pytest.approx(float(bits.mean()), rel=1e-4)


def test_the_lead_in_is_coded_as_in_a_file_and_not_trained() -> None:
    made, first = stage(cascaded=True, lead_in=2), set()
    for step in range(8):
        frames, _, _ = made.code(clips(5), Draws(0, step))
        with torch.no_grad():
            expected = made.codec(clips(5), Draws(0, step).balanced(2, LEVELS))
        start = frames[0].place.t
        assert [frame.place.t for frame in frames] == [start, start + 1]
        for frame in frames:
            assert torch.allclose(frame.latent_hat, expected[frame.place.t].latent_hat, atol=1e-5)
        first.add(start)
    assert first == {1, 2, 3}


# ------------------------------------------------------------------ what the gradient reaches


@pytest.mark.parametrize("pixels", [False, True])
def test_checkpointing_changes_no_gradient(pixels: bool) -> None:
    options: dict[str, Any] = {"own": pixels, "pixels": pixels, "cascaded": True, "frame_weights": [0.5, 1.2, 0.9]}
    plain, terms = gradients(stage(**options))
    saving, same_terms = gradients(stage(**options, checkpoint=True))
    assert plain.keys() == saving.keys()
    for name, gradient in plain.items():
        assert torch.allclose(gradient, saving[name], rtol=1e-5, atol=1e-8), name
    assert terms.keys() == same_terms.keys()
    assert all(torch.equal(terms[name], same_terms[name]) for name in terms)


def test_checkpointing_recomputes(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    forward = VideoTransform.forward

    def counting(self: VideoTransform, *arguments: Any) -> Any:
        calls.append(1)
        return forward(self, *arguments)

    monkeypatch.setattr(VideoTransform, "forward", counting)
    gradients(stage())
    assert len(calls) == 3
    gradients(stage(checkpoint=True))
    assert len(calls) == 3 + 6


@pytest.mark.parametrize("cascaded", [False, True])
def test_a_late_frame_reaches_the_first_only_when_cascaded(cascaded: bool) -> None:
    made = stage(cascaded=cascaded)
    frames, _, _ = made.code(clips(4), Draws(0, 0))
    first = made.codec.transform.decoder.context_model.intra_adaptor.weight  # used by frame 1 alone
    for frame in frames:
        (gradient,) = torch.autograd.grad(frame.loss, first, retain_graph=True, allow_unused=True)
        reached = gradient is not None and float(gradient.abs().sum()) > 0
        assert reached == (cascaded or frame.place.t == 1), frame.place


@pytest.mark.parametrize("own", [False, True])
def test_the_image_codec_is_never_trained(own: bool) -> None:
    for pixels in (False, True):
        made = stage(own=own, pixels=pixels)
        named, _ = gradients(made, frames=3)
        assert not [name for name in named if name.startswith("codec.image.")]
        trained = {id(p) for module in made.trained_modules() for p in module.parameters()}
        assert {name for name, p in made.named_parameters() if id(p) in trained} >= set(named)
        decoder = [name for name in named if name.startswith("codec.own_autoencoder.decoder.")]
        assert bool(decoder) == (own and pixels)


def test_the_decoder_of_a_clip_alone_can_learn() -> None:
    made = stage(own=True, pixels=True, train_encoder=False, train_transform=False)
    named, terms = gradients(made, frames=3)
    assert {name.split(".")[0] for name in named} == {"codec", "pixel_predictor"}
    assert all(name.startswith(("codec.own_autoencoder.decoder.", "pixel_predictor.")) for name in named)
    assert float(terms["bpp_y"]) > 0
    with pytest.raises(ValueError, match="train_transform=false leaves nothing to train"):
        stage(pixels=True, train_encoder=False, train_transform=False)


def test_training_lowers_the_loss() -> None:
    made = stage(cascaded=True)
    parameters = [p for module in made.trained_modules() for p in module.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=5e-3)
    latent_mse = []
    for _ in range(25):
        losses = made.losses(clips(3), Draws(0, 0))
        assert losses.other is not None
        latent_mse.append(float(losses.terms["loss/latent_mse"]))
        optimiser.zero_grad()
        losses.other.backward()
        optimiser.step()
    assert latent_mse[-1] < 0.7 * latent_mse[0]


def test_weights_multiply_the_distortion_and_not_the_rate() -> None:
    def loss(weight: float) -> tuple[float, dict[str, Tensor]]:
        made = stage(frame_weights=[9.0, weight, 9.0])
        losses = made.losses(clips(2), Draws(0, 0))  # frame 1 alone, of type 1
        assert losses.other is not None
        return float(losses.other.detach()), dict(losses.terms)

    one, terms = loss(1.0)
    three, _ = loss(3.0)
    distortion = float(terms["loss/latent_mse"] + 0.25 * terms["loss/code_prediction"])
    assert one == pytest.approx(distortion + float(terms["loss/rate"] + terms["loss/hyper_vq"]), rel=1e-5)
    assert three - one == pytest.approx(2 * distortion, rel=1e-4)


def test_the_adversary_sees_every_decoded_frame() -> None:
    for checkpoint in (False, True):
        made = stage(own=True, pixels=True, adversary=True, checkpoint=checkpoint)
        losses = made.losses(clips(3), Draws(0, 0))
        assert losses.x_hat is not None
        assert losses.x is not None
        assert made.adversary is not None
        assert losses.x_hat.shape == losses.x.shape == (4, 3, 64, 64)
        assert torch.equal(losses.x, torch.cat([clips(3)[:, 1], clips(3)[:, 2]]))
        assert losses.picture is not None
        (reconstruction,) = torch.autograd.grad(losses.picture, losses.x_hat, retain_graph=True)
        result = made.adversary.generator_gradient(
            losses.x_hat, reconstruction, made.codec.autoencoder.decoder.last_layer
        )
        assert 0 < float(result.weight) <= 1


# ------------------------------------------------------------------ bad settings, small batches


def test_settings_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match=r"frame_weights \[1\.0\] must give a weight to each of the 3 frame types"):
        stage(frame_weights=[1.0])
    with pytest.raises(ValueError, match=r"video\.own_autoencoder=true, or adversary=null"):
        stage(pixels=True, adversary=True)
    with pytest.raises(ValueError, match="at least 2 frames"):
        stage().losses(clips(1), Draws(0, 0))
    with pytest.raises(ValueError, match=r"give at least 5 frames, 2 more than clip\.lead_in=3"):
        stage(lead_in=3).losses(clips(4), Draws(0, 0))
    with pytest.raises(ValueError, match="lead_in must be at least 0"):
        stage(lead_in=-1)


def test_a_small_batch_is_spread_over_the_levels() -> None:
    for step in range(50):
        levels = sorted(Draws(0, step).balanced(8, 64).tolist())
        assert [level // 8 for level in levels] == list(range(8))
    counts = torch.bincount(torch.cat([Draws(1, step).balanced(8, 64) for step in range(800)]), minlength=64)
    assert int(counts.min()) > 50
    assert int(counts.max()) < 160  # 100 expected
    whole, halves = Draws(1, 2), [Draws(1, 2, rank, 2) for rank in range(2)]
    assert torch.equal(whole.balanced(6, 64), torch.cat([half.balanced(3, 64) for half in halves]))
