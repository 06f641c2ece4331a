"""The exponents of the exact arithmetic come from the weights alone."""

from typing import Any

import numpy as np
import pytest
import torch

from glc_train.codecs import ImageCodec
from glc_train.codecs.calibration import Draws
from glc_train.codecs.exact_stream import ExactLatentCoder
from glc_train.layers.exact import Scaled
from tests.codecs.conftest import scaled_codec
from tests.codecs.exact_bits import video_codec


def exponents(decoder: torch.nn.Module) -> list[int]:
    found = [layer.exponent for layer in decoder.modules() if isinstance(layer, Scaled)]
    assert None not in found
    return [exponent for exponent in found if exponent is not None]


def of_pictures(codec: ImageCodec) -> list[int]:
    coder = codec.picture_coder()
    assert isinstance(coder, ExactLatentCoder)
    return exponents(coder.decoder)


def test_draws_are_those_of_the_documented_generator() -> None:
    # The first words of MT19937 with the seed 0 are 0x8C7F0AAC and 0x97C4AA2F; their lowest bytes come first.
    assert Draws().integers(2).tolist() == [0xAC0A7F, 0x8C2FAA]
    normal = Draws().normal(100_000)
    assert normal.dtype == np.float32
    assert abs(float(normal.mean())) < 0.02
    assert float(normal.std()) == pytest.approx(1, abs=0.02)
    first = np.random.RandomState(0).bytes(12)
    assert float(normal[0]) == (sum(first) - 1530) / 256


def test_exponents_depend_on_the_weights_alone(tiny_config: dict[str, Any]) -> None:
    first = of_pictures(scaled_codec(tiny_config, 1.0))
    torch.manual_seed(5)
    np.random.seed(5)
    second = of_pictures(scaled_codec(tiny_config, 3.0))  # another analysis, which a decoder has not
    assert first == second
    assert len(set(first)) > 2
    assert np.random.bytes(8) == np.random.RandomState(5).bytes(8)  # the caller's generator is left alone
    assert exponents(video_codec().frame_coder().decoder)


def test_layers_of_larger_weights_get_coarser_inputs(tiny_config: dict[str, Any]) -> None:
    codec = scaled_codec(tiny_config, 1.0)
    before = of_pictures(codec)
    codec.transform.decoder.get_parameter("hyper_synthesis.upsample.0.main.0.weight").mul_(64)
    after = of_pictures(codec)
    assert after[0] == before[0]  # what goes into it
    assert after[1] == before[1] - 6  # what comes out of it
