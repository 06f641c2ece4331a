"""The command `glc` on clips: a few runs as real processes, the rest in this one."""

import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.measures import model_config
from glc_train import cli
from glc_train.bitstream import ClipFormat, VideoReader
from glc_train.cli import files
from glc_train.codecs import GOP, VideoCodec, VideoDecoder, VideoEncoder, compress_clip, decompress_clip
from glc_train.data import render_picture
from glc_train.effort import PerceptualMixture, refiner
from glc_train.media import ClipInfo, open_clip, write_clip, write_picture
from glc_train.weights import build_video, load_video, save_codec, store
from tests.media.clip_files import drop_ts_packet, encode, noise

FRAMES = 6
INFO = ClipInfo(width=60, height=40, fps=Fraction(30000, 1001), matrix="bt601", full_range=False)
GROUPS = {"intra_period": 4, "pattern": [0, 2], "reset_interval": 3}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    image = model_config()
    image["transform"]["quality_levels"] = 64
    config = {"image": image, "transform": model_config("video/tiny"), "gop": GROUPS}
    codec = build_video(config)
    with torch.no_grad():
        codec.transform.analysis.gain.mul_(8)
    path = tmp_path_factory.mktemp("weights") / "video.safetensors"
    save_codec(codec, config, path)
    return path


@pytest.fixture(scope="module")
def codec(weights: Path) -> VideoCodec:
    return load_video(weights, dtype="auto")  # as `glc` does


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    scene = render_picture(80, 120, 3)
    return [np.ascontiguousarray(scene[2 * t : 2 * t + 40, 3 * t : 3 * t + 60]) for t in range(FRAMES)]


@pytest.fixture
def clip(tmp_path: Path, pictures: list[np.ndarray]) -> Path:
    path = tmp_path / "clip.y4m"
    with write_clip(path, INFO) as target:
        for picture in pictures:
            target.write(picture)
    return path


@pytest.fixture(scope="module")
def coded(codec: VideoCodec, pictures: list[np.ndarray]) -> bytes:
    return compress_clip(codec, pictures, 30, ClipFormat(width=60, height=40, fps=(25, 1))).data


@pytest.fixture
def coded_path(tmp_path: Path, coded: bytes) -> Path:
    (tmp_path / "coded.glcv").write_bytes(coded)
    return tmp_path / "coded.glcv"


def glc(*arguments: object) -> int:
    return cli.main([str(argument) for argument in arguments])


def frames_of(path: Path) -> list[np.ndarray]:
    with open_clip(path) as reader:
        return [picture.copy() for picture in reader]


def files_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def offset_of(coded: bytes, frame: int) -> int:
    """Where the record of a frame begins."""
    reader = VideoReader(io.BytesIO(coded))
    return reader.header_size + sum(reader.next_record().size for _ in range(frame))


