"""Encoder and decoder of a picture codec as graphs that run without this package: ONNX, or `.pt2` of PyTorch.

Graphs take every size and batch. They compute what the trained networks do in float32, up to rounding. What is between
latent and bytes is no part of them: the symbols of a file need arithmetic that is the same everywhere, see
docs/exact-arithmetic.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from glc_train import extras
from glc_train.codecs import ImageCodec, pad_to_multiple
from glc_train.files import replacing
from glc_train.layers import undecided
from glc_train.weights.store import name_of

if TYPE_CHECKING:
    from onnxscript import ir

Part = Literal["encoder", "decoder"]
OPSET = 20
"""Of ONNX; onnxruntime reads it from release 1.17 on."""
FORMATS = (".onnx", ".pt2")
FACTS = "glc_train.json"
"""The file inside a `.pt2` that holds `Facts`."""
TOLERANCE = 1e-3  # of the largest value


class ExportError(ValueError):
    """A network could not be exported."""


@dataclass(frozen=True)
class Facts:
    """What a graph is; ONNX files have it as metadata, each field as text.

    Attributes:
        part: "encoder" or "decoder".
        weights: NAME@VERSION, or "" where the weights have no name.
        fingerprint: of the weights, as `glc info` shows it for files.
        input, output: name, shape, range.
        factor: pixels of the picture for one place of the latent, in both directions.
        multiple: the encoder fills sides up to multiples of this, at the right and the bottom, with the last pixel; a
            decoded picture is to be cropped to the size of the original.
    """

    part: Part
    weights: str
    fingerprint: str
    input: str
    output: str
    factor: int
    multiple: int


@dataclass(frozen=True)
class Exported:
    """A file that was written.

    Attributes:
        facts: what stands in it.
        difference: the largest between the graph and the network, in a trial run.
        largest: absolute value that the network gave there.
    """

    facts: Facts
    difference: float
    largest: float


class _Encoder(nn.Module):
    """Picture (B, 3, H, W) of any size → latent."""

    def __init__(self, codec: ImageCodec) -> None:
        super().__init__()
        self.encoder, self.window, self.multiple = codec.autoencoder.encoder, codec.autoencoder.window, codec.multiple

    def forward(self, picture: Tensor) -> Tensor:
        for axis in (-2, -1):  # `pad_to_multiple` for sizes that are not known yet
            side = picture.shape[axis]
            whole = undecided((side + self.multiple - 1) // self.multiple) * self.multiple
            picture = picture.index_select(axis, torch.arange(whole, device=picture.device).clamp(max=side - 1))
        latent: Tensor = self.encoder(picture, self.window)
        return latent


class _Decoder(nn.Module):
    """Latent → picture, not cropped."""

    def __init__(self, codec: ImageCodec) -> None:
        super().__init__()
        self.decoder, self.window = codec.autoencoder.decoder, codec.autoencoder.window

    def forward(self, latent: Tensor) -> Tensor:
        picture: Tensor = self.decoder(latent, self.window)
        return picture


def check_name(path: Path) -> None:
    """Raises ExportError where the name says no format, and MissingExtra where its packages are not installed."""
    if path.suffix not in FORMATS:
        raise ExportError(f"{path}: name a file that ends in {' or '.join(FORMATS)}.")
    if path.suffix == ".onnx":
        extras.require("onnx", ".onnx")


def export_network(codec: ImageCodec, part: Part, path: Path) -> Exported:
    """Writes encoder or decoder as a graph, after it has been compared with the network.

    Args:
        codec: on the processor.
        part: "encoder": picture (B, 3, H, W) in [-1, 1] → latent (B, N, h, w); "decoder": the way back.
        path: the name ends in `.onnx` or `.pt2`; it appears whole or not at all.

    Raises:
        ExportError: another name, no such part, or the graph computes something else; then nothing is written.
        MissingExtra: `.onnx`, and ONNX's packages are not installed.
        OSError: it cannot be written.
    """
    check_name(path)
    if part not in get_args(Part):
        raise ExportError(f"{part}: the parts are {' and '.join(get_args(Part))}.")
    facts, program = _facts(codec, part), traced(codec, part)
    with replacing(path) as temporary:
        if path.suffix == ".onnx":
            _write_onnx(program, facts, temporary)
            run = _onnx_runner(temporary)
        else:
            torch.export.save(program, temporary, extra_files={FACTS: json.dumps(asdict(facts))})
            run = program.module()
        difference, largest = _compared(codec, part, run)
        if not difference <= TOLERANCE * largest:
            raise ExportError(
                f"{path}: the exported {part} differs from the network by {difference:.2g}, where the largest value is "
                f"{largest:.2g}: other versions of torch and onnxscript may do better. Nothing was written."
            )
    return Exported(facts, difference, largest)


def _facts(codec: ImageCodec, part: Part) -> Facts:
    fingerprint = codec.weights_checksum() & 0xFFFF
    picture = "picture: float32 (batch, 3, height, width), RGB, [-1, 1] for the levels 0 to 255"
    latent = f"latent: float32 (batch, {codec.latent_channels}, rows, columns)"
    encodes = part == "encoder"
    return Facts(
        part=part,
        weights=name_of(fingerprint, "image") or "",
        fingerprint=f"{fingerprint:04x}",
        input=picture if encodes else latent,
        output=latent if encodes else f"{picture}, not clamped",
        factor=codec.autoencoder.factor,
        multiple=codec.multiple,
    )


def traced(codec: ImageCodec, part: Part) -> ExportedProgram:
    """The graph of encoder or decoder, of every batch, height and width from 1 up."""
    network = _Encoder(codec) if part == "encoder" else _Decoder(codec)
    example = torch.zeros(2, 3, 80, 112) if part == "encoder" else torch.zeros(2, codec.latent_channels, 5, 7)
    sizes = {0: Dim("batch", min=1), 2: Dim("height", min=1), 3: Dim("width", min=1)}
    # Where gradients may be recorded, networks compute in the plain way: other ways depend on size and processor.
    with torch.enable_grad():
        program = torch.export.export(network.eval(), (example,), dynamic_shapes=(sizes,), strict=False)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it names the files of this machine
    return program


def _write_onnx(program: ExportedProgram, facts: Facts, path: Path) -> None:
    name = "latent" if facts.part == "encoder" else "picture"
    made = torch.onnx.export(program, output_names=[name], opset_version=OPSET, dynamo=True, verbose=False)
    assert made is not None
    model = made.model
    sides = ("height", "width") if facts.part == "encoder" else ("rows", "columns")
    _name_sizes(model.graph.inputs[0], model.graph.outputs[0], ("batch", *sides))
    for field, value in asdict(facts).items():
        model.metadata_props[field] = str(value)
    made.save(path, external_data=False)


def _name_sizes(x: ir.Value, out: ir.Value, names: tuple[str, str, str]) -> None:
    """Gives the sizes of (batch, channels, height, width) that may change names for people."""
    from onnxscript import ir

    assert x.shape is not None
    symbols = [str(x.shape[axis]) for axis in (0, 2, 3)]
    for value in (x, out):
        assert value.shape is not None
        shape: list[int | str] = []
        for size in value.shape:
            text = str(size)
            for symbol, name in zip(symbols, names, strict=True):
                text = re.sub(rf"\b{symbol}\b", name, text)
            shape.append(size if isinstance(size, int) else text)
        value.shape = ir.Shape(shape)


def _onnx_runner(path: Path) -> Callable[[Tensor], Tensor]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: torch.from_numpy(session.run(None, {name: x.numpy()})[0])


def _compared(codec: ImageCodec, part: Part, run: Callable[[Tensor], Tensor]) -> tuple[float, float]:
    """The largest difference, and the largest value, at a size that was not the example's: more than one window."""
    rows, columns = (codec.autoencoder.window or 3) + 1, 2
    generator = torch.Generator().manual_seed(0)
    autoencoder, window = codec.autoencoder, codec.autoencoder.window
    with torch.inference_mode(), torch.autocast("cpu", enabled=False):  # whatever the codec computes in
        if part == "encoder":
            factor = autoencoder.factor
            x = 2 * torch.rand(1, 3, rows * factor - 1, columns * factor - 1, generator=generator) - 1
            want = autoencoder.encoder(pad_to_multiple(x, codec.multiple), window)
        else:
            x = torch.randn(1, codec.latent_channels, rows, columns, generator=generator)
            want = autoencoder.decoder(x, window)
        got = run(x)
    difference = float((got - want).abs().max()) if got.shape == want.shape else float("inf")
    return difference, float(want.abs().max())
