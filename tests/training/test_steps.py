"""One training step: all of its batch counts, nothing waits for the device, and a checkpoint never cuts it in two."""

import copy
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader

from glc_train.autoencoder.networks import Decoder
from glc_train.training import CodebookSettings, CodebookWatch, Stage
from glc_train.training.muon import Muon
from glc_train.training.optimisers import adamw, step_unless
from glc_train.training.sharding import total_norm
from tests.tiny_stages import IMAGE_STAGES, clips, fit, image_stage, pictures, stage

# ------------------------------------------------------------------ several batches a step


def _state_after_a_step(name: str, accumulate: int) -> dict[str, Tensor]:
    codebook = CodebookSettings(ema=0.5, window=100)
    made = image_stage(name, {"accumulate": accumulate, "lr": 0.0}, codebook=codebook, **NO_ADVERSARY[name])
    made.fresh = False
    if name == "transform":  # qualities are drawn for each part: with one target for all, the mean rate alone counts
        made.codec.transform.quality_levels = 1
        made.rate.log_target[:] = made.rate.log_target.mean()
    fit(made, [pictures(4)])
    return {key: value for key, value in made.state_dict().items() if not key.startswith("ema.")}


NO_ADVERSARY: dict[str, dict[str, Any]] = {"autoencoder": {"adversary": None}, "transform": {"rounding": "ste"}}


@pytest.mark.parametrize("name", NO_ADVERSARY)
def test_codebook_and_rate_control_see_every_part_of_a_step(name: str) -> None:
    whole, parts = _state_after_a_step(name, 1), _state_after_a_step(name, 2)
    counted = [key for key in whole if key.startswith(("watch.counts", "watch.ema", "rate.", "codec."))]
    assert float(whole["watch.counts"].sum()) == float(parts["watch.counts"].sum()) > 0
    assert any(key.startswith("watch.ema_sums") for key in counted)
    for key in counted:
        torch.testing.assert_close(parts[key], whole[key], rtol=1e-4, atol=1e-6, msg=key)


def test_first_entries_are_given_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    original = CodebookWatch.initialise

    def counting(self: CodebookWatch, vectors: Tensor, generator: torch.Generator) -> None:
        calls.append(len(vectors))
        original(self, vectors, generator)

    monkeypatch.setattr(CodebookWatch, "initialise", counting)
    for name in ("autoencoder", "transform"):
        calls.clear()
        fit(image_stage(name, {"accumulate": 2, "steps": 2}), [pictures(4)] * 2)
        assert len(calls) == 1, name


@pytest.mark.parametrize("minutes", [None, 1e-9])
def test_a_checkpoint_after_any_batch_goes_on_as_if_nothing_had_happened(minutes: float | None, tmp_path: Path) -> None:
    """Also where the time of a stage is up, or a callback of Lightning's writes whenever it likes."""
    settings = {"accumulate": 2, "steps": 3, "minutes": minutes}
    batches = [pictures(4)] * 3
    keep = ModelCheckpoint(tmp_path, filename="{step}", save_top_k=-1, every_n_train_steps=1)
    whole = image_stage("transform", settings)
    fit(whole, batches, callbacks=[keep], enable_checkpointing=True)
    first = torch.load(min(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime_ns), weights_only=True)
    assert first["counters"]["train_step"] == 1
    assert all(int(state["step"]) == 1 for state in first["optimizer_states"][0]["state"].values())
    if minutes is not None:
        assert whole.train_step == 2
        return
    torch.save(first, tmp_path / "first.ckpt")
    resumed = image_stage("transform", settings)
    fit(resumed, batches, checkpoint=tmp_path / "first.ckpt", max_epochs=2)
    assert resumed.train_step == whole.train_step == 3
    for name, value in whole.codec.state_dict().items():
        torch.testing.assert_close(resumed.codec.state_dict()[name], value, msg=name)


