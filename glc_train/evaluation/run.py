"""A whole evaluation: find pictures or clips, measure the codec and its baselines, compare, write the report."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from glc_train.codecs import ImageCodec, shown_levels
from glc_train.effort import Refiner
from glc_train.evaluation.baselines import AtSettings, Baseline
from glc_train.evaluation.codecs import FileCodec, PictureFiles, WithinBytes, through_files
from glc_train.evaluation.curves import load_published
from glc_train.evaluation.kept import Kept
from glc_train.evaluation.measure import Bench
from glc_train.evaluation.output import SETTINGS, claimed_folder
from glc_train.evaluation.page import write_what_is_shown
from glc_train.evaluation.report import write_report
from glc_train.evaluation.results import CodecResults, EvaluationError, LeftOut, Result, RunFacts
from glc_train.evaluation.sets import EvaluationSet, Item, progress_bar, readable
from glc_train.evaluation.settings import EvaluationSettings, build, check_qualities
from glc_train.files import discard, sha256_of
from glc_train.metrics import PatchFeatures, PictureMetrics, check_patch_count, count_patches, load_inception, source_of
from glc_train.processes import Failure, attempt, in_processes
from glc_train.weights import installed, load_any_codec, located

DEFAULT_RATES = (0.02, 0.03, 0.04, 0.06)
"""Bits per pixel of codecs that code to a number of bytes."""


@dataclass(frozen=True)
class Plan:
    """All that makes a `Bench`, in this process or another."""

    settings: EvaluationSettings
    weights_sha256: str | None = None
    out: Path = Path()
    kept: Kept | None = None

    def load(self) -> Any:
        """The codec under test. Raises WeightsError or EvaluationError where there is none."""
        settings = self.settings
        if settings.codec:
            ((name, section),) = settings.codec.items()
            return build(f"codec.{name}", section)
        codec = load_any_codec(settings.ckpt, settings.torch_device, settings.dtype, settings.trusted)
        codec.limit_memory(settings.memory)
        if settings.effort:
            codec.refiner = Refiner(settings.effort, build("distortion", settings.distortion))
        return codec

    def bench(self, codec: Any) -> Bench:
        """What measures a codec.

        Raises:
            EvaluationError, BackboneError: each with a sentence that says what to change.
        """
        settings, device = self.settings, self.settings.torch_device
        metrics = {name: build(f"metrics.{name}", section) for name, section in settings.metrics.items() if section}
        sections = {name: section for name, section in settings.baselines.items() if section}
        period = getattr(getattr(codec, "gop", None), "intra_period", None)
        baselines = {name: build(f"baselines.{name}", each, intra_period=period) for name, each in sections.items()}
        network = None if settings.inception is None else load_inception(settings.inception)
        under_test, qualities, rates = _rate_points(codec, settings)
        return Bench(
            codec=under_test,
            name=settings.codec_name,
            qualities=qualities,
            rates=rates,
            out=self.out,
            metrics=PictureMetrics(metrics, device),
            baselines={name: through_files(each) for name, each in baselines.items()},
            features=None if network is None else PatchFeatures(network, settings.patch_size, device=device),
            save_pictures=settings.save_pictures,
            kept=self.kept,
        )

    def start(self, threads: int) -> Bench:
        """The bench of a process of its own."""
        torch.set_num_threads(threads)
        ckpt = self.settings.ckpt
        if (ckpt and sha256_of(ckpt)) != self.weights_sha256:
            raise EvaluationError(f"{ckpt} has changed since the evaluation began: evaluate a copy of it.")
        return self.bench(self.load())


def _rate_points(codec: Any, settings: EvaluationSettings) -> tuple[FileCodec, Sequence[int], Sequence[float] | None]:
    """The codec as one of files, the qualities to measure it at, and the rates that they stand for, if they do."""
    qualities, levels = settings.qualities, getattr(codec, "quality_levels", None)
    if settings.rates is not None and qualities is None and isinstance(codec, ImageCodec):
        return PictureFiles(WithinBytes(codec)), range(len(settings.rates)), settings.rates
    if levels is not None:
        if settings.rates is not None:
            raise EvaluationError("rates= is of codecs that code to a number of bytes: this one has qualities=.")
        return through_files(codec), qualities if qualities is not None else shown_levels(levels), None
    if qualities is None:
        rates = settings.rates or DEFAULT_RATES
        return through_files(codec), range(len(rates)), rates
    if settings.rates is not None or not isinstance(codec, Baseline):
        raise EvaluationError(f"qualities={qualities}: give rates= alone, in bits per pixel.")
    return AtSettings(codec), qualities, None


def _check_fit(bench: Bench, items: Sequence[Item], data: EvaluationSet, settings: EvaluationSettings) -> None:
    """Refuses before the work what cannot work. Raises EvaluationError."""
    if all(item.still for item in items):
        return
    single = [
        n for n, each in {bench.name: bench.codec, **bench.baselines}.items() if not getattr(each, "takes_clips", True)
    ]
    if not settings.codec and bench.name in single:
        raise EvaluationError(f"{settings.ckpt} holds an image codec: {data.name} has clips, which need a video codec.")
    if single:
        raise EvaluationError(f"{single[0]} codes single pictures, and {data.name} has clips: leave it out.")
    if bench.features is not None:
        raise EvaluationError(f"FID and KID are of pictures, and {data.name} has clips: leave inception out.")


def _measure_all(items: Sequence[Item], plan: Plan, bench: Bench, own: bool) -> tuple[list[Result], list[LeftOut]]:
    """Results in the order of the items, and the items that have none; `own`: in this process."""
    outcomes: dict[str, list[Result] | Failure] = {}
    count = min(plan.settings.workers, len(items))
    done: Generator[tuple[Item, list[Result] | Failure], None, None]
    with progress_bar(plan.settings.progress) as bar:
        task = bar.add_task("pictures" if items[0].still else "clips", total=len(items))
        if count > 1 and not own:
            done = in_processes(items, count, partial(plan.start, max(1, torch.get_num_threads() // count)))
        else:
            steps = bar.add_task("files" if items[0].still else "frames", total=None)
            measure = replace(bench, advance=lambda: bar.advance(steps))
            done = ((item, attempt(measure, item)) for item in items)
        with closing(done):
            for item, outcome in done:
                outcomes[item.name] = outcome
                bar.advance(task)
    found = {item.name: outcomes[item.name] for item in items}
    failed = [LeftOut(name, each.reason) for name, each in found.items() if isinstance(each, Failure)]
    return [result for each in found.values() if not isinstance(each, Failure) for result in each], failed


def _fingerprint(out: Path, facts: RunFacts, bench: Bench, codec: Any) -> str:
    """Stands for all that results depend on but the pictures: also for the sources of classes of one's own."""
    codecs = [codec, *(getattr(each, "codec", each) for each in bench.baselines.values())]
    parts = {
        type(part) for each in codecs for part in (each.modules() if isinstance(each, torch.nn.Module) else [each])
    }
    sources = sorted(map(repr, map(source_of, parts)))
    return facts.fingerprint("\n".join([(out / SETTINGS).read_text("utf-8"), getattr(codec, "identity", ""), *sources]))


