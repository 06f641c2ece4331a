"""What `glc` does to the files of a user: names, old files, full disks, signals."""

import io
import os
import re
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.measures import model_config
from glc_train import cli, save_codec
from glc_train.bitstream import ClipFormat, VideoReader
from glc_train.cli.errors import CommandError
from glc_train.cli.files import distinct_names
from glc_train.codecs import VideoCodec, compress_clip
from glc_train.data import render_picture
from glc_train.media import ClipInfo, find_pictures, write_clip, write_picture
from glc_train.weights import build_codec, build_video, load_video
from tests.full_disk import full_disk

OLD = b"not to be lost"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    config, path = model_config(), tmp_path_factory.mktemp("weights") / "image.safetensors"
    save_codec(build_codec(config), config, path)
    return path


@pytest.fixture(scope="module")
def clip_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    image = model_config()
    image["transform"]["quality_levels"] = 64
    gop = {"intra_period": 4, "pattern": [0, 2], "reset_interval": 3}
    config = {"image": image, "transform": model_config("video/tiny"), "gop": gop}
    path = tmp_path_factory.mktemp("weights") / "video.safetensors"
    save_codec(build_video(config), config, path)
    return path


@pytest.fixture(scope="module")
def clip_bytes(clip_weights: Path) -> bytes:
    codec: VideoCodec = load_video(clip_weights)
    frames = [render_picture(40, 60, seed) for seed in range(3)]
    return compress_clip(codec, frames, 30, ClipFormat(width=60, height=40, fps=(25, 1))).data


def folder_of(path: Path, *names: str) -> Path:
    for seed, name in enumerate(names):
        write_picture(path / name, render_picture(32, 32, seed))
    return path


def glc(*arguments: object) -> int:
    return cli.main([os.fspath(a) if isinstance(a, Path) else str(a) for a in arguments])


def names_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


# ---------------------------------------------------------------- names


def test_names_that_collide_are_told_apart(weights: Path, tmp_path: Path) -> None:
    source = folder_of(tmp_path / "in", "photo.jpg", "photo.png", "photo.png.png", "Photo.webp", "other.png")
    assert glc("compress", source, tmp_path / "out", "--weights", weights) == 0
    coded = {"photo.jpg.glc", "photo.png.glc", "photo.png.png.glc", "Photo.webp.glc", "other.glc"}
    assert names_in(tmp_path / "out") == coded
    assert glc("decompress", tmp_path / "out", tmp_path / "back", "--weights", weights) == 0
    assert len(names_in(tmp_path / "back")) == 5


def test_names_that_differ_in_case_or_composition_alone_are_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, pair in enumerate((("a.png", "A.png"), ("B/x.png", "b/x.png"), ("\u00e9.png", "e\u0301.png"))):
        source = folder_of(tmp_path / str(number), *pair)
        if len(names_in(source)) < 2:  # such a file system
            continue
        assert glc("compress", source, tmp_path / "out", "--weights", tmp_path / "absent.pth") == 1
        error = capsys.readouterr().err
        assert error.startswith(f"glc: {source}: ")
        assert error.endswith(" are one name to some file systems; rename one of them.\n")
    assert not (tmp_path / "out").exists()