def test_a_checkpoint_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    """Its counters are tensors of the state."""
    keep = ModelCheckpoint(tmp_path, filename="new", save_top_k=-1, every_n_train_steps=2)
    fit(image_stage("transform"), [pictures(2)] * 2, callbacks=[keep], enable_checkpointing=True)
    content = torch.load(tmp_path / "new.ckpt", weights_only=True)
    counters = content.pop("counters")
    content["state_dict"] |= {
        "train_step": torch.tensor(counters["train_step"]),
        "batches": torch.tensor(counters["train_step"]),
        "seconds": torch.tensor(125.0, dtype=torch.float64),
        "watch.steps": torch.tensor(counters["train_step"]),
    }
    torch.save(content, tmp_path / "old.ckpt")
    resumed = image_stage("transform")
    fit(resumed, [pictures(2)] * 2, checkpoint=tmp_path / "old.ckpt", max_epochs=2)
    assert resumed.train_step == 4
    assert resumed.seconds > 125
    assert not resumed.fresh


# ------------------------------------------------------------------ nothing waits for the device


class _Waits(TorchDispatchMode):
    """Notes every operator for which a GPU would have to finish its work first."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        by_mask = name in ("index", "index_put", "index_put_") and any(
            isinstance(each, Tensor) and each.dtype == torch.bool for each in args[1] or ()
        )
        if by_mask or name in ("_local_scalar_dense", "nonzero", "bincount", "unique2", "masked_select", "equal"):
            self.seen.append(name)
        return func(*args, **(kwargs or {}))


def _waits(made: Stage, batches: list[Tensor], monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Operators of each training step that wait."""
    found: list[list[str]] = []
    step = type(made).training_step

    def watched(self: Stage, batch: Tensor, number: int) -> None:
        with _Waits() as waits:
            step(self, batch, number)
        found.append(waits.seen)

    monkeypatch.setattr(type(made), "training_step", watched)
    fit(made, batches)
    return found


