"""Evaluation on clips: files, figures over frames, baselines at the same bytes, workers."""

import csv
import json
import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.measures import model_config
from glc_train.codec_groups import baseline_sections
from glc_train.codecs import VideoDecoder
from glc_train.evaluation import Clip, Clips, EvaluationError, EvaluationSettings, Result, run_evaluation
from glc_train.evaluation.measure import Bench
from glc_train.evaluation.run import Plan
from glc_train.evaluation.settings import build
from glc_train.media import ClipError, ClipInfo, open_clip, write_clip
from glc_train.metrics.vmaf import find_ffmpeg
from glc_train.weights import build_video, load_video, save_codec
from tests.evaluation.sections import baselines, clips, metrics
from tests.moving_clips import moving_clip

FRAMES, SIDE = 5, 64
COLUMNS = (
    "codec sequence quality height width frames fps bytes bpp kbps estimated_bpp ideal_bpp psnr ms_ssim lpips dists"
    " flicker"
)
MEANS = "quality sequences bpp kbps estimated_bpp ideal_bpp psnr ms_ssim lpips dists flicker"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(2)
    config = {
        "image": model_config(),
        "transform": model_config("video/tiny"),
        "gop": {"intra_period": 4},
    }
    path = tmp_path_factory.mktemp("weights") / "video.safetensors"
    save_codec(build_video(config), config, path)
    return path


@pytest.fixture
def settings(weights: Path, tmp_path: Path) -> EvaluationSettings:
    folder = tmp_path / "clips"
    folder.mkdir()
    for number in range(2):
        pictures = (moving_clip(FRAMES + 1, SIDE, number) * 0.5 + 0.5).mul(255).round().byte().permute(0, 2, 3, 1)
        info = ClipInfo(SIDE, SIDE, Fraction(10), "bt709", False)
        with write_clip(folder / f"c{number}.y4m", info) as clip:
            for picture in pictures.numpy():
                clip.write(picture)
    return EvaluationSettings(
        ckpt=str(weights),
        data=clips(folder, frames=FRAMES, published="uvg"),
        out=str(tmp_path / "out"),
        qualities=[0, 63],
        metrics=metrics("psnr"),
        device="cpu",
        progress=False,
    )


def test_figures_are_those_of_the_files(settings: EvaluationSettings, capsys: pytest.CaptureFixture[str]) -> None:
    (results,) = run_evaluation(settings)
    out = Path(str(settings.out))
    assert [(s.name, s.quality) for s in results.results] == [("c0", 0), ("c0", 63), ("c1", 0), ("c1", 63)]
    codec = load_video(str(settings.ckpt), dtype="auto")
    for sequence in results.results:
        file = out / "files" / f"q{sequence.quality}" / f"{sequence.name}.glcv"
        assert sequence.bytes == file.stat().st_size
        assert sequence.bpp == 8 * sequence.bytes / (FRAMES * SIDE * SIDE)
        assert sequence.kbps == pytest.approx(8 * sequence.bytes * 10 / FRAMES / 1000)
        assert [frame.kind for frame in sequence.frames] == ["intra", *["conditional"] * 3, "intra"]
        assert 0 < sequence.bytes - sum(frame.bytes for frame in sequence.frames) < 60, "header, end and index"
        with open(file, "rb") as stream:
            decoded = np.stack([frame.picture for frame in VideoDecoder(codec, stream)]).astype(float)
        with open_clip(Path(settings.data["root"]) / f"{sequence.name}.y4m") as reader:
            original = np.stack(list(reader)[:FRAMES]).astype(float)
        error = (decoded - original) / 255
        psnr = -10 * np.log10((error**2).mean((1, 2, 3)))
        assert [f.scores["psnr"] for f in sequence.frames] == pytest.approx(psnr.tolist(), abs=1e-3)
        flicker = np.sqrt(((error[1:] - error[:-1]) ** 2).mean((1, 2, 3)))
        assert sequence.frames[0].scores["flicker"] is None
        assert [f.scores["flicker"] for f in sequence.frames[1:]] == pytest.approx(flicker.tolist(), rel=1e-4)
        assert sequence.scores["flicker"] == pytest.approx(flicker.mean(), rel=1e-4)
    assert "GLC" in capsys.readouterr().out


def test_effort_brings_clips_nearer(settings: EvaluationSettings) -> None:
    settings = replace(settings, qualities=[63], overwrite=True)
    (plain,) = run_evaluation(settings)
    mixture = {"_target_": "glc_train.effort.PerceptualMixture", "weights": {"mse": 1.0}}
    (refined,) = run_evaluation(replace(settings, effort=2, distortion=mixture))
    assert json.loads((Path(str(settings.out)) / "results.json").read_text())["effort"] == 2
    for before, after in zip(plain.results, refined.results, strict=True):
        plain_psnr, refined_psnr = before.scores["psnr"], after.scores["psnr"]
        assert plain_psnr is not None
        assert refined_psnr is not None
        assert refined_psnr > plain_psnr


