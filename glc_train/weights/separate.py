"""A video codec without its image codec, to be installed beside it: `python -m glc_train.weights.separate IN OUT`.

OUT has a quarter of the size: it names the image codec by its checksum, its kernels that decoders use have 8 bits, as
they have in exact arithmetic, and all else has 16. So it is another codec than that of IN, to be measured by itself.
"""

import json
from pathlib import Path

import torch

from glc_train.codecs import VideoCodec
from glc_train.weights import WeightsError, load_codec, load_video, read_config
from glc_train.weights.packing import packed, unpacked
from glc_train.weights.program import new_parser, run
from glc_train.weights.reading import write_package
from glc_train.weights.store import VIDEO_FORMAT


def separate(source: Path, target: Path, image: str | None = None, version: int = 1) -> None:
    """Writes the video codec of `source`, without its image codec, to `target`, whose name the weights get.

    Args:
        source: an export or a checkpoint of a video codec.
        target: a `.safetensors` file.
        image: the image codec that it was trained over, a file or a name in the store; None: the installed one.
        version: of the weights of that name, from 1 up.

    Raises:
        WeightsError: a file cannot be read, or the video codec was trained over another image codec.
    """
    codec, base = load_video(source), load_codec(image)
    config = read_config(source)
    assert config is not None  # else it had not loaded
    separated = VideoCodec(base, codec.transform, codec.own_autoencoder, codec.gop)
    trained_over, own = codec.image.state_dict(), separated.image.state_dict()
    other = [
        name
        for name, tensor in own.items()
        if name not in trained_over or not torch.equal(trained_over[name].half(), tensor.half())
    ]
    if other or trained_over.keys() - own.keys():
        raise WeightsError(
            f"{source} was trained over another image codec than {image or 'the installed one'}: name that with --image"
        )
    rest = {name: tensor for name, tensor in separated.state_dict().items() if not name.startswith("image.")}
    state = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in packed(rest, "transform.decoder.").items()
    }
    state = {name: tensor.contiguous() for name, tensor in state.items()}
    separated.load_state_dict(unpacked(state, str(source)), strict=False)
    facts = {
        "format": VIDEO_FORMAT,
        "config": json.dumps(config),
        "checksum": f"{separated.weights_checksum():08x}",
        "image": f"{base.weights_checksum():08x}",
        "name": target.stem,
        "version": str(version),
    }
    write_package(state, facts, target)


def main() -> int:
    """Returns the exit code."""
    parser = new_parser(__doc__)
    parser.add_argument("--image", metavar="WEIGHTS", help="its image codec, a file or a name; default: the installed")
    parser.add_argument("--version", type=int, default=1, metavar="N", help="of the weights of this name; default: 1")
    return run(parser, separate)


if __name__ == "__main__":
    raise SystemExit(main())
