"""What all stages share: accumulation, memory saving, bad steps, codebooks, going further and branching."""

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from glc_train.autoencoder import VQVAE
from glc_train.codecs import ImageCodec
from glc_train.data import render_picture
from glc_train.layers import FiniteScalarQuantiser, VectorQuantiser
from glc_train.losses import RateWeights
from glc_train.training import (
    CodebookSettings,
    CodebookWatch,
    Draws,
    PictureLoss,
    StageSettings,
    TrainingError,
    TransformStage,
)  # fmt: skip
from glc_train.training.logs import read_curves
from glc_train.transform import ImageTransform
from glc_train.weights import load_codec
from tests.tiny_stages import AUTOENCODER
from tests.training_harness import curve_overrides, logged, train, train_process

ONE_STAGE = "run=[autoencoder]"
NO_ADVERSARY = "stages.autoencoder.adversary=null"


def _curve(out: Path, column: str, *overrides: str, steps: int = 4) -> dict[int, float]:
    train([*curve_overrides(out, steps), ONE_STAGE, NO_ADVERSARY, *overrides])
    return logged(out / "autoencoder", column)


def test_two_accumulated_batches_are_one_of_twice_the_size(tmp_path: Path) -> None:
    settings = "stages.autoencoder"
    # Entries drawn from the first batch differ with its size: the gradients are compared without quantisation.
    free = [
        "stages.autoencoder.free_steps=100",
        "stages.autoencoder.codebook.weight=0",
        f"{settings}.gradient_clip_val=1e9",
    ]
    whole = _curve(tmp_path / "a", "train/grad_norm", *free)
    halves = _curve(
        tmp_path / "b", "train/grad_norm", *free, "stages.autoencoder.batch_size=2", f"{settings}.accumulate=2"
    )
    assert halves == pytest.approx(whole, rel=1e-3)


def test_after_the_free_steps_the_codebook_starts_from_the_latents_seen(tmp_path: Path) -> None:
    module = "stages.autoencoder"
    out = tmp_path / "out"
    train([*curve_overrides(out, 4), ONE_STAGE, NO_ADVERSARY, f"{module}.free_steps=2", f"{module}.codebook.window=1"])
    loss = logged(out / "autoencoder", "train/loss/vq")
    assert [loss[step] > 0 for step in range(4)] == [False, False, True, True]
    # 16 latents a batch, and the entries drawn from them are no worse than the best of the fresh ones.
    assert logged(out / "autoencoder", "train/codebook/used")[3] > 0.1


def test_only_a_share_of_the_crops_is_quantised(tmp_path: Path) -> None:
    """The VQ loss is the mean over all crops, and those that are not quantised add nothing to it."""
    share = "stages.autoencoder.quantised_share"
    whole = _curve(tmp_path / "a", "train/loss/vq", steps=1)[0]
    none = _curve(tmp_path / "b", "train/loss/vq", f"{share}=1e-9", steps=1)[0]
    assert whole > 0
    assert none == 0
    with pytest.raises(ValueError, match="quantised_share must be above 0"):
        train([*curve_overrides(tmp_path / "c", 1), ONE_STAGE, NO_ADVERSARY, f"{share}=0"])


def test_lpips_vgg_of_some_pictures_is_that_of_these() -> None:
    generator = torch.Generator().manual_seed(6)
    x, x_hat = (torch.rand(3, 3, 64, 64, generator=generator) * 2 - 1 for _ in range(2))
    draws = Draws(0, 0, 0, 1)
    loss = PictureLoss(l1=0.0, lpips=0.0, vgg=2.0, vgg_pictures=2)
    total, terms = loss(x_hat, x, draws)
    alone, only = PictureLoss(l1=0.0, lpips=1.0, net="vgg")(x_hat[:2], x[:2], draws)
    assert float(terms["loss/lpips_vgg"]) == pytest.approx(float(only["loss/lpips"]), rel=1e-5)
    assert float(total) == pytest.approx(2 * float(alone), rel=1e-5)
    assert [sum(p.numel() for p in network.parameters()) for network in loss.networks] == [14_714_688]
    more, terms = PictureLoss(l1=0.0, lpips=0.0, vgg=2.0, style=3.0, vgg_pictures=2)(x_hat, x, draws)
    assert float(more - total) == pytest.approx(3 * float(terms["loss/style"]), rel=1e-4)
    assert float(terms["loss/style"]) > 0


