"""Reading .glcv files: damage, seeking, pipes."""

import io
import os
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glc_train.bitstream import (
    MAX_PIXELS_PER_BYTE,
    Damage,
    FormatError,
    VideoReader,
    VideoWriter,
    pack_image,
    unpack_image,
    video_container,
    video_reader,
)
from glc_train.bitstream.container import ImageHeader
from glc_train.bitstream.video_container import pack_intra, pack_video_header, unpack_end
from tests.bitstream.clip_files import HEADER, SHORT, Payloads, Played, clip, expected, file_of, play, write

# ------------------------------------------------------------------ damage


def test_every_truncation_is_reported_and_what_came_before_is_kept() -> None:
    payloads = clip(11)
    data = file_of(SHORT, payloads)
    header = len(pack_video_header(SHORT))
    seen = set()
    for length in range(header, len(data)):
        played = play(io.BytesIO(data[:length]))
        assert played.damages, length
        assert played.damages[-1].end is None
        assert played.frames == expected(payloads[: len(played.frames)])
        assert played.damages[-1].first == len(played.frames)
        seen.add(len(played.frames))
    assert seen == set(range(12))


def test_every_flipped_bit_is_reported_and_the_other_groups_are_kept() -> None:
    payloads = clip(11)
    data = file_of(SHORT, payloads)
    header = len(pack_video_header(SHORT))
    for bit in range(8 * header, 8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        played = play(io.BytesIO(bytes(damaged)))
        assert played.damages, bit
        wrong = [f for f, payload in played.frames.items() if payload != payloads[f] and not played.reported(f)]
        assert wrong == [], bit
        lost = {frame // 4 for frame in range(11) if frame not in played.frames}
        assert len(lost) <= 1, bit


@pytest.mark.parametrize("seed", range(20))
def test_bytes_lost_added_or_overwritten(seed: int) -> None:
    payloads = clip(30, seed)
    data, rng = file_of(SHORT, payloads), np.random.default_rng(seed)
    header = len(pack_video_header(SHORT))
    for _ in range(20):
        at, length = int(rng.integers(header, len(data))), int(rng.integers(1, 30))
        noise = rng.bytes(length)
        for broken in (data[:at] + data[at + length :], data[:at] + noise + data[at:],
                       data[:at] + noise + data[at + length :]):  # fmt: skip
            played = play(io.BytesIO(broken))
            assert played.damages or played.frames == expected(payloads)
            wrong = [f for f, payload in played.frames.items() if payload != payloads[f]]
            # A CRC-8 lets one in 256 pass; the frames after it, and the check that ends its group, do not.
            assert all(played.reported(f) or any(d.first > f for d in played.damages) for f in wrong)
            groups = {frame // 4 for frame in range(30) if frame not in played.frames}
            assert len(groups) <= 3


def test_random_bytes() -> None:
    rng = np.random.default_rng(6)
    start = pack_video_header(SHORT)
    for trial in range(3000):
        data = rng.bytes(int(rng.integers(0, 200)))
        if trial % 3 == 0:
            with pytest.raises(FormatError):
                play(io.BytesIO(data))
            continue
        body = data if trial % 3 == 1 else pack_intra(0, b"\x01" * 9, 0) + data
        played = play(io.BytesIO(start + body))
        assert played.damages
        assert len(played.frames) <= 4


def test_a_frame_that_does_not_decode_is_passed_over() -> None:
    payloads = clip(11)
    reader = VideoReader(io.BytesIO(file_of(SHORT, payloads)))
    for _ in range(2):
        reader.next_record()
    record = reader.resync("it does not decode")
    assert (record.kind, record.frame) == ("intra", 4)
    assert record.damage == Damage(1, 4, "it does not decode")
    assert str(record.damage) == "frames 1 to 3: it does not decode"
    assert reader.next_record().frame == 5


def test_a_decoder_on_another_path_is_found_out_by_the_next_check() -> None:
    reader = VideoReader(io.BytesIO(file_of(SHORT, clip(11))))
    reader.next_record()
    assert reader.next_record(0x1234).damage is not None


def test_files_of_another_kind() -> None:
    picture = pack_image(ImageHeader(16, 16, 0, 0, 0), b"\x01")
    with pytest.raises(FormatError, match=r"a\.glcv is a \.glc picture where a video is expected"):
        VideoReader(io.BytesIO(picture), "a.glcv")
    with pytest.raises(FormatError, match=r"is a \.glc video where a picture is expected"):
        unpack_image(file_of(SHORT, clip(3)))
    with pytest.raises(FormatError, match=r"a\.glcv is empty"):
        VideoReader(io.BytesIO(b""), "a.glcv")
    with pytest.raises(FormatError, match="is damaged or truncated inside its header"):
        VideoReader(io.BytesIO(b"\xad"), "a.glcv")


def test_a_huge_claim_is_refused_before_any_work() -> None:
    huge = replace(HEADER, width=65536, height=65536)
    assert 65536 * 65536 // MAX_PIXELS_PER_BYTE > 1_000_000
    played = play(io.BytesIO(pack_video_header(huge) + pack_intra(0, b"\x01" * 1000, 0)))
    assert played.frames == {}
    assert played.damages[0].first == 0
    # The writer makes a payload long enough to be plausible.
    large = replace(HEADER, width=2048, height=1024)
    played = play(io.BytesIO(file_of(large, [b"\x07"])))
    assert played.frames == {0: b"\x07" + bytes(2048 * 1024 // 4096 - 1)}


def test_a_claimed_length_reads_no_more_than_there_is() -> None:
    data = pack_video_header(SHORT) + pack_intra(0, b"\x01\x02", 0) + b"\xf0\xff\xff\xff\x00 and no more"
    played = play(io.BytesIO(data))
    assert played.frames == {0: b"\x01\x02"}
    assert played.damages[0].first == 1
    with pytest.raises(ValueError, match="at most 16777215 bytes"):
        VideoWriter(io.BytesIO(), SHORT).conditional(bytes(2**24), 0)


# ------------------------------------------------------------------ seeking


def test_seeking_begins_at_the_intra_frame_before() -> None:
    payloads = clip(23)
    data = file_of(SHORT, payloads)
    for frame in range(23):
        played = play(io.BytesIO(data), frame)
        first = frame - frame % 4
        assert played.frames == {f: p for f, p in expected(payloads).items() if f >= first}
        assert played.damages == []
    assert play(io.BytesIO(data), 100) == Played({}, [])


def test_the_index_leads_straight_there() -> None:
    class Counting(io.BytesIO):
        taken = 0

        def read(self, size: int | None = -1) -> bytes:
            found = super().read(size)
            self.taken += len(found)
            return found

    data = file_of(SHORT, [b"\x55" * 150] * 4000)
    source = Counting(b"in front" + data)  # a clip may stand behind other bytes
    source.seek(8)
    reader = VideoReader(source)
    reader.seek(3999)
    assert reader.next_record().frame == 3996
    assert source.taken < 70_000
    end = reader.read_index()
    assert end is not None
    assert end.frames == 4000
    assert len(end.index) == 999


def test_without_an_index_all_is_searched() -> None:
    payloads = clip(23)
    data = file_of(SHORT, payloads)
    cut = data[: data.index(video_container.END)]
    played = play(io.BytesIO(cut), 14)
    assert played.frames == {f: p for f, p in expected(payloads).items() if f >= 12}
    assert [d.first for d in played.damages] == [23]
    damaged = bytearray(data)
    damaged[-1] ^= 1
    assert play(io.BytesIO(bytes(damaged)), 14).frames == played.frames


def test_where_the_intra_frame_is_damaged_decoding_begins_at_the_next() -> None:
    payloads = clip(23)
    data = file_of(SHORT, payloads)
    end = unpack_end(data[data.rindex(video_container.END) :])
    assert end is not None
    at = dict(end.index)[12]
    broken = bytearray(data)
    broken[at + 9] ^= 0x10
    played = play(io.BytesIO(bytes(broken)), 13)
    assert played.frames == {f: p for f, p in expected(payloads).items() if f >= 16}
    assert [(d.first, d.end) for d in played.damages] == [(12, 16)]


def test_the_index_of_a_long_clip_is_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_container, "MAX_INDEX", 5)
    payloads = clip(100)
    data = file_of(SHORT, payloads)
    end = VideoReader(io.BytesIO(data)).read_index()
    assert end is not None
    assert [frame for frame, _ in end.index] == [32, 64, 96]
    for frame in (3, 15, 16, 63, 95, 99):
        played = play(io.BytesIO(data), frame)
        assert min(played.frames) == frame - frame % 4
        assert played.damages == []


# ------------------------------------------------------------------ pipes


def test_a_pipe_is_read_while_it_is_written() -> None:
    reading, writing = os.pipe()
    payloads = clip(9)
    received = threading.Semaphore(0)
    waited: list[bool] = []

    class Patient(io.RawIOBase):
        """Writes a record only after the record before has been read."""

        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            waited.append(received.acquire(timeout=20))
            return os.write(writing, data)

    def produce() -> None:
        write(Patient(), SHORT, payloads)  # type: ignore[arg-type]
        os.close(writing)

    thread = threading.Thread(target=produce)
    thread.start()
    received.release()  # the header
    with open(reading, "rb") as source:
        reader, frames = VideoReader(source), []
        for _ in range(9):
            received.release()
            frames.append(reader.next_record().frame)
        received.release()
        assert reader.next_record().kind == "end"
    thread.join()
    assert frames == list(range(9))
    assert waited == [True] * 11


def test_a_pipe_can_be_sought_forwards() -> None:
    payloads = clip(23)
    data = file_of(SHORT, payloads)

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *_: Any) -> int:
            raise AssertionError("a pipe cannot be sought")

        tell = seek

    played = play(Pipe(data), 14)
    assert played.frames == {f: p for f, p in expected(payloads).items() if f >= 12}
    assert played.damages == []
    reader = VideoReader(Pipe(data))
    for _ in range(6):
        reader.next_record()
    with pytest.raises(ValueError, match="is a pipe, which cannot be read again from frame 0"):
        reader.seek(2)


def test_memory_does_not_grow_with_the_clip() -> None:
    window = video_reader.ByteWindow(io.BytesIO(bytes(10_000_000)))
    for _ in range(100_000):
        window.peek(100)
        window.advance(100)
        assert len(window._held) <= 2 * 65536 + 200
    assert window.peek(1) == b""


# ------------------------------------------------------------------ intra frames at scene cuts

CUT = replace(SHORT, intra_period=5, scene_cuts=True)


def clip_of(frames: int) -> Payloads:
    return [b"\x01\x02"] * frames


@given(cuts=st.sets(st.integers(0, 19)), period=st.none() | st.integers(1, 6), start=st.integers(0, 22))
def test_a_clip_with_cuts_is_read_from_anywhere(cuts: set[int], period: int | None, start: int) -> None:
    header = replace(CUT, intra_period=period)
    payloads: Payloads = [bytes([frame + 1] * 3) for frame in range(20)]
    data = file_of(header, payloads, cuts)
    played = play(io.BytesIO(data))
    assert (played.frames, played.damages) == (expected(payloads), [])
    intra = [0]
    for frame in range(1, 20):
        if frame in cuts or header.is_intra(frame, intra[-1]):
            intra.append(frame)
    sought = play(io.BytesIO(data), start)
    first = max(frame for frame in intra if frame <= start)
    assert sought.frames == {frame: payloads[frame] for frame in range(first, 20)}
    assert sought.damages == []
    cut_short = play(io.BytesIO(data[:-1]), start)  # there is no index: from the first frame on
    assert cut_short.frames == expected(payloads)


def test_damage_ends_at_the_next_cut() -> None:
    payloads: Payloads = [bytes([frame + 1] * 9) for frame in range(12)]
    data = bytearray(file_of(CUT, payloads, {3, 7}))
    data[data.index(b"\x05" * 9)] ^= 1
    played = play(io.BytesIO(bytes(data)))
    assert [(damage.first, damage.end) for damage in played.damages] == [(4, 7)]
    assert played.frames == {frame: payloads[frame] for frame in (0, 1, 2, 3, 7, 8, 9, 10, 11)}


def test_the_period_counts_from_the_last_cut() -> None:
    reader, kinds = VideoReader(io.BytesIO(file_of(CUT, clip_of(9), {3}))), []
    while (record := reader.next_record()).kind != "end":
        kinds.append(record.kind[0])
    assert "".join(kinds) == "iccicccci"


def test_without_the_flag_a_cut_is_damage() -> None:
    data = file_of(replace(CUT, scene_cuts=False), clip_of(5), {3})
    assert play(io.BytesIO(data)).damages


def test_a_pipe_with_cuts_is_sought_before_it_is_read() -> None:
    read, written = os.pipe()
    with os.fdopen(read, "rb") as source, os.fdopen(written, "wb") as sink:
        sink.write(file_of(CUT, clip_of(9), {3}))
        sink.close()
        reader = VideoReader(source, "a.glcv")
        reader.seek(4)
        assert reader.next_record().frame == 0
        with pytest.raises(ValueError, match=r"a\.glcv is a pipe, which cannot be read again from frame 0"):
            reader.seek(6)
