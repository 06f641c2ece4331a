"""A whole evaluation on clips: find them, measure the codec and its baselines, several at a time, write the report."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from glc_train.codecs import VideoCodec
from glc_train.data import find_clips
from glc_train.evaluation.curves import load_published
from glc_train.evaluation.inputs import labels, readable
from glc_train.evaluation.output import claim_folder
from glc_train.evaluation.progress import progress_bar
from glc_train.evaluation.report import write_report
from glc_train.evaluation.results import EvaluationError, LeftOut, RunFacts, fingerprint
from glc_train.evaluation.settings import DataSettings, EvaluationSettings, check_qualities
from glc_train.evaluation.video_codecs import ClipCodec, GLCClips, X26xClips
from glc_train.evaluation.video_plots import plot_over_frames, write_side_by_side
from glc_train.evaluation.video_results import SequenceResult, VideoResults
from glc_train.evaluation.video_runner import Clip, evaluate_clip
from glc_train.files import discard
from glc_train.metrics import PictureMetrics
from glc_train.processes import Failure, attempt, in_processes
from glc_train.weights import load_any_codec


@dataclass(frozen=True)
class Job:
    """All that is measured on one clip, and the folder for it."""

    clip: Clip
    qualities: tuple[int, ...]
    out: Path
    settings: EvaluationSettings


def default_qualities(levels: int) -> list[int]:
    """Four qualities spread over all levels; of 64: 0, 21, 42, 63, as published."""
    return sorted({round(k * (levels - 1) / 3) for k in range(4)})


def find_sequences(data: DataSettings) -> list[Clip]:
    """The clips of a data set.

    Raises:
        EvaluationError: no folder is named, nothing is left, or two clips share a name.
        ClipError: the folder is missing or holds no clip.
    """
    root = data.folder()
    every = find_clips(root) if data.size is None else find_clips(root, suffixes=(".yuv",))
    found = [path for path in every if data.only is None or path.stem in data.only]
    if not found:
        raise EvaluationError(f"{root} holds none of the clips asked for: correct data.root or data.only.")
    missing = sorted(set(data.only or ()) - {path.stem for path in found})
    if missing:
        raise EvaluationError(f"{root} has no clip called {', '.join(missing)}: correct data.only.")
    size = None if data.size is None else (data.size[0], data.size[1])
    return [Clip(name, path, data.frames, size) for name, path in zip(labels(found), found, strict=True)]


def load_video(settings: EvaluationSettings) -> VideoCodec:
    """The codec of `settings.ckpt`. Raises EvaluationError where it is none for clips."""
    if settings.ckpt is None:
        raise EvaluationError("No checkpoint was named: give ckpt=FILE.")
    codec = load_any_codec(settings.ckpt, device=settings.torch_device, dtype=settings.dtype)
    if not isinstance(codec, VideoCodec):
        raise EvaluationError(f"{settings.ckpt} holds an image codec: data={settings.data.name} needs a video codec.")
    return codec


def _evaluate_sequence(
    job: Job, codec: VideoCodec, metrics: PictureMetrics, advance: Callable[[], object] = lambda: None
) -> list[SequenceResult]:
    """GLC at every quality, then each baseline at the bytes that GLC took; and the clip to look at."""
    out, clip = job.out, job.clip
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


def _start_worker(
    settings: EvaluationSettings, weights_sha256: str | None, threads: int
) -> Callable[[Job], list[SequenceResult]]:
    torch.set_num_threads(threads)
    assert settings.ckpt is not None
    if fingerprint(settings.ckpt) != weights_sha256:
        raise EvaluationError(f"{settings.ckpt} has changed since the evaluation began: evaluate a copy of it.")
    metrics = PictureMetrics(settings.metrics, settings.torch_device)
    return partial(_evaluate_sequence, codec=load_video(settings), metrics=metrics)


def _measure_all(
    jobs: Sequence[Job], settings: EvaluationSettings, codec: VideoCodec, facts: RunFacts
) -> tuple[list[SequenceResult], list[LeftOut]]:
    """Results in the order of the jobs, and the clips that have none."""
    outcomes: dict[str, list[SequenceResult] | Failure] = {}
    with progress_bar(settings.progress) as bar:
        task = bar.add_task("sequences", total=len(jobs))
        count = min(settings.workers, len(jobs))
        if count > 1:
            start = partial(_start_worker, settings, facts.weights_sha256, max(1, torch.get_num_threads() // count))
            done: Generator[tuple[Job, list[SequenceResult] | Failure], None, None] = in_processes(jobs, count, start)
        else:
            frames = bar.add_task("frames", total=None)
            metrics = PictureMetrics(settings.metrics, settings.torch_device)
            measure = partial(_evaluate_sequence, codec=codec, metrics=metrics, advance=lambda: bar.advance(frames))
            done = ((job, attempt(measure, job)) for job in jobs)
        with closing(done):
            for job, outcome in done:
                outcomes[job.clip.name] = outcome
                bar.advance(task)
    names = [job.clip.name for job in jobs]
    found = {name: outcomes[name] for name in names}
    failed = [LeftOut(name, each.reason) for name, each in found.items() if isinstance(each, Failure)]
    return [result for each in found.values() if not isinstance(each, Failure) for result in each], failed


def run_video_evaluation(settings: EvaluationSettings) -> list[VideoResults]:
    """Evaluate on clips; write ``results.json``, ``results.csv``, plots, the files, and clips to look at.

    Raises:
        EvaluationError, ClipError, WeightsError, BackboneError: each with a sentence that says what to change. Where
            a clip could not be measured, after the results of the others are written.
    """
    data = settings.data
    for name in settings.baselines:
        X26xClips(name, None, {})  # an unknown one is refused before the work
    found = find_sequences(data)
    published = load_published(data.published) if data.published else []
    codec = load_video(settings)
    facts = settings.facts()
    qualities = default_qualities(codec.quality_levels) if settings.qualities is None else settings.qualities
    check_qualities(qualities, codec.quality_levels)
    clips, left_out = readable(found, Clip.check, lambda clip: clip.path.name, settings)
    out = claim_folder(settings, facts)
    jobs = [Job(clip, tuple(qualities), out, settings) for clip in clips]
    measured, failed = _measure_all(jobs, settings, codec, facts)
    for leftover in out.rglob(".writing-*"):  # of a worker that was killed
        discard(leftover)
    results = [
        VideoResults(name, tuple(r for r in measured if r.codec == name)) for name in ("GLC", *settings.baselines)
    ]
    if measured:
        (out / "frames").mkdir(exist_ok=True)
        for name in dict.fromkeys(result.sequence for result in measured):
            plot_over_frames([r for r in measured if r.sequence == name], out / "frames" / f"{name}.png")
        facts = replace(facts, left_out=(*left_out, *failed))
        write_report(out, facts, results, published, settings.metrics, "clips")
    if failed:
        reasons = "; ".join(f"{each.name}: {each.reason}" for each in failed)
        raise EvaluationError(f"{len(failed)} of {len(clips)} clips could not be measured: {reasons}")
    return results