def test_vgg_does_not_see_the_margin() -> None:
    generator = torch.Generator().manual_seed(7)
    x, x_hat = (torch.rand(1, 3, 64, 64, generator=generator) * 2 - 1 for _ in range(2))
    draws = Draws(0, 0, 0, 1)
    whole = PictureLoss(l1=1.0, lpips=1.0, net="alex", vgg=1.0, style=1.0, margin=16)
    inner = PictureLoss(l1=0.0, lpips=0.0, vgg=1.0, style=1.0)
    terms = whole(x_hat, x, draws)[1]
    of_inner = inner(x_hat[..., 16:48, 16:48], x[..., 16:48, 16:48], draws)[1]
    outer = PictureLoss(l1=1.0, lpips=1.0, net="alex")(x_hat, x, draws)[1]
    for name, expected in (("lpips_vgg", of_inner), ("style", of_inner), ("l1", outer), ("lpips", outer)):
        assert float(terms[f"loss/{name}"]) == pytest.approx(float(expected[f"loss/{name}"]), rel=1e-5)
    with pytest.raises(ValueError, match="margin of 25 leaves 14x14 pixels, and VGG16 needs 16x16: set"):
        PictureLoss(l1=0.0, lpips=0.0, vgg=1.0, margin=25)(x_hat, x, draws)


def test_shifted_lpips_sees_what_the_grid_hides() -> None:
    """A pattern of period 4 has another LPIPS for every phase; with shifts all of them count."""
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(5)) * 2 - 1
    pattern = torch.zeros(1, 1, 64, 64)
    pattern[..., ::4, ::4] = 0.5

    def values(shift: int) -> set[float]:
        loss = PictureLoss(l1=0.0, net="alex", shift=shift)
        return {round(float(loss(picture + pattern, picture, Draws(0, step, 0, 1))[0]), 6) for step in range(8)}

    assert len(values(0)) == 1
    assert len(values(3)) > 3


def test_recomputed_activations_change_nothing(tmp_path: Path) -> None:
    option = "stages.autoencoder.checkpoint_activations"
    curves = [_curve(tmp_path / str(on), "train/grad_norm", f"{option}={on}", steps=2) for on in (False, True)]
    assert curves[0] == pytest.approx(curves[1], rel=1e-5)


def test_float16_scales_the_loss_and_lowers_the_scale_after_an_overflow(tmp_path: Path) -> None:
    scaler = "{_target_: torch.amp.GradScaler, device: cpu, init_scale: 1.0e12, backoff_factor: 1.0e-8}"
    kind = "_target_: lightning.pytorch.plugins.precision.MixedPrecision, precision: 16-mixed, device: cpu"
    plugin = f"{{{kind}, scaler: {scaler}}}"
    half = ["trainer.precision=null", f"+trainer.plugins=[{plugin}]"]
    norms = _curve(tmp_path / "half", "train/grad_norm", *half)
    whole = _curve(tmp_path / "whole", "train/grad_norm")
    assert not math.isfinite(norms[0])
    assert [math.isfinite(norms[step]) for step in (1, 2, 3)] == [True] * 3
    assert norms[1] == pytest.approx(whole[0], rel=0.2)
    skipped = logged(tmp_path / "half" / "autoencoder", "train/skipped_steps")
    assert list(skipped.values()) == [1.0] * 4


def test_bad_steps_are_skipped_counted_and_stop_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glc_train.data.module.to_signed", lambda x: torch.full(x.shape, float("nan")))
    out = tmp_path / "out"
    with pytest.raises(TrainingError, match="3 steps in a row") as caught:
        train([*curve_overrides(out, 9), ONE_STAGE, NO_ADVERSARY, "stages.autoencoder.max_bad_steps=3"])
    dump = json.loads((out / "autoencoder" / "bad_batch_rank0.json").read_text())
    assert dump["step"] == 2
    assert dump["pictures"] == [f"RenderedCrops sample {i}" for i in range(8, 12)]
    assert str(out / "autoencoder" / "bad_batch_rank0.json") in str(caught.value)