def test_the_report_is_complete_and_workers_change_nothing(settings: EvaluationSettings) -> None:
    settings = replace(settings, baselines=baselines("x264"), workers=2)
    ours, theirs = run_evaluation(settings)
    out = Path(str(settings.out))
    content = json.loads((out / "results.json").read_text())
    assert set(content["codecs"]) == {"GLC", "x264"}
    assert any("they are of 7 clips of 96 frames, these results of 2 clips of 5" in note for note in content["notes"])
    assert {each["anchor"] for each in content["bd_rates"]} == {"x264"}
    entry = content["codecs"]["GLC"]["sequences"]["c1"]["63"]
    assert " ".join(entry).startswith(COLUMNS)
    assert all(len(entry[f"frame_{name}"]) == FRAMES for name in ("kind", "bpp", "psnr", "flicker"))
    assert set(content["codecs"]["x264"]["means"][0]) == set(MEANS.split())
    rows = list(csv.DictReader((out / "results.csv").open()))
    assert len(rows) == 8
    assert " ".join(rows[0]) == COLUMNS
    for name in ("rate_distortion.png", "frames/c0.png", "frames/c1.png"):
        with Image.open(out / name) as plot:
            assert plot.width > 300
    with av.open(str(out / "clips/c0.mp4")) as shown:
        frames = list(shown.decode(video=0))
    assert len(frames) == FRAMES
    assert frames[0].width == 4 * SIDE  # original, lowest, highest, x264
    for name in ("originals/c1.mp4", "decoded/q63/c1.mp4", "baselines/x264/decoded/q63/c1.mp4"):
        with open_clip(out / name) as clip:
            assert sum(1 for _ in clip) == FRAMES
    details = json.loads((out / "details/q63/c1.json").read_text())
    known = details["header"] + details["z"] + sum(details["passes"])
    assert known == pytest.approx(details["bytes"], abs=2 * FRAMES)
    assert "data:video/mp4" in (out / "report.html").read_text()
    for mine, other in zip(ours.results, theirs.results, strict=True):
        assert (mine.name, mine.quality) == (other.name, other.quality)
        assert other.bytes <= mine.bytes or other.bytes < 1500, "no larger than ours, or as small as x264 can"
        assert other.estimated_bpp is None
    settings = replace(settings, baselines={}, workers=1, save_pictures=False, out=f"{settings.out}_again")
    again = run_evaluation(settings)[0]
    assert [(s.bytes, s.scores) for s in again.results] == [(s.bytes, s.scores) for s in ours.results]


@pytest.mark.parametrize("name", ["x264", "x265"])
def test_baselines_grow_to_their_target_and_come_back_whole(name: str, tmp_path: Path) -> None:
    pictures = (moving_clip(8, 96, 3) * 0.5 + 0.5).mul(255).round().byte().permute(0, 2, 3, 1).numpy()
    codec = build(name, baseline_sections()[name], intra_period=4)
    with write_clip(tmp_path / "clip.mkv", ClipInfo(96, 96, Fraction(25), "bt709", False), crf=0) as writer:
        for picture in pictures:
            writer.write(picture)
    clip = Clip("clip", tmp_path / "clip.mkv")
    sizes, errors = [], []
    for level in (1, 12_000):
        path = tmp_path / f"{level}{codec.suffix}"
        encoded = codec.encode(clip, level, path)
        decoded = np.stack(list(codec.decode(path)))
        sizes.append(path.stat().st_size)
        errors.append(float(np.abs(decoded.astype(float) - pictures).mean()))
        assert decoded.shape == pictures.shape
        assert sum(frame.bytes for frame in encoded.frames) == sizes[-1]
        assert [f.kind for f in encoded.frames].count("intra") >= 2
    assert sizes[0] < sizes[1] <= 12_000
    assert errors[1] < errors[0]
    assert errors[1] < 4


def test_vmaf_is_of_clips_or_null_with_the_reason(settings: EvaluationSettings) -> None:
    section = {"vmaf": {"_target_": "glc_train.metrics.VMAF"}}
    (results,) = run_evaluation(replace(settings, metrics=metrics("psnr") | section, limit=1, qualities=[0]))
    content = json.loads((Path(str(settings.out)) / "results.json").read_text())
    values = content["codecs"]["GLC"]["sequences"]["c0"]["0"]["frame_vmaf"]
    if find_ffmpeg() is None:
        assert values == [None] * FRAMES
        assert content["metrics"]["vmaf"]["reason"].startswith("no FFmpeg with libvmaf")
    else:
        assert all(0 <= value <= 100 for value in values)
        assert results.means[0].figures["vmaf"] == pytest.approx(sum(values) / FRAMES)


