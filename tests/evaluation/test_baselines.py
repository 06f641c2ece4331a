"""Classical codecs: the best setting within some bytes, at full size and reduced, beside ours and under test."""

import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from glc_train.codec_groups import baseline_sections
from glc_train.evaluation import (
    Baseline,
    Clip,
    Encoded,
    EncodedFrame,
    EvaluationError,
    EvaluationSettings,
    Reduced,
    Still,
    StreamCodec,
    load_baseline,
    run_evaluation,
)
from glc_train.evaluation.baselines import AtSettings
from glc_train.evaluation.baselines.search import Single
from glc_train.evaluation.run import Plan
from glc_train.evaluation.settings import build
from glc_train.media import ClipInfo, read_picture, write_clip, write_picture
from tests.evaluation.sections import baselines, metrics, pictures
from tests.metrics.rendered import render


class Stub(Baseline):
    """Files whose sizes are given; remembers what it was asked for."""

    suffix = ".stub"

    def __init__(self, sizes: list[int]) -> None:
        self.sizes, self.settings, self.asked = sizes, range(len(sizes)), list[int]()

    def encode_at(self, source: Any, setting: Any) -> tuple[bytes, Encoded]:
        self.asked.append(setting)
        size = self.sizes[setting]
        return bytes(size), Encoded((EncodedFrame("intra", size),), float(setting))

    def decode_bytes(self, data: bytes) -> Any:
        yield np.zeros((4, 4, 3), np.uint8)


@given(st.sets(st.integers(0, 500), min_size=1), st.lists(st.integers(0, 500), min_size=1, max_size=5))
@settings(max_examples=50)
def test_the_best_within_the_target_is_found_and_no_setting_tried_twice(sizes: set[int], targets: list[int]) -> None:
    codec, item = Stub(sorted(sizes)), Still("a", Path("a.png"))
    for target in targets:
        data, encoded = codec._within(item, target)
        fitting = [size for size in codec.sizes if size <= target]
        assert len(data) == max(fitting, default=min(sizes))
        assert encoded.seconds == codec.sizes.index(len(data)), "the seconds of the one that was kept"
    assert len(set(codec.asked)) == len(codec.asked)


def test_another_picture_is_coded_anew(tmp_path: Path) -> None:
    codec = Stub([1, 2])
    for name in ("a", "b"):
        codec.encode(Still(name, Path(name)), 1, tmp_path / name)
    codec.compress(render(8, 8), 1)
    codec.compress(render(8, 8), 1)
    assert codec.asked == [1, 0] * 4


@pytest.mark.parametrize("name", ["jpeg", "webp", "avif", "webp_half", "jpeg_quarter", "svtav1_half"])
def test_more_bytes_bring_it_nearer_to_the_picture(name: str) -> None:
    picture, baseline = render(95, 97), load_baseline(name)
    if name == "avif":
        baseline.options["speed"] = 9  # type: ignore[attr-defined]
    smallest, largest = len(baseline.compress(picture, 0)), len(baseline.compress(picture, 10**6))
    target = (smallest + largest) // 2
    files = [baseline.compress(picture, budget) for budget in (smallest - 1, target, 10**6)]
    assert smallest == len(files[0]) < len(files[1]) <= target < len(files[2])
    decoded = [baseline.decompress(file) for file in files]
    assert {each.shape for each in decoded} == {picture.shape}
    errors = [np.abs(each.astype(float) - picture).mean() for each in decoded]
    assert errors[0] > errors[1] > errors[2]