@pytest.mark.parametrize("per_sample", [False, True])
def test_adaptive_weight_is_the_ratio_of_gradients(per_sample: bool) -> None:
    from glc_train.losses import Adversary

    torch.manual_seed(3)
    layer = torch.nn.Conv2d(4, 3, 3, padding=1)
    features, target = torch.randn(2, 4, 32, 32), torch.randn(2, 3, 32, 32)
    adversary = Adversary(channels=8, layers=2, weight=0.8, clamp=1e9, per_sample=per_sample)
    x_hat = layer(features)
    (reconstruction,) = torch.autograd.grad((x_hat - target).abs().mean(), x_hat, retain_graph=True)
    result = adversary.generator_gradient(x_hat, reconstruction, layer.weight)
    # The plain formulation: one backward pass from each loss, or from each picture's share of it.
    groups = [[0], [1]] if per_sample else [[0, 1]]
    expected = []
    for group in groups:
        norms = []
        for loss in (
            lambda x: (x - target).abs().flatten(1).mean(1),
            lambda x: -adversary.discriminator(x).flatten(1).mean(1),
        ):
            (gradient,) = torch.autograd.grad(loss(layer(features))[group].sum() / 2, layer.weight)
            norms.append(gradient.norm())
        expected.append(float(norms[0] / norms[1]))
    assert float(result.weight) == pytest.approx(sum(expected) / len(expected), rel=1e-3)


def _quantiser_and_watch(**settings: Any) -> tuple[VectorQuantiser, CodebookWatch]:
    torch.manual_seed(0)
    quantiser = VectorQuantiser(16, 4)
    return quantiser, CodebookWatch(quantiser, CodebookSettings(**settings))


def test_dead_entries_are_restarted_from_recent_vectors() -> None:
    quantiser, watch = _quantiser_and_watch(window=5, reservoir=64)
    quantiser.embedding.weight.data.fill_(100.0)
    quantiser.embedding.weight.data[0] = 0.0
    random = torch.Generator().manual_seed(0)
    for step in range(5 * 12):
        vectors = torch.randn(64, 4, generator=random)
        watch.update(quantiser.nearest(vectors.t()[None, :, :, None]), vectors, random, step)
    assert float(watch.used) == 1.0
    assert float(watch.perplexity) > 8
    assert float(quantiser.embedding.weight.abs().max()) < 10


def test_moving_averages_go_to_the_means_of_their_inputs() -> None:
    quantiser, watch = _quantiser_and_watch(ema=0.9, restart=False)
    centres = torch.randn(16, 4) * 10
    random = torch.Generator().manual_seed(0)
    watch.initialise(centres, random)
    for step in range(200):
        vectors = centres + 0.1 * torch.randn(16, 4, generator=random) + 1.0
        watch.update(quantiser.nearest(vectors.t()[None, :, :, None]), vectors, random, step)
    distances = torch.cdist(centres + 1.0, quantiser.embedding.weight.data).min(1).values
    assert float(distances.max()) < 0.2


def test_moving_averages_of_a_trained_codebook_go_on_from_it() -> None:
    quantiser, watch = _quantiser_and_watch(ema=0.99, restart=False)
    before = quantiser.embedding.weight.detach().clone()
    vectors = before[:4]
    watch.update(quantiser.nearest(vectors.t()[None, :, :, None]), vectors, torch.Generator(), 0)
    assert torch.allclose(quantiser.embedding.weight, before, atol=1e-6)


def test_kmeans_starts_closer_to_the_data() -> None:
    vectors = torch.randn(500, 4, generator=torch.Generator().manual_seed(1))
    errors = []
    for iterations in (0, 10):
        quantiser, watch = _quantiser_and_watch(kmeans=iterations)
        watch.initialise(vectors, torch.Generator().manual_seed(2))
        errors.append(float(torch.cdist(vectors, quantiser.embedding.weight.data).min(1).values.square().mean()))
    assert errors[1] < 0.8 * errors[0]


def test_finite_scalar_quantisation_trains_and_codes(tmp_path: Path) -> None:
    overrides = ["model.autoencoder.codes=240", "+model.autoencoder.fsq_levels=[8,6,5]"]
    path = train([*curve_overrides(tmp_path / "out", 3), *overrides])
    codec = load_codec(path)
    assert isinstance(codec.autoencoder.quantiser, FiniteScalarQuantiser)
    indices = torch.arange(240).view(1, 15, 16)
    digits = codec.autoencoder.quantiser
    vectors = digits.lookup(indices)
    assert len(vectors.flatten(2).unique(dim=2)[0, 0]) == 240, "every index has a vector of its own"
    assert set(logged(tmp_path / "out" / "autoencoder", "train/loss/vq").values()) == {0.0}


