"""A whole evaluation on clips: find them, measure the codec and its baselines, several at a time, write the report."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from glc_train.codecs import VideoCodec
from glc_train.data import find_clips
from glc_train.evaluation.comparison import as_curve, compare
from glc_train.evaluation.curves import load_published
from glc_train.evaluation.plots import has_metric, plot_rate_distortion
from glc_train.evaluation.results import EvaluationError
from glc_train.evaluation.settings import EvaluationSettings
from glc_train.evaluation.table import print_means
from glc_train.evaluation.video_codecs import ClipCodec, GLCClips, X26xClips
from glc_train.evaluation.video_plots import plot_over_frames, write_side_by_side
from glc_train.evaluation.video_results import SequenceResult, VideoResults, write_video_csv, write_video_json
from glc_train.evaluation.video_runner import Clip, evaluate_clip
from glc_train.metrics import PictureMetrics
from glc_train.weights import load_any_codec


@dataclass(frozen=True)
class Job:
    """All that is measured on one clip."""

    clip: Clip
    qualities: tuple[int, ...]
    settings: EvaluationSettings


def default_qualities(levels: int) -> list[int]:
    """Four qualities spread over all levels; of 64: 0, 21, 42, 63, as published."""
    return sorted({round(k * (levels - 1) / 3) for k in range(4)})


def find_sequences(settings: EvaluationSettings) -> list[Clip]:
    """The clips of a data set.

    Raises:
        EvaluationError: no folder is named, nothing is left, or two clips share a name.
        ClipError: the folder is missing or holds no clip.
    """
    data = settings.data
    if data.get("root") is None:
        raise EvaluationError(f"The folder of {data['name']} is not known: give data.root=FOLDER.")
    only, size = data.get("only"), data.get("size")
    every = find_clips(data["root"]) if size is None else find_clips(data["root"], suffixes=(".yuv",))
    found = [path for path in every if only is None or path.stem in only]
    if not found:
        raise EvaluationError(f"{data['root']} holds none of the clips asked for: correct data.root or data.only.")
    if only is not None and len(found) != len(only):
        missing = sorted(set(only) - {path.stem for path in found})
        raise EvaluationError(f"{data['root']} has no clip called {', '.join(missing)}: correct data.only.")
    if settings.limit is not None and settings.limit < 1:
        raise EvaluationError(f"limit={settings.limit} leaves no clip: give 1 or more.")
    names = [path.stem for path in found]
    doubled = [name for name in names if names.count(name) > 1]
    if doubled:
        raise EvaluationError(f"Two clips are both called {doubled[0]}: rename one of them.")
    frames = data.get("frames")
    pair = None if size is None else (int(size[0]), int(size[1]))
    return [Clip(path.stem, path, frames, pair) for path in found][: settings.limit]


def load_video(settings: EvaluationSettings) -> VideoCodec:
    """The codec of `settings.ckpt`. Raises EvaluationError where it is none for clips."""
    if settings.ckpt is None:
        raise EvaluationError("No checkpoint was named: give ckpt=FILE.")
    codec = load_any_codec(settings.ckpt, device=settings.torch_device, dtype=settings.dtype)
    if not isinstance(codec, VideoCodec):
        raise EvaluationError(
            f"{settings.ckpt} holds an image codec: data={settings.data['name']} needs a video codec."
        )
    return codec


def _evaluate_sequence(
    job: Job, codec: VideoCodec, metrics: PictureMetrics, advance: Callable[[], None]
) -> list[SequenceResult]:
    """GLC at every quality, then each baseline at the bytes that GLC took; and the clip to look at."""
    out, clip = Path(job.settings.out), job.clip
    ours = GLCClips(codec)
    results = [evaluate_clip(clip, ours, "GLC", q, out / "files" / f"q{q}", metrics, advance) for q in job.qualities]
    columns: list[tuple[str, Iterator[Any]]] = [("original", clip.pictures())]
    shown = [min(results, key=lambda r: r.bytes), max(results, key=lambda r: r.bytes)][: len(results)]
    columns += [_column(r, ours, out / "files" / f"q{r.quality}") for r in shown]
    targets = {r.quality: r.bytes for r in results}
    for name in job.settings.baselines:
        baseline = X26xClips(name, codec.gop.intra_period, targets)
        folder = out / "baselines" / name
        measured = [evaluate_clip(clip, baseline, name, q, folder / f"q{q}", metrics, advance) for q in job.qualities]
        best = max(measured, key=lambda r: r.bytes)
        columns.append(_column(best, baseline, folder / f"q{best.quality}"))
        results += measured
    if job.settings.save_pictures:
        (out / "clips").mkdir(parents=True, exist_ok=True)
        write_side_by_side(out / "clips" / f"{clip.name}.mp4", clip.info(), columns)
    return results


def _column(result: SequenceResult, codec: ClipCodec, folder: Path) -> tuple[str, Iterator[Any]]:
    label = f"{result.codec} q{result.quality}  {result.bpp:.4f} bpp  {result.kbps:.1f} kbit/s"
    return label, codec.decode(folder / f"{result.sequence}{codec.suffix}")


_worker: tuple[VideoCodec, PictureMetrics] | None = None  # of this process


def _start_worker(settings: EvaluationSettings, threads: int) -> None:
    global _worker
    torch.set_num_threads(threads)
    _worker = (load_video(settings), PictureMetrics(settings.metrics, settings.torch_device))


def _work(job: Job) -> list[SequenceResult]:
    assert _worker is not None
    return _evaluate_sequence(job, *_worker, advance=lambda: None)


def _measure_all(jobs: Sequence[Job], settings: EvaluationSettings, codec: VideoCodec) -> list[SequenceResult]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    results: dict[str, list[SequenceResult]] = {}
    with ExitStack() as stack:
        bar = stack.enter_context(Progress(*columns, TimeRemainingColumn(), disable=not settings.progress))
        task = bar.add_task("sequences", total=len(jobs))
        if settings.workers > 1:
            threads = max(1, torch.get_num_threads() // settings.workers)
            pool = stack.enter_context(
                ProcessPoolExecutor(
                    min(settings.workers, len(jobs)),
                    multiprocessing.get_context("spawn"),
                    _start_worker,
                    (settings, threads),
                )
            )
            futures = {pool.submit(_work, job): job for job in jobs}
            for future in as_completed(futures):
                results[futures[future].clip.name] = future.result()
                bar.advance(task)
        else:
            metrics = PictureMetrics(settings.metrics, settings.torch_device)
            frames = bar.add_task("frames", total=None)
            for job in jobs:
                results[job.clip.name] = _evaluate_sequence(job, codec, metrics, lambda: bar.advance(frames))
                bar.advance(task)
    return [result for job in jobs for result in results[job.clip.name]]


def run_video_evaluation(settings: EvaluationSettings) -> list[VideoResults]:
    """Evaluate on clips; write ``results.json``, ``results.csv``, plots, the files, and clips to look at.

    Raises:
        EvaluationError, ClipError, WeightsError, BackboneError: each with a sentence that says what to change.
    """
    out, data = Path(settings.out), settings.data
    clips = find_sequences(settings)
    published = load_published(data["published"]) if data.get("published") else []
    codec = load_video(settings)
    qualities = default_qualities(codec.quality_levels) if settings.qualities is None else list(settings.qualities)
    wrong = [q for q in qualities if not 0 <= q < codec.quality_levels]
    if wrong or not qualities or len(set(qualities)) != len(qualities):
        raise EvaluationError(f"qualities={qualities}: give distinct integers from 0 to {codec.quality_levels - 1}.")
    for name in settings.baselines:
        X26xClips(name, None, {})  # an unknown one is refused before the work
    jobs = [Job(clip, tuple(qualities), settings) for clip in clips]
    measured = _measure_all(jobs, settings, codec)
    results = [
        VideoResults(name, tuple(r for r in measured if r.codec == name)) for name in ("GLC", *settings.baselines)
    ]
    curves = [as_curve(each) for each in results]
    bd_rates = compare(curves[0], [*published, *curves[1:]])
    write_video_json(out / "results.json", settings.facts(), results, bd_rates)
    write_video_csv(out / "results.csv", results)
    title = f"{data['name']}, {len(clips)} clips"
    if has_metric(curves):  # bytes alone can be evaluated too
        plot_rate_distortion(curves, published, out / "rate_distortion.png", title)
    (out / "frames").mkdir(exist_ok=True)
    for clip in clips:
        plot_over_frames([r for r in measured if r.sequence == clip.name], out / "frames" / f"{clip.name}.png")
    print_means(results, title)
    return results