def test_bytes_alone_can_be_evaluated(settings: EvaluationSettings) -> None:
    (results,) = run_evaluation(replace(settings, metrics={}, limit=1, qualities=[0]))
    assert results.results[0].figures()["psnr"] is None
    assert results.results[0].bytes > 0
    assert not (Path(str(settings.out)) / "rate_distortion.png").exists()


def test_four_qualities_are_those_of_the_protocol(settings: EvaluationSettings) -> None:
    plan = Plan(replace(settings, qualities=None))
    assert plan.bench(plan.load()).qualities == [0, 21, 42, 63]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ckpt": "glc_image_small"}, "holds an image codec: video has clips, which need a video codec"),
        ({"baselines": baselines("webp")}, "webp codes single pictures, and video has clips"),
        ({"qualities": [64]}, "distinct integers from 0 to 63"),
        ({"limit": 0}, "limit=0: give 1 or more"),
        ({"data": {"root": None}}, "give data.test.root=FOLDER"),
        ({"data": {"only": ["c0", "c9"]}}, "no clip called c9"),
        ({"data": {"size": [64, 64]}}, r"clips: no clips there; looked for \.yuv\."),
    ],
)
def test_wrong_settings_are_one_sentence(settings: EvaluationSettings, change: dict[str, Any], message: str) -> None:
    if "data" in change:
        change = {"data": settings.data | change["data"]}
    with pytest.raises((EvaluationError, ClipError), match=message):
        run_evaluation(replace(settings, **change))
    assert not Path(str(settings.out)).exists()


def test_an_image_codec_is_refused(settings: EvaluationSettings, tmp_path: Path) -> None:
    from glc_train.weights import build_codec

    config = model_config()
    save_codec(build_codec(config), config, tmp_path / "image.safetensors")
    with pytest.raises(EvaluationError, match="which need a video codec"):
        run_evaluation(replace(settings, ckpt=str(tmp_path / "image.safetensors")))


def test_an_unreadable_clip_is_left_out_and_a_failing_one_keeps_the_others(
    settings: EvaluationSettings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(settings.data["root"])
    (folder / "broken.mp4").write_bytes(bytes(1000))
    measured = Bench._measure

    def fail_on_c0(bench: Bench, clip: Clip, *arguments: Any) -> Result:
        if clip.name == "c0":
            raise OSError("no space left")
        return measured(bench, clip, *arguments)

    monkeypatch.setattr(Bench, "_measure", fail_on_c0)
    settings = replace(settings, metrics={}, qualities=[0], save_pictures=False)
    with pytest.raises(EvaluationError, match=r"^1 of 2 clips could not be measured: c0: no space left$"):
        run_evaluation(settings)
    content = json.loads((Path(str(settings.out)) / "results.json").read_text())
    assert list(content["codecs"]["GLC"]["sequences"]) == ["c1"]
    assert [each["name"] for each in content["left_out"]] == ["broken.mp4", "c0"]
    shown = capsys.readouterr()
    assert shown.err.startswith(f"left out: {folder / 'broken.mp4'}")
    assert "2 of 3 clips were left out: broken.mp4, c0." in shown.out


def test_a_name_that_is_not_utf_8_is_no_obstacle(settings: EvaluationSettings) -> None:
    folder, out = Path(settings.data["root"]), Path(str(settings.out))
    (folder / "c0.y4m").rename(folder / os.fsdecode(b"odd \xff.y4m"))
    (folder / "c1.y4m").unlink()
    run_evaluation(replace(settings, qualities=[0]))
    assert r"odd \udcff" in (out / "results.csv").read_text(encoding="utf-8")
    assert [path.name for path in (out / "frames").iterdir()] == [os.fsdecode(b"odd \xff.png")]


def test_a_worker_refuses_weights_that_changed(settings: EvaluationSettings) -> None:
    with pytest.raises(EvaluationError, match="has changed since the evaluation began"):
        Plan(settings, "0" * 64).start(threads=1)


def test_clips_of_one_name_take_that_of_their_folder(settings: EvaluationSettings) -> None:
    folder = Path(settings.data["root"])
    (folder / "more").mkdir()
    (folder / "more/c0.y4m").write_bytes((folder / "c0.y4m").read_bytes())
    assert {clip.name for clip in Clips(root=str(folder)).items()} == {"clips_c0", "c1", "more_c0"}
