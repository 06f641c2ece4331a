"""When the frames of a video file are shown, read from its packets without decoding them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt

_SLOWEST = Fraction(1, 1001)  # frames a second, as fractions go here


@dataclass(frozen=True)
class Timeline:
    """The coded frames of a file in the order of display.

    Attributes:
        times: int64, in units of the stream, rising; empty if the file has no time of its own for each frame.
        keys: bool, in the same order: which of them decoding can start from; without times all False.
        count: how many there are.
        end: when the last of them ends, in units of the stream.
    """

    times: npt.NDArray[np.int64]
    keys: npt.NDArray[np.bool_]
    count: int
    end: int

    def rate(self, nominal: Fraction | None, unit: Fraction) -> Fraction | None:
        """Frames per second: `nominal`, unless the frames then lasted another time than they do; `unit` in seconds."""
        if len(self.times) < 2:
            return nominal
        span = float(unit * int(self.times[-1] - self.times[0]))
        if nominal and abs(span - (self.count - 1) / nominal) <= 0.5 / nominal + unit:
            return nominal
        whole = unit * (self.end - int(self.times[0]))
        return max((self.count / whole).limit_denominator(1001), _SLOWEST)


def shows_a_frame(packet: av.Packet[Any]) -> bool:
    """Whether a frame of its own is to come of the packet: not of empty, discarded and, in VP8, hidden ones."""
    if not packet.size or packet.is_discard:
        return False
    # RFC 6386, section 9.1: bit 4 of the frame tag is show_frame
    return packet.stream.codec_context.name != "vp8" or bool(memoryview(packet)[0] & 0x10)


def timeline_of(packets: Iterable[av.Packet[Any]]) -> Timeline:
    """Read all packets of a video stream."""
    times: list[int] = []
    keys: list[bool] = []
    end = count = 0
    for packet in packets:
        count += 1
        if packet.pts is not None:
            times.append(packet.pts)
            keys.append(packet.is_keyframe)
            end = max(end, packet.pts + (packet.duration or 0))
    if not count or len(set(times)) < count:
        return Timeline(np.empty(0, np.int64), np.empty(0, np.bool_), count, end)
    order = np.argsort(times)
    shown = np.array(times, dtype=np.int64)[order]
    if end == shown[-1] and count > 1:  # no durations: the last frame lasts as long as the others do
        end += int((shown[-1] - shown[0]) // (count - 1))
    return Timeline(shown, np.array(keys)[order], count, end)
