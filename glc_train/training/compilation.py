"""torch.compile for a training step, block by block."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from glc_train.training.sharding import blocks
from glc_train.training.stage import Stage


def compile_blocks(stage: Stage, options: Mapping[str, Any] | None = None) -> list[nn.Module]:
    """Compiles the blocks of encoder, decoder and transforms, LPIPS and the discriminator, in place.

    A step as a whole does not compile: it has two backward passes, exact arithmetic and counters. Blocks of one shape
    share their code. The decoder's last layer stays as it is: the adaptive weight differentiates as far as there,
    twice. An encoder or decoder of another author that has no `blocks` is compiled whole; such a decoder is not where
    an adversary differentiates in it.

    Args:
        stage: prepared; its averaged copy stays as it is.
        options: of `torch.compile`.

    Returns:
        What was compiled.
    """
    torch._functorch.config.donated_buffer = False  # LPIPS and decoder are differentiated with their graphs retained
    torch._dynamo.config.recompile_limit = 64  # blocks of many widths share their code
    encoder, decoder = stage.codec.autoencoder.encoder, stage.codec.autoencoder.decoder
    modules: list[nn.Module] = list(getattr(encoder, "blocks", (encoder,)))
    if hasattr(decoder, "blocks"):
        modules += list(decoder.blocks)[:-1]
    elif stage.adversary is None:
        modules.append(decoder)
    modules += blocks(stage.codec.transform)
    modules += stage.frozen_networks
    modules += [] if stage.adversary is None else [stage.adversary.discriminator]
    for module in modules:
        # All steps have one shape; code for any shape is slower, and not all of it can be made.
        module.compile(**({"dynamic": False} | dict(options or {})))
    return modules
