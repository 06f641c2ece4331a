"""What of a video is lost or damaged, by what the file, the decoder and the times of the frames say."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import av

from glc_train.media.timeline import shows_a_frame


class Damage:
    """Counts coded frames that do not come out of the decoder, and frames that come out damaged.

    A coded frame is lost when one that is shown later has come out before it. What is shown before the first key frame
    is not expected to come out: its references lie before the beginning.
    """

    def __init__(self) -> None:
        """Nothing is expected yet."""
        self.lost = 0
        self.faulty = 0
        self._shown = 0
        self._first: int | None = None  # time of the first key frame
        self._expected: set[int] = set()
        self._suspect: set[int] = set()  # whose data is not whole

    def sent(self, packet: av.Packet[Any]) -> None:
        """Expect the frame of a packet that goes to the decoder."""
        if packet.pts is None or not shows_a_frame(packet):
            return
        if self._first is None and packet.is_keyframe:
            self._first = packet.pts
        if self._first is not None and packet.pts >= self._first:
            self._expected.add(packet.pts)
            if packet.is_corrupt:
                self._suspect.add(packet.pts)

    def shown(self, frame: av.VideoFrame) -> None:
        """Count a frame that came out, and those before it that did not."""
        self._shown += 1
        if frame.pts is not None:
            self._miss([time for time in self._expected if time < frame.pts])
            self._expected.discard(frame.pts)
        self.faulty += frame.is_corrupt or frame.pts in self._suspect

    def ended(self) -> None:
        """Count what has not come out at the end of the file."""
        self._miss(list(self._expected))

    def __str__(self) -> str:
        """What was found, for a sentence; empty if that is nothing."""
        found = [
            f"{count} {what}"
            for count, what in ((self.lost, "could not be decoded"), (self.faulty, "came out damaged"))
            if count
        ]
        return f"of {self._shown + self.lost} frames {' and '.join(found)}" if found else ""

    def _miss(self, times: Collection[int]) -> None:
        self.lost += len(times)
        self._expected.difference_update(times)