def test_as_processes_and_through_pipes(
    weights: Path, codec: VideoCodec, clip: Path, tmp_path: Path, pictures: list[np.ndarray]
) -> None:
    run = [sys.executable, "-m", "glc_train"]
    options = ["--weights", str(weights), "--device", "cpu"]
    writing = subprocess.Popen([*run, "compress", clip, "-", *options, "--quality", "30"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)  # fmt: skip
    reading = subprocess.run(
        [*run, "decompress", "-", tmp_path / "frames", *options], stdin=writing.stdout, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert writing.stderr is not None
    said = writing.stderr.read().decode()
    assert writing.wait() == 0, said
    assert reading.returncode == 0, reading.stderr
    assert f"{clip} -> -  60x40  6 frames" in said
    assert reading.stdout.startswith(f"- -> {tmp_path / 'frames'}  60x40  6 frames")
    format_ = ClipFormat(width=60, height=40, fps=(30000, 1001), matrix="bt601")
    expected = decompress_clip(codec, compress_clip(codec, frames_of(clip), 30, format_).data)
    assert np.array_equal(frames_of(tmp_path / "frames"), expected)


def test_a_file_and_back(
    weights: Path, codec: VideoCodec, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coded, decoded = tmp_path / "new" / "clip.glcv", tmp_path / "other" / "clip.y4m"
    assert glc("compress", clip, coded, "--weights", weights) == 0
    size, line = coded.stat().st_size, capsys.readouterr().out
    assert f"6 frames  {size} bytes  {8 * size / (6 * 60 * 40):.4f} bpp" in line
    assert f"  {8 * size / 6 * 30000 / 1001 / 1000:.1f} kbit/s  quality 32  " in line
    assert line.count("\n") == 1
    assert glc("decompress", coded, decoded, "--weights", weights) == 0
    assert capsys.readouterr().out.count("\n") == 1
    with open_clip(decoded) as reader:
        assert (reader.info.width, reader.info.height, reader.info.fps) == (60, 40, INFO.fps)
        assert reader.info.matrix == "bt601"
        shown = np.array([picture.copy() for picture in reader])
    expected = np.array(decompress_clip(codec, coded.read_bytes()))
    assert np.abs(shown.astype(int) - expected).max() <= 4  # YUV rounds
    assert files_of(coded.parent) == {"clip.glcv"}
    assert files_of(decoded.parent) == {"clip.y4m"}


def test_raw_video_and_folders_of_frames(
    weights: Path, tmp_path: Path, pictures: list[np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "raw.yuv").write_bytes(bytes([100]) * (60 * 40 * 3 // 2) * 3)
    coded = tmp_path / "raw.glcv"
    assert (
        glc("compress", tmp_path / "raw.yuv", coded, "--weights", weights, "--size", "60x40", "--fps", "24000/1001")
        == 0
    )
    assert VideoReader(io.BytesIO(coded.read_bytes())).header.fps == (24000, 1001)
    assert glc("info", coded) == 0
    assert re.search(r"│ 2, mean 2 bytes +│", capsys.readouterr().out)  # frames that repeat the first
    folder = tmp_path / "frames"
    folder.mkdir()
    for number, picture in enumerate(pictures[:2]):
        write_picture(folder / f"{number}.png", picture)
    assert glc("compress", folder, coded, "--weights", weights, "--fps", 50, "--overwrite") == 0
    assert VideoReader(io.BytesIO(coded.read_bytes())).header.fps == (50, 1)


def test_damage_of_the_input_and_what_is_no_frame_are_said(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = encode(tmp_path / "damaged.ts", noise(8, 64, 64), options={"g": "4"})
    drop_ts_packet(damaged)
    assert glc("compress", damaged, tmp_path / "a.glcv", "--weights", weights) == 0
    error = capsys.readouterr().err
    assert re.fullmatch(rf"glc: {re.escape(str(damaged))}: damaged video: of 8 frames [^\n]+\.\n", error)
    (tmp_path / "frames").mkdir()
    for name in ("0.png", "1.png", ".2.png"):
        write_picture(tmp_path / "frames" / name, noise(1, 64, 64)[0])
    assert glc("compress", tmp_path / "frames", tmp_path / "b.glcv", "--weights", weights) == 0
    assert capsys.readouterr().err == f"glc: {tmp_path / 'frames'}: left out 1 hidden (.2.png).\n"


def test_decoding_from_a_frame_on(
    weights: Path, codec: VideoCodec, coded: bytes, coded_path: Path, tmp_path: Path
) -> None:
    assert glc("decompress", coded_path, tmp_path / "late", "--weights", weights, "--start", 3) == 0
    assert np.array_equal(frames_of(tmp_path / "late"), decompress_clip(codec, coded)[3:])


def test_damage_is_told_and_lost_frames_are_filled(
    weights: Path, codec: VideoCodec, coded: bytes, coded_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, at = decompress_clip(codec, coded), [offset_of(coded, frame) for frame in range(FRAMES)]
    for frame, shown, said in (
        (0, [4, 4, 4, 4, 4, 5], "frames 0 to 3: the record is damaged"),
        (2, [0, 1, 1, 1, 4, 5], "frames 2 to 3: the record is damaged"),
        (5, [0, 1, 2, 3, 4, 4], "frame 5: the record is damaged"),
    ):
        broken = bytearray(coded)
        broken[at[frame] + 11] ^= 1
        coded_path.write_bytes(broken)
        out = tmp_path / f"out{frame}"
        assert glc("decompress", coded_path, out, "--weights", weights) == 1
        error = capsys.readouterr().err
        assert error.startswith(f"glc: {coded_path}: {said}")
        assert error.count("\n") == 1
        assert np.array_equal(frames_of(out), [whole[index] for index in shown])
        assert glc("info", coded_path) == (0 if frame in (2, 5) else 1)  # conditional frames are checked by decoding
        capsys.readouterr()
    coded_path.write_bytes(coded[: at[3] + 5])
    assert glc("decompress", coded_path, tmp_path / "cut", "--weights", weights) == 1
    assert f"{coded_path}: from frame 3 on: " in capsys.readouterr().err
    assert np.array_equal(frames_of(tmp_path / "cut"), whole[:3])
    assert glc("info", coded_path) == 1
    assert f"{coded_path}: damaged: from frame 3 on: " in capsys.readouterr().err


def test_a_clip_of_no_frame_has_no_rate(codec: VideoCodec, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "none.glcv"
    with open(path, "wb") as file, codec.encoder(30, ClipFormat(width=60, height=40, fps=(25, 1)), file):
        pass
    assert glc("info", path, "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["frames"], record["bpp"], record["kbps"]) == (0, None, None)
    assert glc("info", path) == 0
    assert capsys.readouterr().out.count(" - ") == 2


def test_info(
    weights: Path, codec: VideoCodec, coded: bytes, coded_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert glc("info", coded_path, weights) == 0
    shown = capsys.readouterr().out
    bpp = 8 * len(coded) / (6 * 60 * 40)
    cells = [
        f"60x40 +│ 6 +│ 25 +│ 30 +│ {len(coded)}",
        f"{bpp:.4f} +│ {8 * len(coded) / 6 * 25 / 1000:.1f}",
        r"2, mean \d+ bytes +│ 4, mean \d+ bytes +│ 0",
        f"{codec.fingerprint:04x}",
        "video of 8 tokens; intra",
    ]
    for cell in cells:
        assert re.search(cell, shown), cell


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("compress absent.mp4 x.glcv --weights W", "absent.mp4"),
        (
            "compress clip.y4m x.glcv --weights W --quality 64",
            "--quality 64: these weights have the qualities 0 to 63.",
        ),
        ("compress clip.y4m x.glcv --weights W --target-bpp 0.1", "--target-bpp: only pictures are coded to a target"),
        ("compress - x.glcv --weights W", "-: a clip is read from a file"),
        ("compress clip.y4m x.glc --weights W --fps 5", "--fps: only a clip has it; name a .glcv file"),
        ("compress clip.y4m x.glc --weights W --intra-period 2", "--intra-period: only a clip has it; name a .glcv"),
        ("compress raw.yuv x.glcv --weights W", "raw.yuv: raw video does not say its size"),
        ("decompress text.glcv x.mp4 --weights W", "text.glcv is not a .glc file: its first byte is 0x68."),
        ("decompress absent.glcv x.mp4 --weights W", "absent.glcv: No such file or directory"),
        ("decompress coded.glcv - --weights W", "-: a decoded clip is written to a file"),
        (
            "decompress coded.glcv x.mp4 --weights W --max-pixels 2399",
            "coded.glcv has 60x40 pixels, above the limit",
        ),
        ("decompress coded.glcv x.mp4 --weights W --start -1", "--start -1: frames are counted from 0."),
        ("decompress coded.glcv x.mp4 --weights W --start 6", "--start 6: coded.glcv has only 6 frames"),
        ("decompress coded.glcv x.txt --weights W", "x.txt: cannot write '.txt' clips"),
        ("decompress header.glcv x.mp4 --weights W", "header.glcv: from frame 0 on: the stream is cut short"),
        ("info text.glcv", "text.glcv is not a .glc file"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    arguments: str, sentence: str, weights: Path, clip: Path, coded_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder = clip.parent
    monkeypatch.chdir(folder)
    (folder / "text.glcv").write_text("hello")
    (folder / "raw.yuv").write_bytes(bytes(3600))
    reader = VideoReader(io.BytesIO(coded_path.read_bytes()))
    (folder / "header.glcv").write_bytes(coded_path.read_bytes()[: reader.header_size])
    before = files_of(folder)
    assert glc(*(str(weights) if word == "W" else word for word in arguments.split())) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"glc: {sentence}")
    assert shown.err.count("\n") == (2 if "header" in arguments else 1)
    assert files_of(folder) == before


def test_effort_brings_the_frames_nearer(
    weights: Path, codec: VideoCodec, clip: Path, pictures: list[np.ndarray], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(refiner, "_default_distortion", lambda: PerceptualMixture({"mse": 1.0}))
    plain, refined, late = (tmp_path / f"{name}.glcv" for name in ("plain", "refined", "late"))
    assert glc("compress", clip, plain, "--weights", weights) == 0
    assert glc("compress", clip, refined, "--weights", weights, "--effort", 2) == 0
    assert glc("compress", clip, late, "--weights", weights, "--effort", 9, "--effort-seconds", 1e-9) == 0
    errors = [np.square(np.array(decompress_clip(codec, file.read_bytes())) - np.array(pictures, float)).mean()
              for file in (plain, refined, late)]  # fmt: skip
    assert errors[1] < errors[0]
    assert abs(errors[2] / errors[0] - 1) < 0.01
    assert refined.stat().st_size <= 1.02 * plain.stat().st_size


def test_intra_frames_stand_where_they_are_asked_for(
    weights: Path, codec: VideoCodec, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coded = tmp_path / "coded.glcv"
    assert glc("compress", clip, coded, "--weights", weights, "--intra-period", 2) == 0
    with coded.open("rb") as source:
        assert [frame.kind[0] for frame in VideoDecoder(codec, source)] == ["i", "c"] * 3
    capsys.readouterr()
    assert glc("info", coded, "--json") == 0
    assert json.loads(capsys.readouterr().out)["intra"]["frames"] == 3


@pytest.mark.parametrize(
    "option", ["--size 60", "--size 0x5", "--fps 0", "--fps fast", "--fps 1/0", "--intra-period 0"]
)
def test_misuse_ends_with_2(option: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["compress", "a.yuv", "a.glcv", *option.split()])
    assert stopped.value.code == 2


def test_other_weights_are_refused(
    weights: Path, coded_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def changed(*arguments: Any, **options: Any) -> VideoCodec:
        codec = load_video(*arguments, **options)
        codec.gop = GOP()
        next(codec.transform.decoder.parameters()).add_(1)
        return codec

    monkeypatch.setattr(files, "load_video", changed)
    assert glc("decompress", coded_path, tmp_path / "x.mp4", "--weights", weights) == 1
    assert f"{coded_path} was written with weights of fingerprint" in capsys.readouterr().err
    assert files_of(tmp_path) == {"coded.glcv"}


@pytest.mark.parametrize("where", ["compress", "decompress"])
def test_an_interruption_leaves_nothing(
    where: str, weights: Path, clip: Path, coded_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def stop(original: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any) -> Any:
            calls.append(1)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return original(*arguments)

        return counted

    before = files_of(tmp_path)
    for kind, method in ((VideoEncoder, "_code"), (VideoDecoder, "_next_latent")):
        monkeypatch.setattr(kind, method, stop(getattr(kind, method)))
    source, target = (clip, "x.glcv") if where == "compress" else (coded_path, "x.mp4")
    assert glc(where, source, tmp_path / target, "--weights", weights) == 130
    assert files_of(tmp_path) == before


def test_too_little_memory_is_said(
    weights: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(VideoEncoder, "_latent", fail)
    assert glc("compress", clip, tmp_path / "x.glcv", "--weights", weights) == 1
    assert capsys.readouterr().err.startswith(f"glc: {clip}: too large for the memory of this device")


def test_a_clip_is_coded_with_the_installed_video_codec(
    weights: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(store, "PRETRAINED", tmp_path / "none")
    assert glc("compress", clip, tmp_path / "a.glcv") == 1
    assert capsys.readouterr().err.startswith(
        "glc: This installation carries no weights of a video codec: name an export or checkpoint of train.py.\n"
    )
    monkeypatch.setattr(store, "PRETRAINED", weights.parent)
    assert glc("compress", clip, tmp_path / "a.glcv") == 0
