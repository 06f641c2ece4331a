"""The command `glc`: a few runs as real processes, the rest in this one."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.measures import model_config
from glc_train import backbones, cli, load_codec, precision, save_codec
from glc_train.bitstream import unpack_image
from glc_train.codecs import ImageCodec
from glc_train.data import render_picture
from glc_train.media import read_picture, write_picture
from glc_train.weights import build_codec, store

SIDE = 96


def save_tiny(path: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    config = model_config()
    codec = build_codec(config)
    with torch.no_grad():  # gains far apart, so that qualities differ in size without training
        codec.transform.analysis.gain.mul_(20)
    save_codec(codec, config, path)
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("weights") / "weights.safetensors", 1)


@pytest.fixture(scope="module")
def codec(weights: Path) -> ImageCodec:
    return load_codec(weights, dtype="auto")  # as `glc` does


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    write_picture(path, render_picture(SIDE, SIDE - 31, 3))
    return path


def files_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def glc(*arguments: object) -> int:
    return cli.main([str(argument) for argument in arguments])


def test_as_a_process_a_picture_survives_as_the_codec_decodes_it(
    weights: Path, codec: ImageCodec, photo: Path, tmp_path: Path
) -> None:
    coded, decoded = tmp_path / "new" / "folder" / "photo.glc", tmp_path / "other" / "photo.png"
    run = [sys.executable, "-m", "glc_train"]
    options = ["--weights", str(weights), "--device", "cpu"]
    compress = subprocess.run([*run, "compress", photo, coded, *options], capture_output=True, text=True, check=False)
    assert compress.returncode == 0, compress.stderr
    choice = precision.choose("cpu")
    assert compress.stderr == f"glc: computing in {precision.name_of(choice.dtype)}: {choice.reason}\n"
    size = coded.stat().st_size
    assert f"65x96  {size} bytes  {8 * size / (65 * 96):.4f} bpp  quality 2" in compress.stdout
    assert compress.stdout.count("\n") == 1
    done = subprocess.run([*run, "decompress", coded, decoded, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(read_picture(decoded), codec.decompress(coded.read_bytes()))
    assert files_of(coded.parent) == {"photo.glc"}
    assert files_of(decoded.parent) == {"photo.png"}


def test_as_a_process_bad_input_is_one_sentence(tmp_path: Path) -> None:
    bad = tmp_path / "text.glc"
    bad.write_text("hello")
    command = [sys.executable, "-m", "glc_train", "info", str(bad)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stdout == ""
    assert run.stderr == f"glc: {bad} is not a .glc file: its first byte is 0x68.\n"


def test_a_folder_is_done_in_spite_of_a_broken_file(
    weights: Path, codec: ImageCodec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, coded, decoded = tmp_path / "in", tmp_path / "coded", tmp_path / "decoded"
    (source / "deep").mkdir(parents=True)
    for name in ("a.png", "a.jpg", "deep/b.webp"):
        write_picture(source / name, render_picture(SIDE, SIDE, 1))
    (source / "broken.png").write_bytes((source / "a.png").read_bytes()[:200])
    (source / "notes.txt").write_text("no picture")
    assert glc("compress", source, coded, "--weights", weights, "--quality", 0) == 1
    shown = capsys.readouterr()
    assert files_of(coded) == {"a.png.glc", "a.jpg.glc", "deep/b.glc"}
    assert f"{source / 'broken.png'}: not a readable picture" in shown.err
    assert "1 of 4 files failed" in shown.err
    assert "3 of 4 files done, mean" in shown.out
    (coded / "empty.glc").write_bytes(b"")
    assert glc("decompress", coded, decoded, "--weights", weights) == 1
    assert f"{coded / 'empty.glc'} is empty" in capsys.readouterr().err
    assert files_of(decoded) == {"a.png.png", "a.jpg.png", "deep/b.png"}
    expected = codec.decompress(codec.compress(read_picture(source / "deep/b.webp"), 0))
    np.testing.assert_array_equal(read_picture(decoded / "deep/b.png"), expected)


def test_what_a_folder_job_leaves_out_is_counted_and_named_at_the_end(
    weights: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, coded, back = tmp_path / "in", tmp_path / "coded", tmp_path / "back"
    (source / ".thumbs").mkdir(parents=True)
    (tmp_path / "album").mkdir()
    shutil.copy(photo, tmp_path / "album" / "a.png")
    (source / "album").symlink_to(tmp_path / "album")
    (source / "loop").symlink_to(source)
    for name in (".thumbs/a.png", ".b.png", "c.heic"):
        shutil.copy(photo, source / name)
    assert glc("compress", source, coded, "--weights", weights) == 0
    shown = capsys.readouterr()
    assert files_of(coded) == {"album/a.glc"}
    assert "1 of 1 files done" in shown.out
    left_out = "left out 2 hidden (.b.png, .thumbs), 1 of another kind (c.heic), 1 found before under another name"
    assert shown.err == f"glc: {source}: {left_out} (loop).\n"
    (coded / "gone.glc").symlink_to("nowhere")
    assert glc("decompress", coded, back, "--weights", weights) == 1
    assert capsys.readouterr().err == f"glc: {coded}: left out 1 unreadable (gone.glc).\n"
    assert files_of(back) == {"album/a.png"}


def test_a_folder_without_failures_ends_with_0(weights: Path, photo: Path, tmp_path: Path) -> None:
    assert glc("compress", photo.parent, tmp_path / "out", "--weights", weights) == 0
    assert glc("decompress", tmp_path / "out", tmp_path / "back", "--weights", weights) == 0
    assert files_of(tmp_path / "back") == {"photo.png"}


def test_the_target_is_met_with_the_largest_file(
    weights: Path, codec: ImageCodec, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = read_picture(photo)
    sizes = [len(codec.compress(picture, quality)) for quality in range(codec.quality_levels)]
    assert len(set(sizes)) == len(sizes), f"qualities of the test's codec must differ: {sizes}"
    pixels, out = picture.shape[0] * picture.shape[1], tmp_path / "x.glc"
    options = ("--weights", weights, "--overwrite")
    for target in sizes:
        # exactly on a size: that file still fits; a bit less and it does not
        assert glc("compress", photo, out, *options, "--target-bpp", 8 * target / pixels) == 0
        assert out.stat().st_size == target
        assert unpack_image(out.read_bytes())[0].quality == sizes.index(target)
    capsys.readouterr()
    between = 8 * (sorted(sizes)[2] - 1) / pixels
    assert glc("compress", photo, out, *options, "--target-bpp", between) == 0
    assert out.stat().st_size == sorted(sizes)[1]
    assert capsys.readouterr().err == ""
    assert glc("compress", photo, out, *options, "--target-bpp", 0.001) == 0
    assert out.stat().st_size == min(sizes)
    shown = capsys.readouterr()
    assert f"even the smallest file has {8 * min(sizes) / pixels:.4f} bpp, above the target" in shown.err
    assert "over the target of 0.001 bpp" in shown.out


def test_a_picture_above_the_limit_is_refused_until_it_is_raised(
    weights: Path, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # glc sets it
    coded, pixels = tmp_path / "photo.glc", SIDE * (SIDE - 31)
    assert glc("compress", photo, coded, "--weights", weights) == 0
    command = ("decompress", coded, tmp_path / "back.png", "--weights", weights, "--max-pixels")
    capsys.readouterr()
    assert glc(*command, pixels - 1) == 1
    assert f"{coded} has 65x96 pixels, above the limit of {pixels - 1:,}: if" in capsys.readouterr().err
    assert glc(*command, pixels) == 0
    for limit, code in ((pixels - 1, 1), (pixels, 0)):
        assert glc("compress", photo, tmp_path / "again.glc", "--weights", weights, "--max-pixels", limit) == code
    for wrong in ("0", "-5", "many"):
        with pytest.raises(SystemExit, match="2"):
            glc(*command, wrong)


def test_an_interruption_is_quiet_and_leaves_nothing(
    weights: Path, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    assert glc("compress", photo, tmp_path / "out" / "x.glc", "--weights", weights) == 130
    assert capsys.readouterr().err == ""
    assert files_of(tmp_path / "out") == set()


def test_other_weights_are_refused(
    weights: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = save_tiny(tmp_path / "other.safetensors", 2)
    coded = tmp_path / "photo.glc"
    assert glc("compress", photo, coded, "--weights", weights) == 0
    capsys.readouterr()
    assert glc("decompress", coded, tmp_path / "out" / "x.png", "--weights", other) == 1
    sentence = rf"glc: {re.escape(str(coded))} was written with weights of fingerprint \w{{4}}, but .*\n"
    assert re.fullmatch(sentence, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("at", [0, 1, 5, -1])
def test_a_damaged_file_is_refused(
    at: int, weights: Path, codec: ImageCodec, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = bytearray(codec.compress(read_picture(photo), 1))
    data[at] ^= 0x10
    coded = tmp_path / "bad.glc"
    coded.write_bytes(data)
    assert glc("decompress", coded, tmp_path / "x.png", "--weights", weights) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"glc: {coded} ")
    assert error.count("\n") == 1
    assert not (tmp_path / "x.png").exists()


def test_info_shows_header_and_weights(
    weights: Path, codec: ImageCodec, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coded = tmp_path / "photo.glc"
    coded.write_bytes(codec.compress(read_picture(photo), 3))
    size = coded.stat().st_size
    assert glc("info", coded, weights) == 0
    shown = [re.split(r"\s*[│┃]\s*", line.strip()) for line in capsys.readouterr().out.splitlines()]
    rows = {row[1]: row[2:-1] for row in shown if len(row) > 2}
    fingerprint = f"{codec.fingerprint:04x}"
    bpp = f"{8 * size / (SIDE * (SIDE - 31)):.4f}"
    assert rows[str(coded)] == ["4", "picture", f"{SIDE - 31}x{SIDE}", "3", str(size), bpp, fingerprint]
    parameters = f"{sum(p.numel() for p in codec.parameters()):,}"
    assert rows[str(weights)] == [
        weights.stem,
        "16x down, 32 channels, 256 codes",
        "32 channels, 64 hyper codes, 4 qualities",
        parameters,
        "uniform",
        fingerprint,
    ]


def test_info_goes_on_after_a_bad_file(photo: Path, codec: ImageCodec, capsys: pytest.CaptureFixture[str]) -> None:
    coded = photo.with_suffix(".glc")
    coded.write_bytes(codec.compress(read_picture(photo), 0))
    assert glc("info", photo, photo.parent / "absent.glc", coded) == 1
    shown = capsys.readouterr()
    assert f"{photo} is not a .glc file" in shown.err
    assert "absent.glc: No such file or directory" in shown.err
    assert str(coded) in shown.out


def test_a_fitted_prior_is_said(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    codec = load_codec(weights)
    codec.transform.z_counts[3] = 100
    config = model_config()
    save_codec(codec, config, tmp_path / "fitted.safetensors")
    assert glc("info", tmp_path / "fitted.safetensors") == 0
    assert re.search(r"│ fitted +│", capsys.readouterr().out)


def test_alpha_sixteen_bits_and_orientation(
    weights: Path, codec: ImageCodec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in"
    source.mkdir()
    rgb = render_picture(64, 80, 5)
    alpha = np.full((64, 80, 1), 128, dtype=np.uint8)
    Image.fromarray(np.concatenate([rgb, alpha], axis=2)).save(source / "alpha.png")
    Image.fromarray(rgb[:, :, 0].astype(np.uint16) * 257).save(source / "deep.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    Image.fromarray(rgb).save(source / "turned.png", exif=exif)
    assert glc("compress", source, tmp_path / "out", "--weights", weights, "--quality", 1) == 0
    error = capsys.readouterr().err
    assert error == f"glc: {source / 'alpha.png'}: the alpha channel is dropped.\n"
    expected = {"alpha": rgb, "deep": np.repeat(rgb[:, :, :1], 3, axis=2), "turned": np.rot90(rgb, -1)}
    for name, picture in expected.items():
        assert (tmp_path / "out" / f"{name}.glc").read_bytes() == codec.compress(picture.copy(), 1), name


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("compress absent.png x.glc --weights W", "absent.png: no such file or folder; check the path."),
        ("compress photo.png x.png --weights W", "x.png: the name of a compressed picture ends in .glc."),
        ("compress photo.png x.glc --weights absent.pth", "no weights file at absent.pth"),
        ("compress photo.png x.glc --weights photo.png", "photo.png is no weights file"),
        ("compress photo.png x.glc --weights W --quality 4", "--quality 4: these weights have the qualities 0 to 3."),
        ("compress photo.png x.glc --weights W --quality -1", "--quality -1: these weights have the qualities 0 to 3."),
        ("compress empty x --weights W", "empty: no pictures in this folder"),
        ("compress . photo.png --weights W", "photo.png is a file, but . is a folder"),
        ("compress photo.png photo.png/x.glc --weights W", "photo.png: File exists; check the path"),
        ("decompress photo.png y.png --weights W", "photo.png is not a .glc file: its first byte is 0x89."),
        ("decompress photo.png y.glc --weights W", "y.glc: the name of a picture ends in one of .png"),
        ("decompress empty x --weights W", "empty: no .glc file in this folder"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    arguments: str,
    sentence: str,
    weights: Path,
    photo: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(photo.parent)
    (photo.parent / "empty").mkdir()
    before = files_of(photo.parent)
    assert glc(*(str(weights) if word == "W" else word for word in arguments.split())) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"glc: {sentence}")
    assert shown.err.count("\n") == 1
    assert files_of(photo.parent) == before


@pytest.mark.parametrize(
    "arguments",
    ["", "explode", "compress a.png", "info", "compress a b --target-bpp 0", "compress a b --target-bpp 1 --quality 1",
     "compress a b --target-bpp low", "compress a b --max-pixels many"],
)  # fmt: skip
def test_misuse_ends_with_2(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments.split())
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert "usage: glc" in message
    assert "invalid _" not in message, "names a function"


def test_cuda_is_not_promised_where_there_is_none(
    weights: Path, photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert glc("compress", photo, photo.with_suffix(".glc"), "--weights", weights, "--device", "cuda") == 1
    assert capsys.readouterr().err.startswith("glc: --device cuda: PyTorch finds no CUDA device here")


def test_too_little_memory_is_said(
    weights: Path, photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(ImageCodec, "compress_with_report", fail)
    assert glc("compress", photo, photo.with_suffix(".glc"), "--weights", weights) == 1
    assert capsys.readouterr().err.startswith(f"glc: {photo}: too large for the memory of this device")


def test_packaged_weights_are_the_default(
    weights: Path, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "pretrained"
    folder.mkdir()
    shutil.copy(weights, folder / "one.safetensors")
    monkeypatch.setattr(store, "PRETRAINED", folder)
    assert glc("compress", photo, photo.with_suffix(".glc")) == 0
    shutil.copy(weights, folder / "two.safetensors")
    capsys.readouterr()
    assert glc("compress", photo, photo.with_suffix(".glc"), "--overwrite") == 1
    assert capsys.readouterr().err.startswith("glc: Which weights are meant? Name one of: ")
    monkeypatch.setattr(store, "PRETRAINED", tmp_path / "none")
    assert glc("compress", photo, photo.with_suffix(".glc"), "--overwrite") == 1
    assert capsys.readouterr().err.startswith(
        "glc: This installation carries no weights of an image codec: name an export"
    )


def test_fetch_weights_runs_the_fetcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbones, "fetch_weights", lambda _: 7)
    assert glc("fetch-weights") == 7
