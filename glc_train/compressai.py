"""Our image codec as a model of CompressAI, which need not be installed; as a program, its `eval_model` with it.

python -m glc_train.compressai pretrained FOLDER -a glc -q 0,1,2,3
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from glc_train.codecs import ImageCodec
from glc_train.pixels import picture_to_tensor, tensor_to_picture
from glc_train.transform import FactorisedGaussian, categorical_bits, gaussian_bits
from glc_train.weights import load_codec

NAME = "glc"


class CompressAIModel(nn.Module):
    """An image codec at one quality, with the interface of CompressAI's models: pictures are (B, 3, H, W) in [0, 1].

    Args:
        codec: ours.
        quality: index, 0 (fewest bits) to codec.quality_levels − 1; may be changed later.

    Raises:
        ValueError: there is no such quality.
    """

    def __init__(self, codec: ImageCodec, quality: int) -> None:
        super().__init__()
        codec.quality_indices(quality, 1)
        self.codec, self.quality = codec, quality

    def forward(self, x: Tensor) -> dict[str, Any]:
        """Codes and decodes without bytes; in training mode rounding is straight through.

        Returns:
            `x_hat` (B, 3, H, W), not clamped, and `likelihoods`: of each symbol of "y" and of "z", where log2 of all
            of them sums up to minus the estimated bits.
        """
        out = self.codec(2 * x.float() - 1, self.quality, "ste" if self.training else "hard")
        transform = self.codec.transform
        z_quantiser = transform.z_quantiser
        bits = {
            "y": gaussian_bits(out.symbols, out.scales),
            "z": z_quantiser.bits(out.z)
            if isinstance(z_quantiser, FactorisedGaussian)
            else categorical_bits(transform.z_counts, out.z_indices),
        }
        return {"x_hat": (out.x_hat + 1) / 2, "likelihoods": {name: torch.exp2(-each) for name, each in bits.items()}}

    def compress(self, x: Tensor) -> dict[str, Any]:
        """Compresses pictures, rounded to 8 bits.

        Returns:
            `strings`: one list of B files, each as `.glc` has it; `shape`: (H, W).
        """
        files = [self.codec.compress(tensor_to_picture(2 * each[None] - 1), self.quality) for each in x.float()]
        return {"strings": [files], "shape": x.shape[-2:]}

    def decompress(self, strings: Sequence[Sequence[bytes]], shape: Sequence[int]) -> dict[str, Tensor]:
        """Decompresses what `compress` gave: `x_hat` (B, 3, H, W) in [0, 1], on the codec's device.

        Raises:
            FormatError: a string is no such file, or written with other weights.
            ValueError: it is of another shape.
        """
        pictures = [picture_to_tensor(self.codec.decompress(data)) for data in strings[0]]
        for picture in pictures:
            if tuple(picture.shape[-2:]) != tuple(shape):
                raise ValueError(f"a string is of a picture of {tuple(picture.shape[-2:])}, not of {tuple(shape)}")
        return {"x_hat": ((torch.cat(pictures) + 1) / 2).to(self.codec.device)}

    def update(self, *_: Any, **__: Any) -> bool:
        """Makes the tables of the entropy coder, as `compress` would; they always fit the present weights."""
        self.codec.prepare()
        return True

    def half(self) -> CompressAIModel:
        """Raises ValueError: files are written and read in exact arithmetic, which half precision is not."""
        raise ValueError("GLC does not compute in half precision: leave --half out.")


def register(codec: ImageCodec, name: str = NAME) -> None:
    """Make a codec known to an installed CompressAI: its zoo and programs take `name` for a pretrained model."""
    from compressai.zoo import image_models

    def model(quality: int, *_: Any, **__: Any) -> CompressAIModel:
        return CompressAIModel(codec, quality)

    image_models[name] = model


def main(arguments: Sequence[str]) -> None:
    """`compressai.utils.eval_model`, which knows `-a glc`.

    Args:
        arguments: its own, and `--weights FILE` and `--trusted MODULE.CLASS`, as `glc` has them.
    """
    parser = argparse.ArgumentParser(prog="python -m glc_train.compressai", add_help=False, allow_abbrev=False)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--trusted", action="append", default=[])
    ours, theirs = parser.parse_known_args(arguments)
    try:
        from compressai.utils.eval_model import __main__ as eval_model
    except ImportError as error:
        raise SystemExit(f"CompressAI cannot be imported ({error}): pip install 'glc_train[compressai]'.") from error
    register(load_codec(ours.weights, trusted=ours.trusted))
    eval_model.main(theirs)


if __name__ == "__main__":
    main(sys.argv[1:])
