"""Damaged, forged and foreign files: a FormatError or the right picture, never anything else."""

import time

import numpy as np
import pytest
import torch

from glc_train.bitstream import FormatError, ImageHeader, pack_image, unpack_image
from glc_train.codecs import ImageCodec


@pytest.fixture(scope="module")
def small(codec: ImageCodec, photograph: np.ndarray) -> tuple[bytes, torch.Tensor]:
    """A file of a 40×50 picture, and its latent."""
    data = codec.compress(photograph[:40, :50], 1)
    return data, codec.decompress_latent(data)[1]


def refused_or_right(codec: ImageCodec, data: bytes, latent: torch.Tensor) -> bool:
    """Whether the file was refused; fails if it decodes to something else."""
    try:
        decoded = codec.decompress_latent(data)[1]
    except FormatError:
        return True
    assert torch.equal(decoded, latent)
    return False


def test_every_truncation(codec: ImageCodec, small: tuple[bytes, torch.Tensor]) -> None:
    data, latent = small
    refused = sum(refused_or_right(codec, data[:length], latent) for length in range(len(data)))
    assert refused == len(data)


def test_every_flipped_bit(codec: ImageCodec, small: tuple[bytes, torch.Tensor]) -> None:
    data, _ = small
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatError):
            codec.decompress_latent(bytes(damaged))


def test_flipped_bits_under_a_repaired_checksum(codec: ImageCodec, small: tuple[bytes, torch.Tensor]) -> None:
    data, latent = small
    header, payload = unpack_image(data)
    positions = np.linspace(0, 8 * len(payload) - 1, 60).astype(int)
    refused = 0
    for bit in positions:
        damaged = bytearray(payload)
        damaged[bit // 8] ^= 1 << bit % 8
        refused += refused_or_right(codec, pack_image(header, bytes(damaged)), latent)
    assert refused >= len(positions) - 2  # the last bits may mean nothing


def test_bytes_added_at_the_end(codec: ImageCodec, small: tuple[bytes, torch.Tensor]) -> None:
    data, latent = small
    for extra in (b"\0", b"\0" * 100, b"x", data):
        refused_or_right(codec, data + extra, latent)
    assert torch.equal(codec.decompress_latent(pack_image(*_with_zeros(data)))[1], latent)


def _with_zeros(data: bytes) -> tuple[ImageHeader, bytes]:
    header, payload = unpack_image(data)
    return header, payload + bytes(9)


def test_random_files(codec: ImageCodec) -> None:
    rng = np.random.default_rng(1)
    for length in rng.integers(0, 80, 10_000):
        with pytest.raises(FormatError):
            codec.decompress(rng.bytes(int(length)))


def test_random_files_that_begin_well(codec: ImageCodec, small: tuple[bytes, torch.Tensor]) -> None:
    data, _ = small
    rng = np.random.default_rng(2)
    for length in rng.integers(0, 80, 2_000):
        with pytest.raises(FormatError):
            codec.decompress(data[: 1 + length % 12] + rng.bytes(int(length)))


def test_random_payloads_under_a_right_header(codec: ImageCodec, small: tuple[bytes, torch.Tensor]) -> None:
    header, payload = unpack_image(small[0])
    rng = np.random.default_rng(3)
    for length in rng.integers(0, 2 * len(payload), 40):
        with pytest.raises(FormatError):
            codec.decompress(pack_image(header, rng.bytes(int(length))))


def test_a_huge_claim_is_refused_before_any_work(codec: ImageCodec) -> None:
    header = ImageHeader(65536, 65536, 0, codec.fingerprint, 0)
    whole = pack_image(header, b"")
    start = time.perf_counter()
    for length in (0, 1, 1000):
        # The container would fill a payload up: take the header, and forge the checksum by trying all of them.
        tail = b"\x55" * length
        head = whole[: len(whole) - 65536 * 65536 // 4096]
        messages = []
        for checksum in range(256):
            with pytest.raises(FormatError) as error:
                codec.decompress(head[:-1] + bytes([checksum]) + tail)
            messages.append(str(error.value))
        assert sum("announces 65536x65536 pixels" in message for message in messages) == 1
    assert time.perf_counter() - start < 5


def test_an_impossible_quality_is_a_format_error(codec: ImageCodec, small: tuple[bytes, torch.Tensor]) -> None:
    header, payload = unpack_image(small[0])
    forged = ImageHeader(header.width, header.height, 63, header.fingerprint, header.content_check)
    with pytest.raises(FormatError, match="quality 63, but the loaded weights know only 0 to 3"):
        codec.decompress(pack_image(forged, payload))
