"""The data module: endless batches that resume exactly, whatever the workers and ranks, and fixed validation."""

import multiprocessing
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn

from glc_train.data import (
    CropBatches,
    FolderCrops,
    PackagedCrops,
    PictureDataModule,
    PictureEncoder,
    RenderedCrops,
    ShardCrops,
    write_shards,
)
from glc_train.media import PictureError, write_picture


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for k in range(3):
        write_picture(tmp_path / f"{k}.png", random.integers(0, 256, (150, 200 - 40 * k, 3), dtype=np.uint8))
    return tmp_path


def module(folder: Path, **options: Any) -> PictureDataModule:
    settings: dict[str, Any] = {"train": partial(FolderCrops, folder), "crop_size": 8, "batch_size": 2, "val": folder}
    return PictureDataModule(**(settings | options))


def batches(data: PictureDataModule, count: int) -> list[Tensor]:
    """As the device has them."""
    return [data.on_after_batch_transfer(batch, 0) for batch in islice(iter(data.train_dataloader()), count)]


def test_batches_are_signed_floats_and_repeatable(folder: Path) -> None:
    first, second = batches(module(folder), 4), batches(module(folder), 4)
    assert first[0].shape == (2, 3, 8, 8)
    assert first[0].dtype == torch.float32
    assert -1 <= first[0].min() < -0.5 < 0.5 < first[0].max() <= 1
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0], batches(module(folder, seed=1), 1)[0])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_start_in_the_middle_continues_exactly(folder: Path, workers: int) -> None:
    whole = batches(module(folder), 9)
    resumed = module(folder, num_workers=workers)
    resumed.set_start(4)
    assert all(torch.equal(a, b) for a, b in zip(batches(resumed, 5), whole[4:], strict=True))


def test_loaders_send_bytes_and_suit_the_device(folder: Path) -> None:
    data = module(folder)
    assert next(iter(data.train_dataloader())).dtype == torch.uint8
    assert data.train_dataloader().num_workers == 0
    cuda = SimpleNamespace(root_device=torch.device("cuda"))
    data.trainer = SimpleNamespace(strategy=cuda, num_devices=1, global_rank=0, world_size=1)  # type: ignore[assignment]
    loader = data.train_dataloader()
    assert loader.pin_memory
    assert 1 <= loader.num_workers <= 8
    assert loader.prefetch_factor == 2
    data.prefetch = 5
    assert data.train_dataloader().prefetch_factor == 5
    data.num_workers = 0
    assert data.train_dataloader().num_workers == 0
    with pytest.raises(ValueError, match="prefetch must be positive"):
        module(folder, prefetch=0)


def _stop_at_an_error(folder: Path) -> None:
    loader = iter(module(folder, num_workers=2).train_dataloader())
    next(loader)
    raise SystemExit(7)


def test_loader_processes_end_with_a_run_that_fails(folder: Path) -> None:
    """They leave SIGTERM to their parent, which waits for them at its end."""
    run = multiprocessing.get_context("fork").Process(target=_stop_at_an_error, args=(folder,))
    run.start()
    run.join(60)
    assert run.exitcode == 7


def test_a_saved_position_survives_a_change_of_batch_size(folder: Path) -> None:
    whole = batches(module(folder), 6)
    first = module(folder)
    first.set_start(2)
    resumed = module(folder, batch_size=4)
    resumed.load_state_dict(first.state_dict())
    for got, wanted in zip(batches(resumed, 2), (whole[2:4], whole[4:6]), strict=True):
        assert torch.equal(got, torch.cat(wanted))


def test_two_ranks_of_two_see_what_one_of_four_sees(folder: Path) -> None:
    source = FolderCrops(folder, crop_size=8, seed=0)
    one = CropBatches(source, batch_size=4)
    two = [CropBatches(source, batch_size=2, rank=rank, world_size=2) for rank in range(2)]
    for number, (whole, *halves) in enumerate(islice(zip(one, *two, strict=True), 5)):
        assert torch.equal(whole, torch.cat(halves))
        assert torch.equal(whole, one.batch(number))


