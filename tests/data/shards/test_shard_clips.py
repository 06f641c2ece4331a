"""Clips in shards: segments and frames, cut as from folders."""

import hashlib
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset
from torch import Tensor

from glc_train.cli import main as glc
from glc_train.data import ClipEncoder, MixedCrops, RenderedClips, ShardClips, ShardIndex, write_shards
from glc_train.data.clip_held import held_clip
from glc_train.media import ClipError, write_picture
from glc_train.media.pictures import encode_picture
from tests.media.clip_files import encode, grey


def levels(sample: Tensor) -> list[int]:
    """The grey level of each frame."""
    return [int(frame.float().mean().round()) for frame in sample]


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """A film of 70 frames that grows brighter by 3 a frame, and two clips of seven frames."""
    folder = tmp_path / "films"
    folder.mkdir()
    encode(folder / "long.mp4", [grey(20 + 3 * k) for k in range(70)])
    for clip in range(2):
        for k in range(7):
            write_picture(
                folder / f"short {clip}" / f"im{k + 1}.png", np.full((20, 30, 3), 100 * clip + 10 * k, np.uint8)
            )
    return folder


def test_clips_become_segments_or_frames(films: Path, tmp_path: Path) -> None:
    index = write_shards(films, tmp_path / "out", ClipEncoder(segment=32), samples=10)
    found = [[member.suffix for member in index.members(k)[1]] for k in range(len(index))]
    assert sorted(found) == [[f"im{k}.png" for k in range(1, 8)]] * 2 + [["mp4"]] * 2
    (shard,) = index.urls
    frames = {
        sample["__key__"]: sample["im1.png"]
        for sample in webdataset.WebDataset([shard], shardshuffle=False)
        if "im1.png" in sample
    }
    assert sorted(frames.values()) == sorted((films / f"short {k}" / "im1.png").read_bytes() for k in range(2))
    again = write_shards(films, tmp_path / "again", ClipEncoder(segment=32), samples=10, jobs=2)
    assert again.sha256 == index.sha256


def test_samples_are_consecutive_frames_of_one_clip(films: Path, tmp_path: Path) -> None:
    write_shards(films, tmp_path / "out", ClipEncoder(segment=32), samples=10)
    clips = ShardClips(str(tmp_path / "out"), crop_size=16, seed=0, frames=5)
    samples = [levels(clips.sample(k)) for k in range(12)]
    for lap in range(3):
        steps = sorted(float(np.median(np.diff(sample))) for sample in samples[4 * lap : 4 * lap + 4])
        assert steps == [3, 3, 10, 10]  # two segments of the film, two clips of frames
    starts = {sample[0] for sample in samples if sample[1] - sample[0] < 6}
    assert len(starts) > 4
    assert max(starts) > 20 + 3 * 32  # the second segment holds the end of the film
    again = ShardClips(str(tmp_path / "out"), crop_size=16, seed=0, frames=5)
    assert all(levels(again.sample(k)) == samples[k] for k in reversed(range(12)))


def test_frames_are_reduced(films: Path, tmp_path: Path) -> None:
    write_shards(films, tmp_path / "out", ClipEncoder(short_side=16), samples=10)
    clips = ShardClips(str(tmp_path / "out"), crop_size=16, seed=0, frames=3, scale_probability=0)
    assert clips.sample(0).shape == (3, 3, 16, 16)


def test_clips_too_short_are_named_once_and_replaced(
    films: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_shards(films, tmp_path / "out", ClipEncoder(segment=32), samples=10)
    clips = ShardClips(str(tmp_path / "out"), crop_size=16, seed=0, frames=8, reading={"max_bad": 0.5})
    with caplog.at_level(logging.WARNING):
        for k in range(8):
            assert clips.sample(k).shape == (8, 3, 16, 16)
    assert len(caplog.records) == 2
    assert all("7 frames, too few for samples of 8" in record.getMessage() for record in caplog.records)
    assert all("glc_train-" not in record.getMessage() for record in caplog.records)


def test_a_playlist_in_memory_opens_no_file(films: Path) -> None:
    script = f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{films / 'long.mp4'}\n#EXT-X-ENDLIST\n"
    with pytest.raises(ClipError, match=r"clip\.ts: not a readable video file"):
        held_clip({"ts": script.encode()}, None)


def test_a_clip_of_frames_of_different_sizes_is_refused() -> None:
    files = {f"im{k}.png": encode_picture(np.zeros((20, 20 + k, 3), np.uint8), ".png") for k in range(2)}
    with held_clip(files, None) as clip, pytest.raises(ClipError, match="frames of different sizes"):
        clip.frames(clip.name, range(2))
    with held_clip(files | {"im1.png": b"no picture"}, None) as clip, pytest.raises(ClipError, match=r"im1\.png: not"):
        clip.frames(clip.name, range(2))


def test_sets_of_clips_mix(films: Path, tmp_path: Path) -> None:
    write_shards(films, tmp_path / "out", ClipEncoder(), samples=10)

    def shards(crop_size: int, seed: int, frames: int) -> ShardClips:
        return ShardClips(str(tmp_path / "out"), crop_size, seed, frames)

    mixed = MixedCrops([shards, RenderedClips], [1, 1], crop_size=16, seed=0, frames=2)
    assert torch.stack([mixed.sample(k) for k in range(4)]).shape == (4, 2, 3, 16, 16)


def test_damaged_clips_are_left_out_and_said(films: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (films / "broken.mp4").write_bytes(b"no video")
    assert glc(["data", "shard", str(films), str(tmp_path / "out"), "--clips", "--jobs", "1"]) == 1
    said = capsys.readouterr()
    assert "4 samples in 1 shard, 1 left out" in said.out
    assert "broken.mp4" in said.err
    data = (tmp_path / "out" / "shard-000000.tar").read_bytes()
    assert ShardIndex(str(tmp_path / "out" / "index.safetensors")).sha256 == [hashlib.sha256(data).hexdigest()]
    assert glc(["data", "shard", str(films), str(tmp_path / "new"), "--clips", "--format", "png"]) == 1
    assert "--format: only of pictures" in capsys.readouterr().err