@pytest.mark.parametrize("name", [*IMAGE_STAGES, "video", "video_pixels"])
def test_no_step_waits_for_the_device(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the first, which may start a codebook, and the last of a codebook's window, which may restart entries."""
    if name.startswith("video"):
        made: Stage = stage(own=True, pixels=name == "video_pixels", adversary=name == "video_pixels")
        batches = [clips(3)] * 3
    else:
        muon = {} if name == "transform" else {"muon_lr": 1e-3}
        made = image_stage(name, muon, codebook=CodebookSettings(window=4, ema=0.9 if name == "autoencoder" else None))
        batches = [pictures(4)] * 4
    waits = _waits(made, batches, monkeypatch)
    assert waits[1:3] == [[], []]


def test_a_read_of_the_device_is_noticed() -> None:
    x = torch.arange(3.0)
    with _Waits() as waits:
        float(x[0])
        x[x > 1]
        x[x > 1] = 0
        bool(x.isfinite().all())
        x.long().bincount()
    assert waits.seen == ["_local_scalar_dense", "index", "index_put_", "_local_scalar_dense", "bincount"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="the CPU waits for nothing: needs a GPU")
@pytest.mark.parametrize("name", [*IMAGE_STAGES, "video_pixels"])
def test_no_step_waits_for_the_gpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = stage(own=True, pixels=True, adversary=True) if name == "video_pixels" else image_stage(name)
    batch = clips(3) if name == "video_pixels" else pictures(4)
    step, done = type(made).training_step, []

    def watched(self: Stage, batch: Tensor, number: int) -> None:
        torch.cuda.set_sync_debug_mode("error" if number == 1 else "default")
        try:
            step(self, batch, number)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        done.append(number)

    monkeypatch.setattr(type(made), "training_step", watched)
    fit(made, [batch] * 3, accelerator="gpu", devices=1)
    assert done == [0, 1, 2]


@pytest.mark.parametrize("kind", ["AdamW", "Muon", "SGD"])
def test_a_bad_step_changes_neither_weights_nor_moments(kind: str) -> None:
    parameter = nn.Parameter(torch.eye(3))
    optimiser = {
        "AdamW": lambda: adamw([parameter], 0.1, (0.9, 0.99), 0.1),
        "Muon": lambda: Muon([parameter], 0.1),
        "SGD": lambda: torch.optim.SGD([parameter], 0.1, momentum=0.9),
    }[kind]()

    def step(gradient: float) -> tuple[Tensor, Any]:
        parameter.grad = torch.full((3, 3), gradient)
        if step_unless(~parameter.grad.isfinite().all(), optimiser):
            optimiser.step()
        return parameter.detach().clone(), copy.deepcopy(optimiser.state_dict()["state"])

    good, bad, after = step(0.5), step(float("nan")), step(0.5)
    assert torch.equal(good[0], bad[0])
    assert all(torch.equal(good[1][0][name], bad[1][0][name]) for name in good[1][0])
    assert not torch.equal(bad[0], after[0])
    assert after[0].isfinite().all()


def test_norms_of_gradients() -> None:
    assert float(total_norm([torch.full((2, 2), 3.0), torch.tensor([2.0, 3.0])])) == 7.0
    assert float(total_norm([])) == 0.0


# ------------------------------------------------------------------ what a stage holds


@pytest.mark.parametrize("name", ["transform", "joint", "video"])
def test_the_average_shares_what_is_frozen(name: str) -> None:
    made: Stage = stage(own=True) if name == "video" else image_stage(name)
    made.prepare()
    trained = {id(p) for module in made.trained_modules() for p in module.parameters()}
    pairs = dict(made.codec.named_parameters()), dict(made.averaged.named_parameters())
    shared = {key for key, parameter in pairs[0].items() if pairs[1][key] is parameter}
    assert shared == {key for key, parameter in pairs[0].items() if id(parameter) not in trained}
    assert shared
    assert not any(p.requires_grad for p in made.averaged.parameters())
    prefix = {"transform": "autoencoder.", "joint": "autoencoder.quantiser.", "video": "image."}[name]
    assert any(key.startswith(prefix) for key in shared)


@pytest.mark.parametrize("name", [*IMAGE_STAGES, "video"])
def test_a_stage_holds_nothing_that_apple_gpus_do_not(name: str) -> None:
    made: Stage = stage(own=True) if name == "video" else image_stage(name)
    made.prepare()
    assert not [key for key, tensor in made.state_dict().items() if tensor.dtype == torch.float64]


@pytest.mark.parametrize("checkpoint", [False, True])
def test_a_checkpointed_clip_is_decoded_once_more_and_not_for_the_adaptive_weight(
    checkpoint: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    features = Decoder.features

    def counting(self: Decoder, latent: Tensor, window: int | None = None) -> Tensor:
        calls.append(1)
        return features(self, latent, window)

    monkeypatch.setattr(Decoder, "features", counting)
    made = stage(own=True, pixels=True, adversary=True, checkpoint=checkpoint)
    fit(made, [clips(3)])
    assert len(calls) == 2 * (2 if checkpoint else 1)  # frames


def test_a_checkpoint_can_be_validated_by_the_trainer(tmp_path: Path) -> None:
    """Its averaged weights are, by a stage that is made anew."""
    whole, keep = list(pictures(3).split(1)), ModelCheckpoint(tmp_path, filename="kept")
    options = {"callbacks": [keep], "enable_checkpointing": True, "check_val_every_n_epoch": 1}
    trained = fit(image_stage("joint", {"lr": 1e-2}), [pictures(2)] * 4, whole, **options)
    expected = {name: float(value) for name, value in trained.callback_metrics.items() if name.startswith("val/")}
    assert {"val/psnr/q0", "val/bpp/q5"} <= set(expected)
    trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    loader: Any = DataLoader(whole, batch_size=None)  # type: ignore[arg-type]
    arguments: dict[str, Any] = {"ckpt_path": tmp_path / "kept.ckpt", "weights_only": True, "verbose": False}
    (found,) = trainer.validate(image_stage("joint"), loader, **arguments)
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert found["step"] == 4
    (fresh,) = trainer.validate(image_stage("joint"), loader, verbose=False)
    assert fresh["val/psnr/q0"] != pytest.approx(expected["val/psnr/q0"])
