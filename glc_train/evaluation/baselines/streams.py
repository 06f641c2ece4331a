"""Video codecs as bare streams, so that no container's bytes count; a picture is a clip of one frame."""

from __future__ import annotations

import io
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np

from glc_train.evaluation.baselines.search import Baseline, Source
from glc_train.evaluation.codecs import Encoded, EncodedFrame
from glc_train.evaluation.results import EvaluationError
from glc_train.media.clip_colour import Colours

_NEVER = 100_000  # frames: a clip has fewer


class StreamCodec(Baseline):
    """An encoder of FFmpeg's libraries. A bare stream in BT.709, limited range, 4:2:0 (4:4:4 where a side is odd).

    Args:
        encoder: as FFmpeg calls it.
        format: of the bare stream, as FFmpeg calls it; also the suffix of the files.
        settings: values of the option `setting`, from the fewest bits to the most.
        options: of the encoder, the same for all.
        setting: option that is searched.
        intra_period: largest distance of key frames; None: only the first. A configuration that says null gets that
            of the codec under test.

    Raises:
        EvaluationError: an FFmpeg without that encoder.
    """

    def __init__(
        self,
        encoder: str,
        format: str,
        settings: Sequence[Any],
        options: Mapping[str, Any] | None = None,
        setting: str = "crf",
        intra_period: int | None = None,
    ) -> None:
        if encoder not in av.codecs_available:
            raise EvaluationError(f"This PyAV was built without {encoder}: leave this codec out.")
        self.encoder, self.format, self.suffix, self.settings = encoder, format, f".{format}", settings
        period = {"g": intra_period or _NEVER, "keyint_min": 1}
        self.options = {name: str(value) for name, value in {**period, **(options or {})}.items()}
        self.setting = setting

    def encode_at(self, source: Source, setting: Any) -> tuple[bytes, Encoded]:
        """See `Baseline`."""
        info = source.info()
        pixel_format = "yuv444p" if info.width % 2 or info.height % 2 else "yuv420p"
        colours, out, written, seconds = Colours("bt709", full_range=False), io.BytesIO(), [], 0.0
        with av.open(out, "w", format=self.format) as container:
            options = self.options | {self.setting: str(setting)}
            stream: Any = container.add_stream(self.encoder, rate=Fraction(info.fps), options=options)
            stream.width, stream.height, stream.pix_fmt = info.width, info.height, pixel_format
            pictures = (colours.to_frame(picture, pixel_format) for picture in source.pictures())
            for number, frame in enumerate(itertools.chain(pictures, [None])):  # None: what the encoder holds back
                if frame is not None:
                    frame.pts, frame.time_base = number, 1 / Fraction(info.fps)
                start = time.perf_counter()
                packets = stream.encode(frame)
                seconds += time.perf_counter() - start
                written += packets
                container.mux(packets)
        order = sorted(written, key=lambda packet: packet.pts)  # coded out of order
        frames = tuple(EncodedFrame("intra" if packet.is_keyframe else "inter", packet.size) for packet in order)
        return out.getvalue(), Encoded(frames, seconds)

    def decode_bytes(self, data: bytes) -> Iterator[np.ndarray]:
        """See `Baseline`."""
        with av.open(io.BytesIO(data), "r", format=self.format) as container:
            colours = Colours("bt709", full_range=False)
            for frame in container.decode(video=0):
                yield colours.to_picture(frame)