def test_a_finished_run_goes_on_with_more_steps(tmp_path: Path) -> None:
    whole = _curve(tmp_path / "whole", "train/loss/l1", "stages.autoencoder.schedule.warmup=0", steps=6)
    _curve(tmp_path / "parts", "train/loss/l1", "stages.autoencoder.schedule.warmup=0", steps=3)
    parts = _curve(tmp_path / "parts", "train/loss/l1", "stages.autoencoder.schedule.warmup=0", steps=6)
    assert sorted(parts) == sorted(whole) == list(range(6))
    assert parts[0] == pytest.approx(whole[0])  # later steps differ: the cosine ends at another step
    summary = json.loads((tmp_path / "parts" / "autoencoder" / "summary.json").read_text())
    assert summary["steps"] == 6


def test_a_checkpoint_of_another_configuration_is_refused_and_kept(tmp_path: Path) -> None:
    train([*curve_overrides(tmp_path, 2), ONE_STAGE, NO_ADVERSARY])
    before = (tmp_path / "autoencoder" / "last.ckpt").read_bytes()
    with pytest.raises(TrainingError, match=r"last\.ckpt was written with another configuration") as caught:
        train([*curve_overrides(tmp_path, 3), ONE_STAGE, NO_ADVERSARY, "model.autoencoder.res_blocks=2"])
    assert "\n" not in str(caught.value)
    assert (tmp_path / "autoencoder" / "last.ckpt").read_bytes() == before


def test_another_experiment_branches_off_from_weights(tmp_path: Path) -> None:
    first = train([*curve_overrides(tmp_path / "a", 2), ONE_STAGE])
    second = train([*curve_overrides(tmp_path / "b", 2), "run=[transform]", f"init_from={first}"])
    before, after = load_codec(first).autoencoder.state_dict(), load_codec(second).autoencoder.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before), "the auto-encoder is frozen in stage II"


def test_the_decoder_alone_learns(tmp_path: Path) -> None:
    start = train(curve_overrides(tmp_path / "all", 2))
    frozen = ["stages.joint.train_encoder=false", "stages.joint.train_transform=false", "prior_batches=0"]
    run = [*curve_overrides(tmp_path / "decoder", 3), "run=[joint]", f"init_from={start}"]
    before, after = load_codec(start).state_dict(), load_codec(train([*run, *frozen])).state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("autoencoder.decoder.") for name in changed)
    assert logged(tmp_path / "decoder" / "joint", "train/bpp_y")[0] > 0
    with pytest.raises(ValueError, match="train_transform=false needs train_encoder=false"):
        train([*run, frozen[1], f"out={tmp_path / 'other'}"])


def test_all_but_the_decoder_learns(tmp_path: Path) -> None:
    start = train(curve_overrides(tmp_path / "all", 2))
    joint = ["train_decoder=false", "adversary=null", "lr=0.01", "codebook.window=2", "codebook.ema=0.5"]
    frozen = ["prior_batches=0", *(f"stages.joint.{each}" for each in joint)]
    run = [*curve_overrides(tmp_path / "encoder", 3), "run=[joint]", f"init_from={start}"]
    before, after = load_codec(start), load_codec(train([*run, *frozen]))
    changed = {name for name, value in before.state_dict().items() if not torch.equal(value, after.state_dict()[name])}
    sides = {"autoencoder.encoder", "transform.analysis", "transform.hyper_analysis"}
    assert {".".join(name.split(".")[:2]) for name in changed} == sides
    assert max(logged(tmp_path / "encoder" / "joint", "train/codebook/hyper_used").values()) > 0
    picture = render_picture(64, 96, 0)
    data = after.compress(picture, 1)
    assert data != before.compress(picture, 1)
    assert np.array_equal(before.decompress(data), after.decompress(data)), "both weights read its files"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "set adversary=null"),
        (["train_transform=false", "train_encoder=false", "adversary=null"], "nothing to train"),
    ],
)
def test_a_frozen_decoder_leaves_something_to_train(tmp_path: Path, options: list[str], said: str) -> None:
    start = train(curve_overrides(tmp_path / "all", 1))
    run = [*curve_overrides(tmp_path / "encoder", 1), "run=[joint]", f"init_from={start}"]
    with pytest.raises(ValueError, match=said):
        train([*run, *(f"stages.joint.{each}" for each in ("train_decoder=false", *options))])