def run_evaluation(settings: EvaluationSettings, codec: Any = None) -> list[CodecResults]:
    """Evaluates; writes `results.json`, `results.csv`, plots, the files, and what was decoded.

    Args:
        settings: what to evaluate.
        codec: evaluated instead of the one that the settings name, always in this process: an `ImageCodec`, a
            `VideoCodec`, a `PictureCodec` or a `FileCodec`; one without `quality_levels` codes to bytes.

    Returns:
        Results of the codec, then of each baseline.

    Raises:
        EvaluationError, PictureError, ClipError, WeightsError, BackboneError: each with a sentence that says what to
            change. Where a picture or clip could not be measured, after the results of the others are written; they
            are kept, and the same evaluation again measures those alone that it lacks.
    """
    data = settings.build_data()
    items = data.items()
    published = load_published(data.published) if data.published else []
    data.check_count(len(items))
    if codec is None and not settings.codec:
        kind: Literal["image", "video"] = "image" if all(item.still for item in items) else "video"
        settings = replace(settings, ckpt=str(located(settings.ckpt) if settings.ckpt else installed(kind)))
    plan = Plan(settings)
    codec_given, codec = codec is not None, codec or plan.load()
    bench = plan.bench(codec)
    _check_fit(bench, items, data, settings)
    if bench.rates is None and (levels := getattr(codec, "quality_levels", None)) is not None:
        check_qualities(bench.qualities, levels)
    facts = settings.facts(data)
    sizes, left_out = readable(items[: settings.limit], settings.strict, settings.progress)
    if left_out:
        data.check_count(len(items) - len(left_out))
    if bench.features is not None and settings.limit is None:
        patches = sum(count_patches(*size, settings.patch_size) for size in sizes.values())
        check_patch_count(data.name, patches, settings.patch_size)
    items = list(sizes)
    notes = tuple(note for each in (codec, *bench.baselines.values()) for note in getattr(each, "notes", ()))
    facts = replace(facts, metrics=bench.sources(), notes=notes)
    with claimed_folder(settings, facts) as out:
        kept = None if codec_given else Kept(out, _fingerprint(out, facts, bench, codec))
        plan = replace(plan, weights_sha256=facts.weights_sha256, out=out, kept=kept)
        measured, failed = _measure_all(items, plan, replace(bench, out=out, kept=kept), own=codec_given)
        for leftover in out.rglob(".writing-*"):  # of a process that was killed
            discard(leftover)
        names = (bench.name, *bench.baselines)
        results = [CodecResults(name, tuple(r for r in measured if r.codec == name)) for name in names]
        if measured:
            write_report(out, replace(facts, left_out=(*left_out, *failed)), results, published)
            known = {result.name for result in measured}
            shown = [item for item in items if item.name in known] if settings.save_pictures else []
            write_what_is_shown(out, shown, results[0], published)
        if kept is not None and not failed:
            kept.forget()
    if failed:
        told = [each.reason if each.reason.startswith(each.name) else f"{each.name}: {each.reason}" for each in failed]
        reasons = "; ".join(reason.removesuffix(".") for reason in told)
        noun = "pictures" if items[0].still else "clips"
        raise EvaluationError(f"{len(failed)} of {len(items)} {noun} could not be measured: {reasons}")
    return results
