"""More residual blocks for the decoder of a trained codec: `python -m glc_train.weights.deepen IN OUT 3 4 8`.

The new blocks start as their skips, so the deeper codec paints what the one before did until it is trained on.
"""

import copy
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from glc_train.autoencoder.networks import Decoder, ResBlock
from glc_train.weights import WeightsError, build_codec, load_codec, read_config, save_codec
from glc_train.weights.program import new_parser, run


def deepen(source: Path, target: Path, blocks: Sequence[int]) -> None:
    """Writes the image codec of `source` with a deeper decoder to `target`, in half precision.

    Args:
        blocks: residual blocks of each level of the decoder, finest first; at least as many as there are.

    Raises:
        WeightsError: `source` cannot be read, `blocks` do not fit, or the decoder has attention, between whose layers a
            block does not start as its skip alone.
    """
    config = copy.deepcopy(read_config(source))
    if config is None or "autoencoder" not in config:
        raise WeightsError(f"{source} holds no image codec of glc_train: name an export or a checkpoint of one")
    if config["autoencoder"].get("attention", True):
        raise WeightsError(f"{source}: a decoder with attention cannot be deepened")
    config["autoencoder"]["decoder_blocks"] = list(blocks)
    before, after = load_codec(source), build_codec(config)
    kept = {name: value for name, value in before.state_dict().items() if not name.startswith("autoencoder.decoder.")}
    _grow(before.autoencoder.decoder, after.autoencoder.decoder, source)
    after.load_state_dict(kept, strict=False)
    save_codec(after, config, target, half=True)


def _grow(before: Decoder, after: Decoder, source: Path) -> None:
    """Puts the trained layers into the deeper decoder, those of each level first."""
    rest = list(before.blocks)
    for layer in after.blocks:
        if rest and _alike(rest[0], layer):
            layer.load_state_dict(rest.pop(0).state_dict())
        elif not isinstance(layer, ResBlock):
            break
    else:
        after.post_quant_conv.load_state_dict(before.post_quant_conv.state_dict())
        if not rest:
            return
    raise WeightsError(f"{source}: the decoder has more residual blocks at some level than it would get")


def _alike(one: nn.Module, other: nn.Module) -> bool:
    shapes = [[(name, value.shape) for name, value in each.state_dict().items()] for each in (one, other)]
    return type(one) is type(other) and shapes[0] == shapes[1]


def main() -> int:
    """Returns the exit code."""
    parser = new_parser(__doc__)
    parser.add_argument("blocks", type=int, nargs="+", help="residual blocks of each level, finest first")
    return run(parser, deepen)


if __name__ == "__main__":
    raise SystemExit(main())
