"""Damaged, forged and foreign files: a FormatError or the right picture, never anything else."""

import copy
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from glc_train.bitstream import (
    MAX_PIXELS,
    CategoricalTable,
    FormatError,
    ImageHeader,
    SymbolReader,
    pack_image,
    unpack_image,
)
from glc_train.codecs import ImageCodec
from glc_train.codecs.exact_stream import ExactLatentCoder
from glc_train.codecs.symbol_maps import CodebookMap
from glc_train.transform import PriorParameters


@pytest.fixture(scope="module")
def small(codec: ImageCodec, photograph: np.ndarray) -> tuple[bytes, torch.Tensor]:
    """A file of a 40×50 picture, and its latent."""
    data = codec.compress(photograph[:40, :50], 1)
    return data, codec.decompress_symbols(data)[1]


def refused_or_right(codec: ImageCodec, data: bytes, latent: torch.Tensor) -> bool:
    """Whether the file was refused; fails if it decodes to something else."""
    try:
        decoded = codec.decompress_symbols(data)[1]
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
            codec.decompress_symbols(bytes(damaged))


@pytest.mark.parametrize("lie", [{"width": 51}, {"height": 39}, {"quality": 2}])
def test_a_header_that_lies_under_a_right_checksum(
    codec: ImageCodec, small: tuple[bytes, torch.Tensor], lie: dict[str, int]
) -> None:
    """The padded size is the same, so that the payload decodes: a CRC-8 alone would let one in 256 of them pass."""
    header, payload = unpack_image(small[0])
    with pytest.raises(FormatError, match="did not decode to what was encoded"):
        codec.decompress(pack_image(replace(header, **lie), payload))


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
    assert torch.equal(codec.decompress_symbols(pack_image(*_with_zeros(data)))[1], latent)


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


def test_a_large_picture_is_refused_until_the_limit_is_raised(
    codec: ImageCodec, small: tuple[bytes, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, latent = small
    with pytest.raises(FormatError, match=r"has 50x40 pixels, above the limit of 1,999.* to 2000"):
        codec.decompress(data, max_pixels=1999)
    for limit in (2000, None):
        assert torch.equal(codec.decompress_symbols(data, limit)[1], latent)
    # as long as the container demands: only the limit is in its way
    whole = pack_image(ImageHeader(65536, 65536, 0, codec.fingerprint, 0), b"\x55")
    monkeypatch.setattr(ImageCodec, "picture_coder", lambda _: pytest.fail("decoding began"))
    with pytest.raises(FormatError, match="above the limit of 89,478,485"):
        codec.decompress(whole)
    assert MAX_PIXELS == Image.MAX_IMAGE_PIXELS  # what can be encoded can be decoded


def test_a_payload_too_short_for_its_indices_is_refused_before_any_work(
    codec: ImageCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """4 KB for 4096×4096 pixels: 4,096 equally likely indices of a codebook of 1,024 take 5,120 bytes."""
    coder = codec.picture_coder()
    assert isinstance(coder, ExactLatentCoder)
    assert isinstance(coder.symbols.z_map, CodebookMap)
    monkeypatch.setattr(coder.symbols.z_map, "table", CategoricalTable.uniform(1024))
    monkeypatch.setattr(coder.decoder, "parameters_of", lambda _: pytest.fail("networks ran"))
    data = pack_image(ImageHeader(4096, 4096, 0, codec.fingerprint, 0, version=3), b"\x55")
    assert 4096 <= len(data) < 4120
    with pytest.raises(FormatError, match="too short for its symbols"):
        codec.decompress(data)


@pytest.mark.parametrize("rows", [1, 15, 16, 17, 18, 33, 48])
def test_parameters_in_stripes_are_those_of_the_whole(codec: ImageCodec, rows: int) -> None:
    coder = codec.picture_coder()
    assert isinstance(coder, ExactLatentCoder)
    z_hat = 3 * torch.randn(1, codec.transform.hyper_channels, rows, 5, generator=torch.Generator().manual_seed(rows))
    whole = coder.decoder.parameters_of(z_hat)
    striped = coder._parameters_of(z_hat, SymbolReader(bytes(100_000)))
    assert torch.equal(striped.raw, whole.raw)
    assert torch.equal(striped.scale, whole.scale)


@pytest.mark.parametrize("zeros", [False, True])
def test_a_payload_too_short_for_its_first_pass_is_refused_after_some_rows(
    codec: ImageCodec, monkeypatch: pytest.MonkeyPatch, zeros: bool
) -> None:
    """Neither the rest of the parameters nor one symbol of y is computed: memory and time are those of a stripe."""
    coder = codec.picture_coder()
    assert isinstance(coder, ExactLatentCoder)
    size = 2048 * 2048 // 4096
    payload = b"\x80".ljust(size, b"\0") if zeros else np.random.default_rng(4).bytes(size)
    rows: list[int] = []
    parameters_of = coder.decoder.parameters_of

    def counted(z_hat: torch.Tensor) -> PriorParameters:
        rows.append(z_hat.shape[-2])
        return parameters_of(z_hat)

    monkeypatch.setattr(coder.decoder, "parameters_of", counted)
    monkeypatch.setattr(SymbolReader, "read_gaussian", lambda *_: pytest.fail("symbols were read"))
    with pytest.raises(FormatError, match="too short for its symbols"):
        codec.decompress(pack_image(ImageHeader(2048, 2048, 0, codec.fingerprint, 0), payload))
    assert rows == [18]


def test_pixels_that_are_no_numbers_are_an_error(codec: ImageCodec, small: tuple[bytes, torch.Tensor]) -> None:
    """Not a black picture: finite weights can overflow."""
    broken = copy.deepcopy(codec)
    broken.autoencoder.decoder.last_layer.fill_(3e38)
    header, payload = unpack_image(small[0])
    data = pack_image(replace(header, fingerprint=broken.fingerprint), payload)
    with pytest.raises(ValueError, match="pixels that are no numbers"):
        broken.decompress(data)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    payload=st.binary(max_size=200),
    width=st.integers(1, 2048),
    height=st.integers(1, 2048),
    quality=st.integers(0, 63),
    check=st.integers(0, 0xFFFF),
)
def test_any_payload_under_any_header_is_a_format_error(
    codec: ImageCodec, payload: bytes, width: int, height: int, quality: int, check: int
) -> None:
    with pytest.raises(FormatError):
        codec.decompress(pack_image(ImageHeader(width, height, quality, codec.fingerprint, check), payload), 40_000)


def test_an_impossible_quality_is_a_format_error(codec: ImageCodec, small: tuple[bytes, torch.Tensor]) -> None:
    header, payload = unpack_image(small[0])
    forged = ImageHeader(header.width, header.height, 63, header.fingerprint, header.content_check)
    with pytest.raises(FormatError, match="quality 63, but the loaded weights know only 0 to 3"):
        codec.decompress(pack_image(forged, payload))