class Recorder(lightning.LightningModule):
    """Keeps the training batches it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 1, 1)
        self.seen: list[Tensor] = []
        self.names: list[str] = []

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.seen.append(batch.clone())
        return self.layer(batch).mean()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        assert batch.x.shape[0] == 1
        self.names.append(batch.name)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(root: Path, steps: int, **options: Any) -> lightning.Trainer:
    settings: dict[str, Any] = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False}
    settings |= {"enable_model_summary": False, "enable_checkpointing": False, "max_epochs": -1}
    return lightning.Trainer(default_root_dir=root, max_steps=steps, **(settings | options))


@pytest.mark.parametrize(("workers", "shards"), [(0, False), (2, False), (0, True), (2, True)])
def test_a_run_resumed_from_a_checkpoint_gets_the_next_batch(
    folder: Path, tmp_path: Path, workers: int, shards: bool
) -> None:
    whole, part, rest = Recorder(), Recorder(), Recorder()
    kind: dict[str, Any] = {"num_workers": workers}
    if shards:
        write_shards(folder, tmp_path / ".shards", PictureEncoder(), samples=2)
        kind["train"] = partial(ShardCrops, str(tmp_path / ".shards"), reading={"cache": str(tmp_path / ".cache")})
    # validation in between must not move the position
    options: dict[str, Any] = {"val_check_interval": 2, "check_val_every_n_epoch": None}
    trainer(tmp_path, 7, **options).fit(whole, datamodule=module(folder, **kind))
    interrupted = trainer(tmp_path, 3, **options)
    interrupted.fit(part, datamodule=module(folder, **kind))
    interrupted.save_checkpoint(tmp_path / "last.ckpt")
    trainer(tmp_path, 7, **options).fit(
        rest, datamodule=module(folder, **kind), ckpt_path=tmp_path / "last.ckpt", weights_only=True
    )
    assert len(part.seen) == 3
    assert len(rest.seen) == 4
    assert all(torch.equal(a, b) for a, b in zip(part.seen + rest.seen, whole.seen, strict=True))
    assert set(whole.names) == {"0.png", "1.png", "2.png"}


def test_a_new_epoch_goes_on_where_the_last_one_ended(folder: Path, tmp_path: Path) -> None:
    recorder = Recorder()
    trainer(tmp_path, 6, limit_train_batches=3, limit_val_batches=0).fit(recorder, datamodule=module(folder))
    assert all(torch.equal(a, b) for a, b in zip(recorder.seen, batches(module(folder), 6), strict=True))


def test_validation_pictures_are_cropped_in_the_middle(folder: Path) -> None:
    items = list(module(folder, val_max_side=130, val_pictures=2).val_dataloader())
    assert [item.name for item in items] == ["0.png", "1.png"]
    assert [tuple(item.x.shape) for item in items] == [(1, 3, 128, 128), (1, 3, 128, 128)]
    whole = next(iter(module(folder, val_max_side=1000).val_dataloader())).x
    assert whole.shape == (1, 3, 128, 192)
    assert torch.equal(whole[..., 32:160], items[0].x)


def test_validation_defaults_to_the_packaged_test_photographs(folder: Path) -> None:
    names = [item.name for item in module(folder, val=None).val_dataloader()]
    assert names == ["chelsea.png", "china.jpg", "coffee.png", "flower.jpg"]


def test_bad_data_fails_in_setup(folder: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(PictureError, match="empty: no pictures in this folder"):
        module(empty, val=None).setup("fit")
    with pytest.raises(PictureError, match="gone: no such folder"):
        module(folder, val=tmp_path / "gone").setup("fit")
    (empty / "a.png").write_bytes(b"no picture")
    with pytest.raises(PictureError, match="none of the 1 pictures can be read"):
        module(empty, val=None).setup("fit")
    with pytest.raises(PictureError, match="list of validation pictures is empty"):
        module(folder, val=[]).setup("fit")
    write_picture(empty / "a.png", np.zeros((32, 90, 3), np.uint8))
    with pytest.raises(PictureError, match="under 64 pixels a side"):
        module(folder, val=empty).setup("fit")


def test_unreadable_validation_pictures_are_named_and_left_out(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "0.png").write_bytes(b"no picture")
    write_picture(tmp_path / "1.png", np.zeros((32, 90, 3), np.uint8))
    for name in ("2.png", "3.png"):
        write_picture(tmp_path / name, np.zeros((64, 64, 3), np.uint8))
    (tmp_path / "4.png").write_bytes(b"not reached")
    data = module(folder, val=tmp_path, val_pictures=2)
    for _ in range(2):
        assert [item.name for item in data.val_dataloader()] == ["2.png", "3.png"]
    named = [record.getMessage() for record in caplog.records if "Left out" in record.getMessage()]
    assert [name.split(": ")[1] for name in named] == [str(tmp_path / "0.png"), str(tmp_path / "1.png")]


@pytest.mark.parametrize(
    "option", [{"crop_size": 0}, {"batch_size": 0}, {"num_workers": -1}, {"val_pictures": 0}, {"val_max_side": 63}]
)
def test_numbers_out_of_range_are_refused(folder: Path, option: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(option))):
        module(folder, **option)


@pytest.mark.parametrize("name", ["folder", "packaged", "rendered", "demo", "shards"])
def test_every_configuration_gives_a_batch(repository: Path, folder: Path, name: str) -> None:
    config: Any = OmegaConf.load(repository / "conf" / "data" / f"{name}.yaml")
    for of_evaluation in ("defaults", "test"):
        config.pop(of_evaluation, None)
    assert (repository / "conf" / "data" / f"{name}.yaml").read_text().startswith("# ")
    if name == "folder":
        config.train.root = str(folder)
    if name == "shards":
        config.train.root = str(folder / "shards")
        write_shards(folder, folder / "shards", PictureEncoder())
    data = instantiate(config, crop_size=16, batch_size=3, seed=0)
    assert isinstance(data, PictureDataModule)
    assert batches(data, 1)[0].shape == (3, 3, 16, 16)


@pytest.mark.parametrize("build", [RenderedCrops, PackagedCrops])
def test_sources_travel_to_workers(build: Callable[..., Any]) -> None:
    here = batches(PictureDataModule(build, crop_size=16, batch_size=2), 3)
    there = batches(PictureDataModule(build, crop_size=16, batch_size=2, num_workers=2), 3)
    assert all(torch.equal(a, b) for a, b in zip(here, there, strict=True))