def test_draws_do_not_depend_on_the_division_among_ranks() -> None:
    whole, halves = Draws(1, 2), [Draws(1, 2, rank, 2) for rank in range(2)]
    assert torch.equal(whole.uniform(6, 3), torch.cat([half.uniform(3, 3) for half in halves]))
    levels = whole.balanced(6, 4)
    assert torch.equal(levels, torch.cat([half.balanced(3, 4) for half in halves]))
    assert set(levels.tolist()) == {0, 1, 2, 3}


def test_validation_shows_what_a_stage_can_decode(tmp_path: Path) -> None:
    stages = ("autoencoder", "transform", "joint")
    train([*curve_overrides(tmp_path, 2), *(f"stages.{stage}.val_every=2" for stage in stages)])
    shown = {stage: {name for name in read_curves(tmp_path / stage) if "val/psnr/" in name} for stage in stages}
    qualities = {f"val/psnr/q{q}" for q in range(4)}
    assert shown["autoencoder"] == {"val/psnr/stage_I"}
    assert shown["transform"] == {"val/psnr/stage_I"} | qualities
    assert shown["joint"] == qualities, "stage III trains no codebook"


def test_a_run_with_a_spectral_discriminator_goes_on(tmp_path: Path) -> None:
    adversary = "{_target_: glc_train.losses.Adversary, channels: 8, layers: 2, start: 1, warmup: 1, norm: spectral}"
    option = [ONE_STAGE, f"++stages.autoencoder.adversary={adversary}"]
    train([*curve_overrides(tmp_path, 2), *option])
    train([*curve_overrides(tmp_path, 4), *option])
    loss = logged(tmp_path / "autoencoder", "train/loss/discriminator")
    assert sorted(loss) == [0, 1, 2, 3]
    assert all(math.isfinite(value) for value in loss.values())


def test_checkpoints_hold_no_backbones_and_the_umask_decides_who_may_read(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        train([*curve_overrides(tmp_path, 1), ONE_STAGE])
    finally:
        os.umask(before)
    modes = {path: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert {path: mode for path, mode in modes.items() if mode != (0o750 if path.is_dir() else 0o640)} == {}
    checkpoint = torch.load(tmp_path / "autoencoder" / "last.ckpt", weights_only=True)
    names = [name.split(".")[0] for name in checkpoint["state_dict"]]
    assert set(names) <= {
        "codec", "ema", "adversary", "watch", "bad_steps"
    }  # fmt: skip


@pytest.mark.slow
def test_torchrun_starts_the_same_training(tmp_path: Path) -> None:
    overrides = [*curve_overrides(tmp_path / "out", 2), "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
    process = train_process(
        [*overrides, "trainer.precision=32-true"], launcher=["-m", "torch.distributed.run", "--nproc-per-node=2"]
    )
    output, _ = process.communicate(timeout=290)
    assert process.returncode == 0, output[-3000:]
    assert (tmp_path / "out" / "joint" / "weights.safetensors").is_file()


def test_a_frozen_encoder_takes_whole_batches_and_records_nothing() -> None:
    codec = ImageCodec(VQVAE(**AUTOENCODER | {"groups": 4}), ImageTransform(16, 8, 8, 16, 2, depth=1, context_depth=1))
    parts: dict[str, Any] = {"rate": RateWeights(2), "codebook": CodebookSettings()}
    stage = TransformStage(codec=codec, codec_config={}, settings=StageSettings(steps=1), **parts)
    stage.prepare()

    class Operators(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.count += 1
            return func(*args, **(kwargs or {}))

    def operators(x: torch.Tensor) -> int:
        with Operators() as mode:
            assert not stage.encode(x).requires_grad
        return mode.count

    x = torch.rand(4, 3, 32, 32)
    assert operators(x[:1]) == operators(x)
    with torch.no_grad():
        torch.testing.assert_close(stage.encode(x), codec.autoencoder.encoder(x), rtol=1e-3, atol=1e-4)