@pytest.mark.parametrize("divisor", [2, 3, 8])
@pytest.mark.parametrize("size", [(64, 48), (65, 47), (17, 31)])
def test_a_reduced_picture_comes_back_in_its_size_and_takes_one_byte_more(divisor: int, size: tuple[int, int]) -> None:
    inner = load_baseline("webp")
    picture = render(*size)
    data = Reduced(inner, divisor).compress(picture, 10**6)
    assert Reduced(load_baseline("webp"), divisor).decompress(data).shape == picture.shape
    sides = [-(-side // (2 * divisor)) * 2 for side in reversed(size)]
    small = Image.fromarray(picture).resize((sides[0], sides[1]), Image.Resampling.LANCZOS)
    assert data[:-1] == inner.compress(np.asarray(small), 10**6)


def test_what_does_not_exist_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"^There is no baseline 'vtm': choose among jpeg, jpeg_half, "):
        load_baseline("vtm")
    with pytest.raises(EvaluationError, match=r"^divisor=9: give 2 to 8\.$"):
        Reduced(load_baseline("webp"), 9)
    with pytest.raises(EvaluationError, match=r"^it has no setting 96: give those from 1 to 95, or rates=\.$"):
        AtSettings(load_baseline("jpeg")).encode(Still("a", tmp_path / "a.png"), 96, tmp_path / "a.jpg")


@pytest.fixture
def of_webp(tmp_path: Path) -> EvaluationSettings:
    for number in range(2):
        write_picture(tmp_path / f"pictures/p{number}.png", render(96 + 8 * number, 128))
    return EvaluationSettings(
        data=pictures(tmp_path / "pictures", published="kodak"),
        out=str(tmp_path / "out"),
        codec=baselines("webp"),
        baselines=baselines("jpeg", "webp_half"),
        rates=[0.5, 1.5],
        metrics=metrics("psnr"),
        device="cpu",
        progress=False,
    )


def test_a_baseline_under_test_has_rates_and_the_same_files_as_ours(of_webp: EvaluationSettings) -> None:
    found = run_evaluation(of_webp)
    out = Path(str(of_webp.out))
    content = json.loads((out / "results.json").read_text())
    assert list(content["codecs"]) == ["webp", "jpeg", "webp_half"]
    assert content["codec"] == "webp"
    assert content["checkpoint"] is content["weights_sha256"] is None
    for result in found[0].results:
        target = int([0.5, 1.5][result.quality] * result.height * result.width / 8)
        assert result.bytes <= target == result.target_bytes
        assert (out / f"files/q{result.quality}/{result.name}.webp").stat().st_size == result.bytes
        assert (out / f"decoded/q{result.quality}/{result.name}.png").is_file()
    for other in found[1:]:
        assert [r.target_bytes for r in other.results] == [r.bytes for r in found[0].results]
    assert {entry["codec"] for entry in content["bd_rates"]} == {"webp"}
    for name in ("results.csv", "rate_distortion.png", "pictures.png"):
        assert (out / name).is_file()


def test_a_target_that_is_out_of_reach_is_told(of_webp: EvaluationSettings, capsys: pytest.CaptureFixture[str]) -> None:
    codec = {"jpeg[small]": baselines("jpeg")["jpeg"]}
    settings = replace(of_webp, codec=codec, baselines=baselines("webp"), rates=[0.02, 9, 0.03])
    run_evaluation(replace(settings, save_pictures=False))
    (note,) = (
        note
        for note in json.loads((Path(str(of_webp.out)) / "results.json").read_text())["notes"]
        if "above the target" in note
    )
    missed = "for 2 of 2 pictures at 0.02 bpp, for 2 of 2 pictures at 0.03 bpp"
    assert note == f"jpeg[small]: even its smallest file is above the target {missed}."
    assert note in capsys.readouterr().out.replace("\n", " ").replace("  ", " ")


def test_a_process_of_its_own_measures_the_same(of_webp: EvaluationSettings, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    bench = replace(Plan(of_webp).start(threads), out=tmp_path)
    found = [result for item in of_webp.build_data().items() for result in bench(item) if result.codec == "webp"]
    assert [(r.bytes, r.scores) for r in run_evaluation(of_webp)[0].results] == [(r.bytes, r.scores) for r in found]


def test_settings_of_its_own_are_measured_too(of_webp: EvaluationSettings) -> None:
    settings = replace(of_webp, codec=baselines("jpeg"), baselines={}, rates=None, qualities=[10, 90], limit=1)
    low, high = run_evaluation(settings)[0].results
    picture = read_picture(Path(of_webp.data["root"]) / "p0.png")
    assert low.bytes == len(load_baseline("jpeg").encode_at(Single(picture), 10)[0])
    assert low.bytes < high.bytes
    assert low.target_bytes is None
    with pytest.raises(EvaluationError, match="give rates= alone"):
        run_evaluation(replace(settings, rates=[0.1]))


def of_another_program(data: bytes, name: str, decoder: list[str]) -> np.ndarray:
    """The first frame, decoded by the FFmpeg program that imageio-ffmpeg brings, through its `decoder` if given."""
    program = imageio_ffmpeg.get_ffmpeg_exe()
    with tempfile.TemporaryDirectory() as folder:
        (file := Path(folder, f"coded{load_baseline(name).suffix}")).write_bytes(data)
        flags = "flags=accurate_rnd+full_chroma_int+full_chroma_inp"
        colours = ["-vf", f"scale=in_color_matrix=bt709:in_range=tv:out_range=pc:{flags}", "-pix_fmt", "rgb24"]
        stream = isinstance(load_baseline(name), StreamCodec)
        made = Path(folder, "decoded.png")
        command = [program, "-v", "error", *decoder, "-i", file, *(colours if stream else ()), "-frames:v", "1", made]
        subprocess.run(command, check=True)
        return read_picture(made)


def luma(picture: np.ndarray) -> np.ndarray:
    return picture @ np.array([0.299, 0.587, 0.114])


@pytest.mark.parametrize(
    ("name", "decoder"),
    [
        ("jpeg", []),
        ("jpeg2000", ["-c:v", "jpeg2000"]),
        ("webp", []),
        ("avif", ["-c:v", "libaom-av1"]),
        ("jxl", []),
        ("heic", []),
        ("x264", ["-c:v", "libopenh264"]),
        ("x265", []),
        ("svtav1", ["-f", "obu", "-c:v", "libaom-av1"]),
        ("av1", ["-f", "obu", "-c:v", "libdav1d"]),
        ("vvc", []),
    ],
)
def test_another_program_reads_the_file(name: str, decoder: list[str]) -> None:
    picture, codec = render(64, 96), load_baseline(name)
    data, encoded = codec.encode_at(Single(picture), codec.settings[len(codec.settings) * 3 // 4])
    assert sum(frame.bytes for frame in encoded.frames) == len(data)
    ours, theirs = codec.decompress(data), of_another_program(data, name, decoder)
    assert ours.shape == theirs.shape == picture.shape
    assert np.abs(luma(ours) - luma(picture)).mean() < 8
    assert np.abs(luma(ours) - luma(theirs)).mean() < 1.5, "chroma may be enlarged in another way, no more"


@pytest.mark.parametrize("name", ["svtav1", "vvc"])
def test_frames_of_a_clip_come_back_in_order(name: str, tmp_path: Path) -> None:
    pictures = np.stack([np.full((64, 64, 3), 20 + 18 * number, np.uint8) for number in range(12)])
    with write_clip(tmp_path / "clip.mkv", ClipInfo(64, 64, Fraction(25), "bt709", False), crf=0) as writer:
        for picture in pictures:
            writer.write(picture)
    codec: Any = build(name, baseline_sections()[name], intra_period=None)
    codec.options["preset"] = {"svtav1": "8", "vvc": "faster"}[name]
    encoded = codec.encode(Clip("clip", tmp_path / "clip.mkv"), 10**6, tmp_path / "coded")
    decoded = np.stack(list(codec.decode(tmp_path / "coded")))
    assert decoded.shape == pictures.shape
    assert (np.diff(decoded.mean((1, 2, 3))) > 0).all()
    assert [frame.kind for frame in encoded.frames].count("intra") == 1
    assert sum(frame.bytes for frame in encoded.frames) == (tmp_path / "coded").stat().st_size


def test_an_encoder_that_fails_is_one_sentence() -> None:
    with pytest.raises(EvaluationError, match=r"^FFmpeg's libsvtav1 failed on 65×64 yuv444p10le: .*Invalid argument"):
        load_baseline("svtav1").compress(render(64, 65), 10**6)
    codec: Any = load_baseline("vvc")
    codec.options["preset"] = "unknown"
    with pytest.raises(EvaluationError, match=r"^FFmpeg's libvvenc failed: .*'unknown'"):
        codec.compress(render(64, 64), 10**6)


@pytest.mark.parametrize(("name", "package"), [("jxl", "pillow-jxl-plugin"), ("vvc", "imageio-ffmpeg")])
def test_a_missing_package_is_one_sentence(name: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = {"jxl": "pillow_jxl", "vvc": "imageio_ffmpeg"}[name]
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(EvaluationError, match=f"needs the package {package}: install it .* leave this codec out.$"):
        load_baseline(name)


def test_a_picture_that_a_format_has_no_room_for_is_one_sentence() -> None:
    with pytest.raises(EvaluationError, match=r"^Pillow cannot write 16384×1 pixels as WEBP: "):
        load_baseline("webp").compress(np.zeros((1, 16384, 3), np.uint8), 1000)
