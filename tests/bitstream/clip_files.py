"""Little clips without networks: payloads written and read as an encoder and a decoder do, checks included."""

import io
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import BinaryIO

import numpy as np

from glc_train.bitstream import ContentCheck, Damage, VideoHeader, VideoReader, VideoWriter

HEADER = VideoHeader(
    width=416, height=240, fps=(30, 1), quality=21, fingerprint=0xBEEF, intra_period=96, reset_interval=32,
    pattern=(0, 1, 0, 2, 0, 2, 0, 2),
)  # fmt: skip
SHORT = replace(HEADER, width=100, height=80, intra_period=4)
REPEATED = None  # stands for a repeated frame in a list of payloads
Payloads = list[bytes | None]


def content_of(check: ContentCheck, payload: bytes | None) -> None:
    """What stands for decoding here: the bytes themselves are the content."""
    check.update(np.frombuffer(payload or b"\x07", dtype=np.uint8))


def write(
    out: BinaryIO, header: VideoHeader, payloads: Payloads, close: bool = True, cuts: Collection[int] = ()
) -> VideoWriter:
    """`cuts`: intra frames beside those that the header asks for."""
    writer, check, last = VideoWriter(out, header), ContentCheck(), 0
    for frame, payload in enumerate(payloads):
        before = check.digest()
        if header.is_intra(frame, last) or frame in cuts:
            assert payload is not None
            check, last = ContentCheck(), frame
            size = writer.intra(payload, before)
        else:
            size = writer.repeat(before) if payload is None else writer.conditional(payload, before)
            payload = payload if payload is None else payload or b"\0"
        assert size >= 2
        content_of(check, payload)
    if close:
        writer.close(check.digest())
    return writer


def file_of(header: VideoHeader, payloads: Payloads, cuts: Collection[int] = ()) -> bytes:
    out = io.BytesIO()
    writer = write(out, header, payloads, cuts=cuts)
    assert writer.size == len(out.getvalue())
    return out.getvalue()


@dataclass
class Played:
    """Frames that came out, by number, and what was said to be damaged."""

    frames: dict[int, bytes | None]
    damages: list[Damage]

    def reported(self, frame: int) -> bool:
        return any(d.first <= frame and (d.end is None or frame < d.end) for d in self.damages)


def play(source: BinaryIO, start: int | None = None) -> Played:
    """Reads as a decoder does, with checks."""
    reader = VideoReader(source)
    if start is not None:
        reader.seek(start)
    played, check, chain = Played({}, []), ContentCheck(), None
    while True:
        record = reader.next_record(None if chain is None else check.digest())
        if record.damage is not None:
            played.damages.append(record.damage)
        elif record.before is not None and chain is not None and record.before != check.digest():
            played.damages.append(Damage(chain, record.frame, "content"))
        if record.kind == "end":
            return played
        if record.kind == "intra":
            check, chain = ContentCheck(), record.frame
        payload = None if record.kind == "repeat" else record.payload
        content_of(check, payload)
        played.frames[record.frame] = payload


def clip(frames: int, seed: int = 0, header: VideoHeader = SHORT) -> Payloads:
    """Payloads of random lengths, every fifth frame repeated."""
    rng = np.random.default_rng(seed)
    payloads: Payloads = []
    for frame in range(frames):
        repeated = frame % 5 == 3 and not header.is_intra(frame)
        payloads.append(REPEATED if repeated else rng.bytes(int(rng.integers(2, 24))))
    return payloads


def expected(payloads: Payloads) -> dict[int, bytes | None]:
    return dict(enumerate(payloads))