@given(
    st.sets(
        st.builds("{}{}".format, st.sampled_from(["a", "A", "b", "a.png", "ß", "ss", "é", "e\u0301"]),
                  st.sampled_from([".png", ".PNG", ".jpg", ".png.png"])),
        min_size=1,
    )
)  # fmt: skip
def test_all_names_are_distinct_or_refused(names: set[str]) -> None:
    def folded(name: str) -> str:
        return name.casefold().replace("e\u0301", "é")

    sources = [Path(name) for name in sorted(names)]
    try:
        targets = distinct_names(sources, ".glc")
    except CommandError:
        assert len(set(map(folded, names))) < len(names)
    else:
        assert len({folded(str(target)) for target in targets}) == len(names)
        assert all(str(t) in (f"{s}.glc", f"{s.with_suffix('.glc')}") for s, t in zip(sources, targets, strict=True))


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_names_that_cannot_be_printed_stop_no_folder(
    encoding: str, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd, accented = os.fsdecode(b"odd \xff"), "\u0416"
    source = folder_of(tmp_path / "in", "a.png", f"{odd}.png", f"{accented}.png")
    (source / f"broken {odd}.png").write_bytes(b"broken")
    out, error = (io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True) for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    error.reconfigure(errors="backslashreplace")  # as Python's own
    monkeypatch.setattr(sys, "stderr", error)
    assert glc("compress", source, tmp_path / "out", "--weights", weights) == 1
    assert glc("decompress", tmp_path / "out", tmp_path / "back", "--weights", weights) == 0
    assert names_in(tmp_path / "back") == {"a.png", f"{odd}.png", f"{accented}.png"}
    said = [stream.buffer.getvalue().decode(encoding) for stream in (out, error)]
    assert r"odd \udcff.png -> " in said[0]
    assert "3 of 4 files done" in said[0]
    assert r"broken odd \udcff.png: not a readable picture" in said[1]


def test_a_clip_may_have_a_name_that_is_not_utf_8(clip_weights: Path, clip_bytes: bytes, tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"odd \xff")
    coded, frames, video, again = (odd.with_suffix(suffix) for suffix in (".glcv", "", ".mp4", ".2.glcv"))
    coded.write_bytes(clip_bytes)
    for target in (frames, video):
        assert glc("decompress", coded, target, "--weights", clip_weights) == 0
    assert len(list(frames.iterdir())) == 3
    assert glc("compress", video, again, "--weights", clip_weights) == 0
    assert glc("info", again) == 0


# ---------------------------------------------------------------- old files


def test_the_originals_survive_decoding_into_their_folder(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    originals = folder_of(tmp_path / "photos", "a.png", "b.jpg", "deep/c.png")
    assert glc("compress", originals, tmp_path / "coded", "--weights", weights) == 0
    before = {path: path.read_bytes() for path in find_pictures(originals)}
    capsys.readouterr()
    assert glc("decompress", tmp_path / "coded", originals, "--weights", weights) == 1
    said = capsys.readouterr()
    assert {path: path.read_bytes() for path in before} == before
    assert (originals / "b.png").is_file()
    assert "1 of 3 files done" in said.out
    kept = f"{originals / 'a.png'}, {originals / 'deep/c.png'}"
    assert said.err == f"glc: 2 of 3 files were there already and were kept ({kept}); --overwrite replaces them.\n"
    assert glc("decompress", tmp_path / "coded", originals, "--weights", weights, "--overwrite") == 0
    assert (originals / "a.png").read_bytes() != before[originals / "a.png"]


def test_a_folder_job_goes_on_where_it_was_stopped(weights: Path, tmp_path: Path) -> None:
    source, out = folder_of(tmp_path / "in", "a.png", "b.png"), tmp_path / "out"
    out.mkdir()
    (out / "a.glc").write_bytes(OLD)
    assert glc("compress", source, out, "--weights", weights) == 1
    assert (out / "a.glc").read_bytes() == OLD
    assert (out / "b.glc").is_file()
    assert glc("compress", source, out, "--weights", weights, "--overwrite") == 0
    assert (out / "a.glc").read_bytes() != OLD


@pytest.mark.parametrize(
    ("command", "target"),
    [
        ("compress photo.png old.glc", "old.glc"),
        ("compress photo.png .", "photo.glc"),
        ("decompress coded.glc old.png", "old.png"),
        ("compress clip.y4m old.glcv", "old.glcv"),
        ("decompress coded.glcv old.mp4", "old.mp4"),
        ("decompress coded.glcv old", "old"),
    ],
)
def test_one_old_file_is_kept_with_a_sentence(
    command: str, target: str, weights: Path, clip_weights: Path, clip_bytes: bytes, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    options = ["--weights", clip_weights if "clip" in command or "glcv" in command else weights]
    write_picture("photo.png", render_picture(32, 32, 1))
    with write_clip("clip.y4m", ClipInfo(32, 32, Fraction(25), "bt709", False)) as clip:
        clip.write(render_picture(32, 32, 1))
    Path("coded.glcv").write_bytes(clip_bytes)
    assert glc("compress", "photo.png", "coded.glc", "--weights", weights) == 0
    Path(target).write_bytes(OLD)
    capsys.readouterr()
    assert glc(*command.split(), *options) == 1
    sentence = f"glc: {target} exists already; name another file, or add --overwrite to replace it.\n"
    assert capsys.readouterr() == ("", sentence)
    assert Path(target).read_bytes() == OLD
    if Path(target).suffix:  # a file that was there is not made a folder
        assert glc(*command.split(), *options, "--overwrite") == 0
        assert Path(target).read_bytes() != OLD


# ---------------------------------------------------------------- full disks


def test_a_full_disk_is_said_of_the_output(
    weights: Path, clip_weights: Path, clip_bytes: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo, video = tmp_path / "photo.png", tmp_path / "video.y4m"
    write_picture(photo, render_picture(64, 64, 1))
    with write_clip(video, ClipInfo(60, 40, Fraction(25), "bt709", False)) as clip:
        clip.write(render_picture(40, 60, 1))
    coded, coded_clip = tmp_path / "coded.glc", tmp_path / "coded.glcv"
    assert glc("compress", photo, coded, "--weights", weights) == 0
    coded_clip.write_bytes(clip_bytes)
    before = names_in(tmp_path)
    for command, source, target, used in (
        ("compress", photo, "new.glc", weights),
        ("decompress", coded, "new.png", weights),
        ("decompress", coded, "new.bmp", weights),
        ("compress", video, "new.glcv", clip_weights),
        ("decompress", coded_clip, "new.mp4", clip_weights),
        ("decompress", coded_clip, "new.y4m", clip_weights),
        ("decompress", coded_clip, "new", clip_weights),
    ):
        capsys.readouterr()
        with full_disk(20):
            assert glc(command, source, tmp_path / target, "--weights", used) == 1
        error = capsys.readouterr().err
        assert re.fullmatch(rf"glc: {tmp_path / target}: [^\n]*File too large[^\n]*\n", error), error
        assert names_in(tmp_path) == before


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_standard_output_is_said(clip_bytes: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.glcv").write_bytes(clip_bytes)
    with open("/dev/full", "wb") as full:
        run = subprocess.run([sys.executable, "-m", "glc_train", "info", tmp_path / "a.glcv"], stdout=full,
                             stderr=subprocess.PIPE, text=True, check=False)  # fmt: skip
    assert run.returncode == 1
    assert run.stderr == "glc: standard output: No space left on device; make room, or write elsewhere.\n"


def test_a_closed_standard_output_is_no_obstacle(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = folder_of(tmp_path / "in", "a.png")
    monkeypatch.setattr(sys, "stdout", None)  # as Python has it then
    assert glc("compress", source, tmp_path / "out", "--weights", weights) == 0
    assert glc("info", tmp_path / "out" / "a.glc") == 0


# ---------------------------------------------------------------- signals


def test_sigterm_leaves_no_frames(clip_weights: Path, clip_bytes: bytes, tmp_path: Path) -> None:
    reader = VideoReader(io.BytesIO(clip_bytes))
    first = reader.header_size + reader.next_record().size
    options = ["--weights", str(clip_weights), "--dtype", "float32"]
    command = [sys.executable, "-m", "glc_train", "decompress", "-", "frames", *options]
    with subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        assert run.stdin is not None
        run.stdin.write(clip_bytes[:first])
        run.stdin.flush()  # more is never sent: it waits with the first frame written
        deadline = time.monotonic() + 200
        while not list(tmp_path.glob(".writing-*/*.png")) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert list(tmp_path.glob(".writing-*/*.png"))
        run.terminate()
        _, error = run.communicate()
    assert (run.returncode, error) == (128 + signal.SIGTERM, b"")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_leaves_counts_as_no_picture(tmp_path: Path) -> None:
    folder_of(tmp_path, "a.png", ".writing-1234/000000.png", ".writing-1234.png")
    assert [path.name for path in find_pictures(tmp_path)] == ["a.png"]
