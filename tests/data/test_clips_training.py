"""Training clips: consecutive frames, cut alike, pure in (seed, index), whatever the files and the cache."""

import logging
import pickle
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor

from glc_train.data import (
    ClipDataModule,
    ClipEncoder,
    FolderClips,
    MixedCrops,
    RenderedClips,
    find_clips,
    render_clip,
    write_shards,
)
from glc_train.data import clip_store as store_module
from glc_train.data.clip_store import ClipStore
from glc_train.media import ClipError, write_picture
from tests.media.clip_files import encode, grey, noise

LENGTH = 30


def ramp(height: int = 64, width: int = 96, count: int = LENGTH, step: int = 4) -> list[np.ndarray]:
    """Pictures whose brightness tells their number."""
    return [grey(20 + step * k, height, width) for k in range(count)]


def numbers(sample: Tensor, step: int = 4) -> list[int]:
    """Numbers of the frames of a sample of `ramp`."""
    return [round((float(frame.float().mean()) - 20) / step) for frame in sample]


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clips of 30 frames with key frames every 8, one of them a folder of frames."""
    root = tmp_path_factory.mktemp("films")
    encode(root / "a.mp4", ramp(), options={"g": "8", "crf": "4"})
    (root / "inner").mkdir()
    encode(root / "inner" / "b.webm", ramp(), "libvpx-vp9", options={"g": "8", "crf": "4"})
    (root / "c").mkdir()
    for k, picture in enumerate(ramp()):
        write_picture(root / "c" / f"im{k}.png", picture)
    return root


def vimeo(root: Path) -> Path:
    """Two septuplets in the layout of Vimeo-90k, with lists of one each."""
    for k in (1, 2):
        folder = root / "sequences" / "00001" / f"{k:04}"
        folder.mkdir(parents=True)
        for number, picture in enumerate(ramp(count=7, step=8 * k), start=1):
            write_picture(folder / f"im{number}.png", picture)
        (root / f"sep_{'train' if k == 1 else 'test'}list.txt").write_text(f"00001/{k:04}\n\n")
    return root


def test_clips_are_found_in_folders_and_lists(films: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (films / ".hidden.mp4").touch()
    names = [path.relative_to(films).as_posix() for path in find_clips(films)]
    assert names == ["a.mp4", "c", "inner/b.webm"]
    assert find_clips([films / "a.mp4", films / "inner"]) == [films / "a.mp4", films / "inner" / "b.webm"]
    root = vimeo(tmp_path)
    assert [path.name for path in find_clips(root)] == ["0001", "0002"]
    assert find_clips(root / "sep_trainlist.txt") == [root / "sequences" / "00001" / "0001"]
    for pattern in ("a.mp4", "a", "?.mp4"):
        assert [path.name for path in find_clips(films, [pattern])] == ["c", "b.webm"]
    assert [path.name for path in find_clips(films, ["inner/*", "c"])] == ["a.mp4"]
    assert [path.name for path in find_clips(root, ["00001/0001", "sequences/00001/0002"])] == ["0001"]
    assert "no clip is named 00001/0001" in caplog.text


@pytest.mark.parametrize(
    ("root", "exclude", "words"),
    [
        ("gone", [], "gone: no such file or folder"),
        ("empty", [], r"empty: no clips there; looked for \.mp4"),
        ("gone.txt", [], "gone.txt: not a readable list of clips"),
        ("films", ["*"], r"All 1 clips are excluded by \*"),
    ],
)
def test_places_without_clips_are_refused(tmp_path: Path, root: str, exclude: list[str], words: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "a.mp4").touch()
    with pytest.raises(ClipError, match=words):
        find_clips(tmp_path / root, exclude)
    with pytest.raises(ClipError, match="the list of folders: no clips"):
        find_clips([])


def test_samples_are_consecutive_frames(films: Path) -> None:
    source = FolderClips(films, crop_size=32, seed=0, frames=5)
    starts, shown = set(), set()
    for index in range(24):
        sample = source.sample(index)
        assert sample.shape == (5, 3, 32, 32)
        assert sample.dtype == torch.uint8
        first, *rest = numbers(sample)
        assert rest == [first + k for k in range(1, 5)]
        starts.add(first)
        shown.add(source.name(index))
    assert len(starts) > 8
    assert len(shown) == 3


def test_strides_and_reversed_time(films: Path) -> None:
    source = FolderClips(films, 32, 0, frames=3, strides=[1, 2, 20], reverse=True)
    steps = []
    for index in range(40):
        a, b, c = numbers(source.sample(index))
        assert b - a == c - b
        steps.append(b - a)
    # 20 is too long for clips of 30 frames
    assert set(steps) == {-2, -1, 1, 2}
    assert 10 < sum(step > 0 for step in steps) < 30


@pytest.mark.parametrize("cache_mb", [0, 0.1, 100])
def test_samples_depend_on_seed_and_index_alone(films: Path, cache_mb: float) -> None:
    build = partial(FolderClips, films, 32, frames=4, strides=[1, 2], reverse=True, short_side=48)
    first = build(seed=3)
    wanted = [first.sample(i) for i in range(12)]
    second = build(seed=3, cache_mb=cache_mb)
    assert all(torch.equal(second.sample(i), wanted[i]) for i in reversed(range(12)))
    assert any(not torch.equal(build(seed=4).sample(i), wanted[i]) for i in range(12))


def test_all_frames_of_a_sample_are_cut_alike(tmp_path: Path) -> None:
    picture = noise(1, 80, 120)[0]
    for k in range(6):
        write_picture(tmp_path / f"{k}.png", picture)
    source = FolderClips(tmp_path, 32, 0, frames=4)
    samples = [source.sample(i) for i in range(20)]
    assert all(torch.equal(frame, sample[0]) for sample in samples for frame in sample)
    assert len({sample[0].numpy().tobytes() for sample in samples}) == 20
    plain = FolderClips(tmp_path, 32, 0, frames=2, flip=False, scale_probability=0).sample(0)[0]
    windows = np.lib.stride_tricks.sliding_window_view(picture, (32, 32, 3))
    assert (windows == plain.permute(1, 2, 0).numpy()).all(axis=(-3, -2, -1)).any()


def test_short_side_reduces_and_small_clips_are_enlarged(tmp_path: Path) -> None:
    for k, picture in enumerate(ramp(60, 120, 2)):
        write_picture(tmp_path / f"{k}.png", picture)
    assert [frame.shape for frame in ClipStore(30, 0).frames(tmp_path, range(2))] == [(30, 60, 3)] * 2
    assert FolderClips(tmp_path, 100, 0, frames=2).sample(0).shape == (2, 3, 100, 100)


def test_unusable_clips_are_named_once_and_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, count in (("good", 6), ("short", 3)):
        (tmp_path / name).mkdir()
        for k, picture in enumerate(ramp(32, 32, count)):
            write_picture(tmp_path / name / f"{k}.png", picture)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    source = FolderClips(tmp_path, 32, 0, frames=4)
    with caplog.at_level(logging.WARNING):
        samples = [source.sample(i) for i in range(12)]
    assert len(caplog.records) == 2
    assert "of 3: " in caplog.text
    assert "broken.mp4: not a readable video file" in caplog.text
    assert "short: 3 frames, too few for samples of 4" in caplog.text
    assert set(source.unreadable) == {tmp_path / "broken.mp4", tmp_path / "short"}
    again = FolderClips(tmp_path, 32, 0, frames=4)
    assert all(torch.equal(again.sample(i), samples[i]) for i in reversed(range(12)))
    with pytest.raises(ClipError, match="none of the 3 clips can be read"):
        FolderClips(tmp_path, 32, 0, frames=7).sample(0)


@pytest.mark.parametrize("cache_mb", [0, 10])
def test_damage_elsewhere_in_a_clip_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache_mb: int
) -> None:
    path = encode(tmp_path / "a.mp4", noise(LENGTH, 32, 48), options={"g": "8"})
    whole = ClipStore(None, 0).frames(path, range(LENGTH))
    checked = store_module.checked_picture
    bad = whole[20].tobytes()

    def damaged(*arguments: Any) -> np.ndarray:
        picture = checked(*arguments)
        if picture.tobytes() == bad:
            raise ClipError(f"{path}: damaged video; replace the file.")
        return picture

    monkeypatch.setattr(store_module, "checked_picture", damaged)
    store = ClipStore(None, cache_mb)
    for first in (16, 21, 0):
        np.testing.assert_array_equal(store.frames(path, range(first, first + 3)), whole[first : first + 3])
    with pytest.raises(ClipError, match="damaged"):
        store.frames(path, range(18, 22))


@pytest.mark.parametrize(
    "option", [{"seed": -1}, {"frames": 0}, {"strides": []}, {"strides": [0]}, {"short_side": 31}, {"crop_size": 0}]
)
def test_numbers_out_of_range_are_refused(films: Path, option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(option))):
        FolderClips(films, **({"crop_size": 32, "seed": 0, "frames": 2} | option))


def test_rendered_clips_are_pure_and_move(tmp_path: Path) -> None:
    first = RenderedClips(crop_size=48, seed=1, frames=6)
    wanted = {i: first.sample(i) for i in (0, 1, 33, 70)}
    second = RenderedClips(crop_size=48, seed=1, frames=6)
    assert all(torch.equal(second.sample(i), wanted[i]) for i in reversed(list(wanted)))
    assert not torch.equal(RenderedClips(48, 2, 6).sample(0), wanted[0])
    near, far = [], []
    for index in range(12):
        clip = first.sample(index).float()
        assert clip.shape == (6, 3, 48, 48)
        near.append(float((clip[1:] - clip[:-1]).abs().mean()))
        far.append(float((clip[-1] - clip[0]).abs().mean()))
    assert np.mean(near) > 0.5
    assert np.mean(far) > 1.5 * np.mean(near)
    assert RenderedClips(32, 0, 1).sample(0).shape == (1, 3, 32, 32)


def test_a_rendered_clip_is_a_function_of_its_arguments() -> None:
    clip = render_clip(32, 48, 3, seed=5)
    assert clip.shape == (3, 32, 48, 3)
    np.testing.assert_array_equal(clip, render_clip(32, 48, 3, seed=5))
    assert not np.array_equal(clip, render_clip(32, 48, 3, seed=6))
    with pytest.raises(ValueError, match="frames"):
        render_clip(32, 32, 0, seed=0)
    with pytest.raises(ValueError, match="frames"):
        RenderedClips(32, 0, 0)


def module(films: Path, **options: Any) -> ClipDataModule:
    settings: dict[str, Any] = {"crop_size": 32, "batch_size": 2, "frames": 3, "val": films, "val_frames": 4}
    return ClipDataModule(partial(FolderClips, films), **(settings | options))


def batches(data: ClipDataModule, count: int) -> list[Tensor]:
    """As the device has them."""
    return [data.on_after_batch_transfer(batch, 0) for batch in islice(iter(data.train_dataloader()), count)]


def test_batches_are_signed_floats(films: Path) -> None:
    batch = batches(module(films), 1)[0]
    assert batch.shape == (2, 3, 3, 32, 32)
    assert batch.dtype == torch.float32
    assert -1 <= batch.min() < batch.max() <= 1
    clip = (batch[0] + 1) * 127.5
    assert numbers(clip)[2] - numbers(clip)[0] == 2


@pytest.mark.parametrize("workers", [0, 2])
def test_a_start_in_the_middle_continues_exactly(films: Path, workers: int) -> None:
    whole = batches(module(films), 6)
    resumed = module(films, num_workers=workers, batch_size=1)
    started = module(films)
    started.set_start(2)
    resumed.load_state_dict(started.state_dict())
    got = batches(resumed, 4)
    assert torch.equal(torch.cat(got), torch.cat(whole[2:4]))


def test_validation_clips_are_the_first_frames_from_the_middle(films: Path) -> None:
    items = list(module(films, val_clips=2).val_dataloader())
    assert [item.name for item in items] == ["a.mp4", "c"]
    assert [tuple(item.x.shape) for item in items] == [(1, 4, 3, 64, 64)] * 2
    assert numbers((items[1].x[0] + 1) * 127.5) == [0, 1, 2, 3]
    assert next(iter(module(films, val=films / "a.mp4", val_frames=99).val_dataloader())).x.shape[1] == LENGTH


def test_validation_defaults_to_rendered_clips(films: Path) -> None:
    data = module(films, val=None, val_clips=2, val_max_side=64)
    first, again = list(data.val_dataloader()), list(data.val_dataloader())
    assert [item.name for item in first] == ["rendered-0", "rendered-1"]
    assert first[0].x.shape == (1, 4, 3, 64, 64)
    assert all(torch.equal(a.x, b.x) for a, b in zip(first, again, strict=True))


def test_bad_data_fails_in_setup(films: Path, tmp_path: Path) -> None:
    with pytest.raises(ClipError, match="gone: no such file or folder"):
        module(films, val=tmp_path / "gone").setup("fit")
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(ClipError, match="none of the 1 clips can be read"):
        module(tmp_path, val=films).setup("fit")
    write_picture(tmp_path / "a.png", grey(9, 63, 90))
    with pytest.raises(ClipError, match="under 64 pixels a side"):
        module(films, val=[tmp_path]).setup("fit")


def test_unreadable_validation_clips_are_named_and_left_out(
    films: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "0.mp4").write_bytes(b"no video")
    places = [tmp_path, films / "a.mp4"]
    assert [item.name for item in module(films, val=places, val_clips=1).val_dataloader()] == ["a.mp4"]
    assert f"Left out of the validation: {tmp_path / '0.mp4'}: not a readable video" in caplog.text


@pytest.mark.parametrize("option", ["crop_size", "batch_size", "frames", "val_clips", "val_frames", "val_max_side"])
def test_module_settings_out_of_range_are_refused(films: Path, option: str) -> None:
    with pytest.raises(ValueError, match=option):
        module(films, **{option: 0})


@pytest.mark.parametrize("name", ["clips", "clips_rendered", "clip_shards"])
def test_every_configuration_gives_a_batch(repository: Path, films: Path, name: str) -> None:
    text = (repository / "conf" / "data" / f"{name}.yaml").read_text()
    assert text.startswith("# ")
    config: Any = OmegaConf.create(text)
    for of_evaluation in ("defaults", "test"):
        config.pop(of_evaluation, None)
    if name == "clips":
        config.train.root = str(films)
    if name == "clip_shards":
        config.train.root = write_shards(films, films / "shards", ClipEncoder()).url
    data = instantiate(config, crop_size=32, batch_size=2, seed=0, frames=2)
    assert isinstance(data, ClipDataModule)
    assert batches(data, 1)[0].shape == (2, 2, 3, 32, 32)


def test_sources_mix_and_travel_to_workers(films: Path) -> None:
    sources: list[Callable[..., Any]] = [partial(FolderClips, films), RenderedClips]
    mixed = MixedCrops(sources, [1, 1], crop_size=32, seed=0, frames=2)
    assert mixed.sample(0).shape == (2, 3, 32, 32)
    assert len({mixed.name(i).startswith("Rendered") for i in range(8)}) == 2
    copy = pickle.loads(pickle.dumps(mixed))
    assert all(torch.equal(copy.sample(i), mixed.sample(i)) for i in range(4))
