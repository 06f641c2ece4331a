"""Clips made to keep a reader busy: the work grows with the bytes and no faster, and only FormatError is raised."""

import contextlib
import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glc_train.bitstream import FormatError, VideoReader, video_reader
from glc_train.bitstream.video_container import END, INTRA, pack_end, pack_intra, pack_number, pack_video_header
from tests.bitstream.clip_files import SHORT, clip, expected, file_of, play

START = pack_video_header(SHORT)


def many(record: bytes, size: int) -> bytes:
    return START + record * (size // len(record))


def fake_end() -> bytes:
    """An end record that announces entries and is not the last: at every second byte begins another one."""
    return END


def long_end() -> bytes:
    """Begins an end record of 4,096 entries, which the bytes behind it can be."""
    return END + b"\0\0" + pack_number(7) + pack_number(4096)


def false_head(claim: int) -> Callable[[], bytes]:
    """An intact head whose payload, of `claim` bytes, is another one."""
    return lambda: pack_intra(0, bytes(claim), 0)[:-claim]


def greedy_frame() -> bytes:
    """An intact intra frame, and a conditional frame that claims 60,000 bytes."""
    return pack_intra(0, b"\x01", 0) + b"\xf0\x00\xea\x60\x00"


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes that went through a checksum or a parser, or were copied."""
    seen = [0]

    def counting(module: Any, name: str) -> None:
        function = getattr(module, name)

        def counted(*args: Any) -> Any:
            result = function(*args)
            seen[0] += len(result) if isinstance(result, bytes) else len(args[0])
            return result

        monkeypatch.setattr(module, name, counted)

    for name in ("crc8", "crc16", "unpack_end", "unpack_intra"):
        counting(video_reader, name)
    counting(video_reader.ByteWindow, "peek")
    return seen


@pytest.mark.parametrize(
    "record", [fake_end, long_end, false_head(100), false_head(30_000), false_head(16_000_000), greedy_frame]
)
def test_hostile_records_take_work_in_proportion_to_their_bytes(record: Callable[[], bytes], work: list[int]) -> None:
    spent = []
    for size in (100_000, 200_000):
        work[0] = 0
        play(io.BytesIO(many(record(), size)))
        spent.append(work[0])
    assert spent[1] < 2.6 * spent[0]
    assert spent[1] < 300 * size


def test_a_real_end_is_found_behind_fake_ones() -> None:
    payloads = clip(11)
    whole = file_of(SHORT, payloads)
    at = whole.rindex(END)
    played = play(io.BytesIO(whole[:at] + fake_end() * 5000 + long_end() + whole[at:]))
    assert played.frames == expected(payloads)
    assert [(d.first, d.end) for d in played.damages] == [(11, 11)]


def test_intact_frames_within_what_false_heads_claim_are_kept() -> None:
    payloads = clip(40)
    whole = file_of(SHORT, payloads)
    start = len(START)
    played = play(io.BytesIO(START + false_head(len(whole) - start)() * 50 + whole[start:]))
    assert played.frames == expected(payloads)
    assert [(d.first, d.end) for d in played.damages] == [(0, 0)]


def test_a_negative_frame_is_refused() -> None:
    reader = VideoReader(io.BytesIO(file_of(SHORT, clip(11))))
    for frame in (-1, -5):
        with pytest.raises(ValueError, match=f"there is no frame {frame}"):
            reader.seek(frame)
    assert reader.next_record().frame == 0


# ------------------------------------------------------------------ anything at all

CRUMBS = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([INTRA, END, b"\xf0\xff\xff\xff", b"\xf1", b"\x00", b"\xc0", long_end(), greedy_frame()]),
    st.builds(
        pack_intra, st.integers(0, 2**35 - 1), st.binary(max_size=20), st.integers(0, 0xFFFF)
    ),
    st.builds(
        pack_end,
        st.integers(0, 2**35 - 1),
        st.integers(0, 0xFFFF),
        st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 2**20)), max_size=4).map(sorted).map(
            lambda entries: [(f, sum(o for _, o in entries[: i + 1])) for i, (f, _) in enumerate(entries)]
        ),
    ),
)  # fmt: skip


@given(
    crumbs=st.lists(CRUMBS, max_size=12), start=st.none() | st.integers(0, 2**40), period=st.none() | st.integers(1, 9),
    cuts=st.booleans(),
)  # fmt: skip
def test_any_records_play_to_an_end(crumbs: list[bytes], start: int | None, period: int | None, cuts: bool) -> None:
    header = replace(SHORT, intra_period=period, scene_cuts=cuts)
    played = play(io.BytesIO(pack_video_header(header) + b"".join(crumbs)), start)
    assert len(played.frames) <= sum(map(len, crumbs))
    for damage in played.damages:
        assert str(damage)


@given(data=st.binary(max_size=60), version=st.booleans())
def test_any_bytes_are_a_clip_or_a_format_error(data: bytes, version: bool) -> None:
    with contextlib.suppress(FormatError):
        play(io.BytesIO((START[:1] if version else b"") + data))
