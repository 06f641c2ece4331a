"""The weights that were ever released, for whoever has a file of them but not the weights themselves."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Release:
    """Weights of one version: their checksum, see `Codec.weights_checksum`, and where to get them."""

    name: str
    version: int
    checksum: int
    source: str


# One line for each set of weights that lies in glc_train/pretrained, or did: no line is ever removed. Who replaces
# weights there keeps the old file beside them, as NAME@VERSION.safetensors: files that were written with it exist.
RELEASED = (
    Release("glc_image_small", 1, 0x1B14FFF4, "it came with glc_train 0.1.0, in its folder glc_train/pretrained"),
    Release("glc_video_small", 1, 0x69504AEE, "it came with glc_train 0.1.0, in its folder glc_train/pretrained"),
    Release("glc_video_small", 2, 0x77CB76D5, "it came with glc_train 0.1.0, in its folder glc_train/pretrained"),
)
