"""Codes a clip frame by frame with an earlier state of the package, for `benchmarks.clip --before FOLDER`.

It runs as a process of its own with FOLDER first on its path. Every line of its standard input is the name of an
operation, which it does once; it answers with a line of JSON: seconds of the clock and of the processor.
"""

import io
import json
import sys
import time
from typing import Any

import numpy as np


def main() -> None:
    """Arguments: a file of frames (T, H, W, 3), a JSON file of the codec's configuration, quality, threads."""
    import torch

    from glc_train.bitstream import ClipFormat
    from glc_train.codecs import VideoDecoder, VideoEncoder
    from glc_train.weights import build_video

    clip, quality = np.load(sys.argv[1]), int(sys.argv[3])
    with open(sys.argv[2], encoding="utf-8") as file:
        config = json.load(file)
    torch.set_num_threads(int(sys.argv[4]))
    torch.manual_seed(0)
    codec = build_video(config).eval().requires_grad_(False)
    size = ClipFormat(width=clip.shape[2], height=clip.shape[1])

    def encode(frames: Any) -> bytes:
        out = io.BytesIO()
        with VideoEncoder(codec, quality, size, out) as encoder:
            for frame in frames:
                encoder.write(frame)
        return out.getvalue()

    def decode(data: bytes) -> None:
        for _ in VideoDecoder(codec, io.BytesIO(data)):
            pass

    data = encode(clip)
    for line in sys.stdin:
        start, used = time.perf_counter(), time.process_time()
        if line.strip() == "encode":
            encode(clip)
        else:
            decode(data)
        print(json.dumps([time.perf_counter() - start, time.process_time() - used]), flush=True)


if __name__ == "__main__":
    main()
