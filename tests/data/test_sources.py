"""Sources of crops: pure in (seed, index), robust to bad files, with the statistics they claim."""

import logging
import os
import pickle
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader

from glc_train.data import (
    CropBatches,
    FolderCrops,
    MixedCrops,
    PackagedCrops,
    RenderedCrops,
    packaged_pictures,
    render_picture,
)
from glc_train.data import folder as folder_module
from glc_train.data.file_passes import claims, shared_flags
from glc_train.media import PictureError, read_picture, write_picture
from glc_train.pixels import to_signed


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Five pictures; picture k is of brightness 40 k everywhere in red, with gradients in green and blue."""
    for k in range(5):
        y, x = np.mgrid[: 40 + 8 * k, : 70 - 5 * k]
        write_picture(tmp_path / f"{k}.png", np.stack([0 * y + 40 * k, y * 3, x * 3], axis=-1).astype(np.uint8))
    return tmp_path


def test_every_pass_shows_every_picture_once_in_new_order(photographs: Path) -> None:
    source = FolderCrops(photographs, crop_size=16, seed=3)
    shown = [int(source.sample(i)[0].float().mean()) // 40 for i in range(20)]
    passes = [tuple(shown[k : k + 5]) for k in range(0, 20, 5)]
    assert all(sorted(p) == [0, 1, 2, 3, 4] for p in passes)
    assert len(set(passes)) > 1


@pytest.mark.parametrize("cache_mb", [0, 100])
def test_folder_samples_depend_on_seed_and_index_alone(photographs: Path, cache_mb: float) -> None:
    first = FolderCrops(photographs, crop_size=16, seed=3)
    wanted = [first.sample(i) for i in range(12)]
    second = FolderCrops(photographs, crop_size=16, seed=3, cache_mb=cache_mb)
    for i in reversed(range(12)):
        assert torch.equal(second.sample(i), wanted[i])
    other = FolderCrops(photographs, crop_size=16, seed=4)
    assert any(not torch.equal(other.sample(i), wanted[i]) for i in range(12))


def test_crops_without_scaling_and_flip_are_cut_from_the_picture(photographs: Path) -> None:
    source = FolderCrops([photographs / "2.png"], 16, 0, flip=False, scale_probability=0)
    picture = torch.from_numpy(read_picture(photographs / "2.png")).permute(2, 0, 1)
    places = set()
    for i in range(8):
        crop = source.sample(i)
        assert crop.dtype == torch.uint8
        top, left = int(crop[1, 0, 0]) // 3, int(crop[2, 0, 0]) // 3
        assert torch.equal(crop, picture[:, top : top + 16, left : left + 16])
        places.add((top, left))
    assert len(places) > 4


def test_flip_mirrors_about_half_of_the_crops(photographs: Path) -> None:
    source = FolderCrops(photographs, 16, 0, scale_probability=0)
    mirrored = [bool(source.sample(i)[2, 0, 0] > source.sample(i)[2, 0, -1]) for i in range(100)]
    assert 30 < sum(mirrored) < 70


def test_reduced_crops_cover_more_of_the_picture(photographs: Path) -> None:
    source = FolderCrops([photographs / "4.png"], 16, 0, flip=False, scale_range=(0.5, 0.5), scale_probability=1)
    covered = int(source.sample(0)[1, -1, 0]) - int(source.sample(0)[1, 0, 0])
    assert covered == pytest.approx(3 * 30, abs=6)  # 16 pixels that stand for 32 of slope 3
    kept = FolderCrops([photographs / "4.png"], 16, 0, False, (0.5, 0.5), scale_probability=1, min_side=1000)
    assert int(kept.sample(0)[1, -1, 0]) - int(kept.sample(0)[1, 0, 0]) == 3 * 15


def test_enlarged_crops_cover_less_of_the_picture(photographs: Path) -> None:
    source = FolderCrops([photographs / "4.png"], 16, 0, flip=False, scale_range=(2.0, 2.0), scale_probability=1)
    crop = source.sample(0)
    assert crop.shape == (3, 16, 16)
    assert int(crop[1, -1, 0]) - int(crop[1, 0, 0]) == pytest.approx(3 * 7, abs=2)  # 8 rows of slope 3


def test_small_pictures_are_enlarged(photographs: Path) -> None:
    source = FolderCrops([photographs / "0.png"], crop_size=80, seed=0, flip=False)
    crop = source.sample(0)
    assert crop.shape == (3, 80, 80)
    assert int(crop[1, -1, 40]) - int(crop[1, 0, 40]) == pytest.approx(39 * 3, abs=3)  # the whole height of 40 rows


def test_loader_processes_name_an_unreadable_picture_once(photographs: Path, tmp_path: Path) -> None:
    broken = photographs / os.fsdecode(b"broken\xe9.png")
    broken.write_bytes(b"no picture")
    source = FolderCrops(photographs, crop_size=16, seed=0)
    log = logging.FileHandler(tmp_path / "log.txt", encoding="utf-8")  # the processes inherit it
    logging.getLogger(folder_module.__name__).addHandler(log)
    try:
        batches = iter(DataLoader(CropBatches(source, batch_size=1), batch_size=None, num_workers=2))
        for _ in range(24):
            next(batches)
    finally:
        logging.getLogger(folder_module.__name__).removeHandler(log)
    assert (tmp_path / "log.txt").read_text().count("Skipped picture 1 of 6") == 1


def test_of_processes_that_claim_a_flag_at_once_the_last_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    flags = shared_flags(3)
    assert claims(flags, 1)
    assert not claims(flags, 1)

    def another(_: float) -> None:  # had seen the flag unset, too
        flags[2] = os.getpid() + 1

    monkeypatch.setattr("glc_train.data.file_passes.time.sleep", another)
    assert not claims(flags, 2)
    assert flags.bool().tolist() == [False, True, True]


def test_unreadable_pictures_are_named_once_and_replaced(photographs: Path, caplog: pytest.LogCaptureFixture) -> None:
    (photographs / "broken.png").write_bytes(b"no picture")
    source = FolderCrops(photographs, crop_size=16, seed=0)
    with caplog.at_level(logging.WARNING):
        crops = [source.sample(i) for i in range(24)]
    assert len(caplog.records) == 1
    assert "Skipped picture 1 of 6" in caplog.text
    assert "broken.png" in caplog.text
    assert list(source.unreadable) == [photographs / "broken.png"]
    again = FolderCrops(photographs, crop_size=16, seed=0)
    assert all(torch.equal(again.sample(i), crops[i]) for i in reversed(range(24)))


def test_a_folder_without_any_readable_picture_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    with pytest.raises(PictureError, match="none of the 1 pictures can be read"):
        FolderCrops(tmp_path, crop_size=16, seed=0).sample(0)


def test_the_cache_saves_decoding_and_keeps_its_limit(photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[Path] = []

    def counted(path: Path) -> np.ndarray:
        reads.append(path)
        return read_picture(path)

    monkeypatch.setattr(folder_module, "read_picture", counted)
    ample = FolderCrops(photographs, 16, 0)
    for i in range(25):
        ample.sample(i)
    assert len(reads) == 5
    reads.clear()
    sizes = [read_picture(p).nbytes for p in sorted(photographs.iterdir())]
    tight = FolderCrops(photographs, 16, 0, cache_mb=(sum(sizes) - 1) / 2**20)
    for i in range(25):
        tight.sample(i)
    assert len(reads) == 4 + 5  # one of five did not fit and was decoded in each pass


@pytest.mark.parametrize("scale_range", [(0.0, 1.0), (0.8, 0.5), (0.5, 2.5)])
def test_scale_range_is_checked(photographs: Path, scale_range: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="scale_range"):
        FolderCrops(photographs, 16, 0, scale_range=scale_range)


def test_rendered_samples_depend_on_seed_and_index_alone() -> None:
    first = RenderedCrops(crop_size=32, seed=1)
    wanted = [first.sample(i) for i in range(0, 80, 7)]
    second = pickle.loads(pickle.dumps(RenderedCrops(crop_size=32, seed=1)))
    for i, crop in zip(reversed(range(0, 80, 7)), reversed(wanted), strict=True):
        assert torch.equal(second.sample(i), crop)
    assert not torch.equal(RenderedCrops(crop_size=32, seed=2).sample(0), wanted[0])
    assert wanted[0].shape == (3, 32, 32)
    assert wanted[0].dtype == torch.uint8


def test_rendered_crops_differ() -> None:
    source = RenderedCrops(crop_size=32, seed=1)
    assert len({source.sample(i).numpy().tobytes() for i in range(64)}) == 64


def spectral_slope(picture: np.ndarray) -> float:
    """Exponent of the radial power spectrum between 4 and 64 cycles over 256 pixels."""
    grey = picture.mean(axis=2)
    window = np.outer(np.hanning(grey.shape[0]), np.hanning(grey.shape[1]))
    power = np.abs(np.fft.fft2((grey - grey.mean()) * window)) ** 2
    frequency = np.hypot(np.fft.fftfreq(grey.shape[0])[:, None], np.fft.fftfreq(grey.shape[1]))
    edges = np.geomspace(4 / 256, 64 / 256, 10)
    rings = [(frequency >= low) & (frequency < high) for low, high in pairwise(edges)]
    return float(
        np.polyfit([np.log(frequency[r].mean()) for r in rings], [np.log(power[r].mean()) for r in rings], 1)[0]
    )


def test_rendered_pictures_have_natural_statistics() -> None:
    pictures = [render_picture(256, 256, seed) for seed in range(12)]
    slope = np.mean([spectral_slope(p) for p in pictures])
    assert -3.0 < slope < -2.0  # photographs: about -2.4 by the same measure; white noise: 0
    values = np.stack(pictures).reshape(-1, 3) / 255
    assert 0.3 < values.mean() < 0.6
    assert 0.12 < values.std() < 0.35
    assert np.corrcoef(values.T).min() > 0.7  # mostly lightness, little chroma


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (64, 33)])
def test_any_size_can_be_rendered(size: tuple[int, int]) -> None:
    picture = render_picture(*size, seed=5)
    assert picture.shape == (*size, 3)
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, render_picture(*size, seed=5))


def test_rendering_refuses_an_empty_picture() -> None:
    with pytest.raises(ValueError, match="must be positive"):
        render_picture(0, 5, seed=0)


def test_packaged_pictures_are_there_and_apart() -> None:
    train, test = packaged_pictures("train"), packaged_pictures("test")
    assert len(train) == 13
    assert len(test) == 4
    assert not set(train) & set(test)
    assert all(min(read_picture(p).shape[:2]) >= 256 for p in train + test)
    with pytest.raises(ValueError, match="'train' or 'test'"):
        packaged_pictures("val")  # type: ignore[arg-type]


def test_packaged_crops_come_from_the_training_split() -> None:
    source = PackagedCrops(crop_size=32, seed=0)
    assert source.paths == packaged_pictures("train")
    assert source.sample(0).shape == (3, 32, 32)


class Counting:
    """A source whose samples tell who made them and their number."""

    def __init__(self, name: int, crop_size: int, seed: int) -> None:
        self.name = name
        self.crop_size = crop_size

    def sample(self, index: int) -> Tensor:
        return torch.tensor([self.name, index % 256, index // 256 % 256], dtype=torch.uint8)[:, None, None]


def factory(name: int):  # type: ignore[no-untyped-def]
    return lambda crop_size, seed: Counting(name, crop_size, seed)


def test_a_mixture_keeps_its_weights_and_reads_each_source_without_gaps() -> None:
    mixed = MixedCrops([factory(0), factory(1), factory(2)], [1, 1, 2], crop_size=1, seed=0)
    samples = [tuple(mixed.sample(i).flatten().tolist()) for i in range(400)]
    for block in range(4):
        assert Counter(s[0] for s in samples[100 * block : 100 * (block + 1)]) == {0: 25, 1: 25, 2: 50}
    for name, count in ((0, 100), (1, 100), (2, 200)):
        assert [s[1] + 256 * s[2] for s in samples if s[0] == name] == list(range(count))


@given(weights=st.lists(st.floats(0.3, 3), min_size=1, max_size=6), index=st.integers(0, 10**7))
def test_any_sample_of_a_mixture_can_be_asked_for(weights: list[float], index: int) -> None:
    mixed = MixedCrops([factory(k) for k in range(len(weights))], weights, crop_size=1, seed=1)
    assert sum(mixed._counts) == 100
    assert torch.equal(mixed.sample(index), mixed.sample(index))


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.0], [1.0, -1.0], [1000.0, 1.0], [float("nan"), 1.0]])
def test_bad_mixture_weights_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match=r"mixture needs|Mixture weights"):
        MixedCrops([factory(0), factory(1)], weights, crop_size=1, seed=0)


def test_to_signed_spans_the_range() -> None:
    assert to_signed(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1.0, 1.0]
