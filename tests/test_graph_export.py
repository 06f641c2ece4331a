"""Exported encoders and decoders: ONNX in onnxruntime and `.pt2`, against the networks, at sizes of all kinds."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

from benchmarks.measures import model_config
from glc_train import cli, extras, graph_export
from glc_train.autoencoder import VQVAE
from glc_train.codecs import ImageCodec, pad_to_multiple
from glc_train.data import render_picture
from glc_train.graph_export import ExportError, export_network
from glc_train.media import read_picture
from glc_train.pixels import picture_to_tensor, tensor_to_picture
from glc_train.weights import build_codec, load_codec

# Of latents, in windows of 4: less than one, odd, exactly some, several pictures at once.
SIZES = [(1, 1, 1), (1, 3, 9), (2, 8, 4), (3, 5, 13)]
WINDOWS, WHOLE = (4, 2), (None, None)  # side of the windows, groups of the normalisations


def small_codec(window: int | None, groups: int | None) -> ImageCodec:
    """Codes indices of a factor 2 auto-encoder, with random biases and no layer that starts as zero."""
    torch.manual_seed(0)
    autoencoder = VQVAE([4, 4], 4, 16, 0, 1, True, groups, window, decoder_blocks=[0, 0])
    for parameter in autoencoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return ImageCodec(autoencoder, None).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def onnx_decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "decoder.onnx"
    export_network(small_codec(*WINDOWS), "decoder", path)
    return path


@pytest.fixture(scope="module")
def pt2_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pt2") / "encoder.pt2"
    export_network(small_codec(*WINDOWS), "encoder", path)
    return path


def run_onnx(path: Path, x: Tensor) -> Tensor:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])


def run_pt2(path: Path, x: Tensor) -> Tensor:
    out: Tensor = torch.export.load(path).module()(x)
    return out


def assert_same(codec: ImageCodec, part: str, run: Any, path: Path, sizes: list[tuple[int, int, int]]) -> None:
    """Runs a file at each size of the latent: at most a thousandth of the largest value may differ."""
    factor = codec.autoencoder.factor
    for batch, rows, columns in sizes:
        with torch.inference_mode():
            if part == "encoder":  # filled up by some rows and columns
                x = 2 * torch.rand(batch, 3, (rows - 1) * factor + 1, columns * factor - 1) - 1
                want = codec.encode_latent(pad_to_multiple(x, codec.multiple))
            else:
                x = torch.randn(batch, codec.latent_channels, rows, columns)
                want = codec.decode_latent(x)
            got = run(path, x)
        assert got.shape == want.shape
        assert float((got - want).abs().max()) <= graph_export.TOLERANCE * float(want.abs().max())


def test_an_onnx_decoder_computes_what_the_network_does(onnx_decoder: Path) -> None:
    assert_same(small_codec(*WINDOWS), "decoder", run_onnx, onnx_decoder, SIZES)


def test_a_pt2_encoder_computes_what_the_network_does(pt2_encoder: Path) -> None:
    assert_same(small_codec(*WINDOWS), "encoder", run_pt2, pt2_encoder, SIZES)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [WINDOWS, WHOLE])
@pytest.mark.parametrize("part", ["encoder", "decoder"])
@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_every_graph_computes_what_the_network_does(
    kind: tuple[int | None, int | None], part: graph_export.Part, suffix: str, tmp_path: Path
) -> None:
    codec, path = small_codec(*kind), tmp_path / f"graph{suffix}"
    made = export_network(codec, part, path)
    assert made.difference <= graph_export.TOLERANCE * made.largest
    assert_same(codec, part, run_onnx if suffix == ".onnx" else run_pt2, path, SIZES)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_what_the_codec_computes_in_does_not_matter(tmp_path: Path) -> None:
    codec = small_codec(None, None)
    codec.compute_dtype = torch.bfloat16
    assert export_network(codec, "encoder", tmp_path / "encoder.pt2").largest > 0


def test_an_onnx_file_says_what_it_is(onnx_decoder: Path) -> None:
    codec, model = small_codec(*WINDOWS), onnx.load(onnx_decoder)
    onnx.checker.check_model(model)
    facts = {each.key: each.value for each in model.metadata_props}
    assert facts == {
        "part": "decoder",
        "weights": "",
        "fingerprint": f"{codec.weights_checksum() & 0xFFFF:04x}",
        "input": "latent: float32 (batch, 4, rows, columns)",
        "output": "picture: float32 (batch, 3, height, width), RGB, [-1, 1] for the levels 0 to 255, not clamped",
        "factor": "2",
        "multiple": "2",
    }
    assert [each.version for each in model.opset_import if each.domain == ""] == [graph_export.OPSET]
    ends = {
        value.name: [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert ends == {"latent": ["batch", 4, "rows", "columns"], "picture": ["batch", 3, "2*rows", "2*columns"]}
    assert str(Path(graph_export.__file__).parent).encode() not in onnx_decoder.read_bytes()


def test_a_pt2_file_says_what_it_is(pt2_encoder: Path) -> None:
    extra = {graph_export.FACTS: ""}
    program = torch.export.load(pt2_encoder, extra_files=extra)
    facts = graph_export.Facts(**json.loads(extra[graph_export.FACTS]))
    assert (facts.part, facts.factor, facts.multiple) == ("encoder", 2, 2)
    assert all("stack_trace" not in node.meta for node in program.graph.nodes)
    assert str(Path(graph_export.__file__).parent).encode() not in pt2_encoder.read_bytes()


def test_a_graph_that_computes_something_else_is_not_written(
    pt2_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "encoder.pt2"
    path.write_bytes(b"an older one")
    program = torch.export.load(pt2_encoder)
    monkeypatch.setattr(graph_export, "traced", lambda *_: program)
    codec = small_codec(*WINDOWS)
    codec.autoencoder.encoder.register_forward_hook(lambda *given: given[-1] + 1)
    with pytest.raises(ExportError, match=r"encoder differs from the network by 1\b.*Nothing was written"):
        export_network(codec, "encoder", path)
    assert path.read_bytes() == b"an older one"
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_wrong_calls_are_one_sentence_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "decoder.onnx"
    kept.write_bytes(b"an older one")
    monkeypatch.setattr(graph_export, "traced", lambda *_: pytest.fail("work was begun"))
    for arguments, text in (
        (["decoder", str(tmp_path / "decoder.pb")], "name a file that ends in .onnx or .pt2"),
        (["decoder", str(kept)], "exists already"),
        (["decoder", str(tmp_path / "new.onnx"), "--weights", "glc_video_small"], "a video codec"),
        (["decoder", str(tmp_path / "new.onnx"), "--weights", "nothing"], "no weights file at nothing"),
    ):
        assert cli.main(["export", *arguments]) == 1
        error = capsys.readouterr().err
        assert text in error
        assert error.count("\n") == 1
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "onnxscript" else object())
    assert cli.main(["export", "decoder", str(tmp_path / "new.onnx")]) == 1
    assert capsys.readouterr().err == "glc: .onnx needs onnxscript: pip install 'glc_train[onnx]'\n"
    assert kept.read_bytes() == b"an older one"
    assert list(tmp_path.iterdir()) == [kept]
    with pytest.raises(ExportError, match="the parts are encoder and decoder"):
        export_network(small_codec(*WHOLE), "synthesis", tmp_path / "new.pt2")  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_tiny_model_in_windows(tmp_path: Path) -> None:
    codec = build_codec(model_config("tiny")).eval().requires_grad_(False)
    for parameter in codec.autoencoder.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    for part in ("encoder", "decoder"):
        export_network(codec, part, tmp_path / f"{part}.onnx")
        assert_same(codec, part, run_onnx, tmp_path / f"{part}.onnx", [(1, 3, 5), (2, 33, 70), (1, 64, 31)])


@pytest.mark.slow
def test_pictures_through_the_installed_weights_in_onnxruntime(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files of an exported encoder decode everywhere, and an exported decoder shows what files hold."""
    graphs = {part: tmp_path / f"{part}.onnx" for part in ("encoder", "decoder")}
    for part, path in graphs.items():
        assert cli.main(["export", part, str(path), "--json"]) == 0
        record = json.loads(capsys.readouterr().out)
        assert (record["file"], record["part"], record["weights"]) == (str(path), part, "glc_image_small@1")
        assert record["difference"] < 1e-3
        assert_same(load_codec(), part, run_onnx, path, [(1, 1, 1), (1, 9, 14), (2, 20, 6)])
    codec, picture = load_codec(), render_picture(200, 333, 3)
    height, width = picture.shape[:2]
    latent = run_onnx(graphs["encoder"], picture_to_tensor(picture))
    file, decoded = tmp_path / "photo.glc", tmp_path / "decoded.png"
    file.write_bytes(codec.compress_latent(latent, (height, width), 1))
    assert cli.main(["decompress", "--dtype", "float32", "-q", str(file), str(decoded)]) == 0
    header, latent = codec.decompress_latent(file.read_bytes())
    shown = tensor_to_picture(run_onnx(graphs["decoder"], latent)[..., : header.height, : header.width])
    assert np.abs(shown.astype(int) - read_picture(decoded).astype(int)).max() <= 1
    own = codec.compress(picture, 1)
    assert abs(len(own) - file.stat().st_size) <= 0.02 * len(own)  # a rounding may fall to the other side
