"""Where the bits go: the parts of an account add up to the file, and asking changes nothing."""

import numpy as np
import pytest
import torch

from glc_train.codecs import BitAccount, ImageCodec, VideoCodec, accounting, compress_clip
from glc_train.codecs.bit_account import current_account
from tests.codecs.video_harness import CLIP, QUALITY


def test_the_parts_of_a_picture_add_up_to_its_file(codec: ImageCodec, photograph: np.ndarray) -> None:
    picture = photograph[:150, :200]
    with accounting() as account:
        result = codec.compress_with_report(picture, 1)
    assert current_account() is None
    assert result.data == codec.compress(picture, 1)
    assert len(result.data) - account.payload == 10
    assert account.z_bits == pytest.approx(result.estimated_bits_z)
    assert account.z_bits + sum(account.pass_bits) == pytest.approx(result.ideal_bits)
    assert account.payload == pytest.approx(result.ideal_bits / 8, abs=8)
    assert len(account.pass_bits) == 4
    assert min(account.pass_bits) > 0

    height, width = codec.latent_size(150, 200)
    assert account.map is not None
    assert account.map.shape == (height, width)
    assert account.map.sum() == pytest.approx(result.estimated_bits_y, rel=1e-5)
    assert account.symbols.total() == height * width * codec.transform.channels
    assert account.symbols[0] < account.symbols.total()


def test_reading_a_file_tells_the_same_of_y_as_writing_it(codec: ImageCodec, photograph: np.ndarray) -> None:
    with accounting() as written:
        data = codec.compress(photograph[:150, :200], 1)
    with accounting() as read:
        picture = codec.decompress(data)
    np.testing.assert_array_equal(picture, codec.decompress(data))
    assert (read.pass_bits, read.symbols, read.payload) == (written.pass_bits, written.symbols, 0)
    assert read.map is not None
    assert written.map is not None
    np.testing.assert_allclose(read.map, written.map, rtol=1e-6)


def test_bits_are_at_the_place_of_their_symbol() -> None:
    account, where = BitAccount(), torch.zeros(1, 2, 2, 3, dtype=torch.bool)
    where[0, 0, 1, 2] = where[0, 1, 0, 1] = where[0, 1, 1, 2] = True
    account.add_pass(1, 10.0, np.array([0, -1, 0]), torch.tensor([1.0, 2.0, 4.0]), where)
    account.settle()
    assert account.map is not None
    assert account.map.tolist() == [[0, 2, 0], [0, 0, 5]]
    assert account.pass_bits == [0, 10]
    assert account.symbols == {0: 2, -1: 1}


def test_the_frames_of_a_clip_are_added(video_codec: VideoCodec, frames: list[np.ndarray]) -> None:
    with accounting() as account:
        result = compress_clip(video_codec, frames, QUALITY, CLIP)
    assert result.data == compress_clip(video_codec, frames, QUALITY, CLIP).data
    assert account.z_bits + sum(account.pass_bits) == pytest.approx(sum(each.ideal_bits for each in result.frames))
    assert 0 < account.payload < len(result.data)
    channels = {
        "intra": video_codec.image.transform.channels,
        "conditional": video_codec.transform.channels,
        "repeat": 0,
    }
    assert account.map is not None
    assert account.symbols.total() == account.map.size * sum(channels[frame.kind] for frame in result.frames)
