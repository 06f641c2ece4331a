"""What is missing in results, and why: for programs in `results.json`, for people in sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

from glc_train.evaluation.results import STANDARD_SCORES, CodecResults, Gap, MetricFacts, Result
from glc_train.files import printable
from glc_train.metrics import SMALLEST_SIDES, MetricSource

FIGURES = {
    "bpp": "bpp", "kbps": "kbit/s", "estimated_bpp": "estimate", "ideal_bpp": "ideal bpp", "psnr": "PSNR",
    "ms_ssim": "MS-SSIM", "lpips": "LPIPS", "lpips_vgg": "LPIPS-VGG", "dists": "DISTS", "fid": "FID", "kid": "KID",
    "vmaf": "VMAF",
}  # fmt: skip
"""Figures as they are called in tables and sentences; another one's name is its title."""
DISTRIBUTION = ("fid", "kid")
"""Metrics of all pictures together."""
_NOT_ASKED = "it is not among metrics="
_NO_INCEPTION = "inception= was not given, whose network it needs"
_SHOWN = 5  # names in one sentence


def metric_facts(sources: Mapping[str, MetricSource], codecs: Sequence[CodecResults]) -> dict[str, MetricFacts]:
    """The metrics of results, with those that every result has a column for.

    Args:
        sources: where they come from, by the names of their figures.
        codecs: at least one, with results.
    """
    unknown = MetricSource(None, None, None)
    measured = list(codecs[0].results[0].scores)
    facts = {name: MetricFacts(None, None, None, reason=_NOT_ASKED) for name in STANDARD_SCORES if name not in measured}
    if codecs[0].stills:
        measured += [name for name in DISTRIBUTION if name in sources]
        facts |= {
            name: MetricFacts(None, None, None, reason=_NO_INCEPTION) for name in DISTRIBUTION if name not in sources
        }
    for name in measured:
        source = sources.get(name, unknown)
        gaps = tuple(gap for each in codecs for gap in _gaps(name, each, source.reason))
        count = sum(len(gap.results) for gap in gaps)
        reasons = {gap.reason for gap in gaps}
        all_missing = len(reasons) == 1 and count == sum(len(list(_values(name, each))) for each in codecs)
        facts[name] = MetricFacts(**asdict(source) | {"reason": reasons.pop() if all_missing else None}, missing=gaps)
    return dict(sorted(facts.items()))


def _values(metric: str, codec: CodecResults) -> Iterator[tuple[str | None, int, float | None, str]]:
    """Picture or clip (None: all), quality, figure, and why it would be none."""
    if metric in DISTRIBUTION:
        for mean in codec.means:
            few = (mean.figures["patches"] or 0) < 2
            why = "there are fewer than two patches" if few else "features of patches are not finite"
            yield None, mean.quality, mean.figures[metric], why
    else:
        for result in codec.results:
            yield result.name, result.quality, result.scores[metric], _why_none(metric, result)


def _why_none(metric: str, result: Result) -> str:
    side = SMALLEST_SIDES.get(metric, 0)
    if min(result.height, result.width) < side:
        return f"it takes {side} pixels on each side"
    if metric == "vmaf" and result.fps is None:
        return "it is of clips"
    return "a clip of one frame has none" if metric == "flicker" else "the metric gave none"


def _gaps(metric: str, codec: CodecResults, reason: str | None) -> list[Gap]:
    found: dict[str, list[tuple[str | None, int]]] = {}
    for name, quality, value, why in _values(metric, codec):
        if value is None:
            found.setdefault(reason or why, []).append((name, quality))
        elif not math.isfinite(value):
            equal = ", as it is of equal pictures" if metric == "psnr" else ""
            found.setdefault(f"it is not finite{equal}", []).append((name, quality))
    return [Gap(codec.codec, reason, tuple(results)) for reason, results in found.items()]


def explain_gaps(codecs: Sequence[CodecResults], metrics: Mapping[str, MetricFacts]) -> list[str]:
    """One sentence for each metric that some picture or clip lacks, and for all figures that are not finite."""
    notes = []
    for name, facts in metrics.items():
        if facts.reason is not None and facts.missing:
            notes.append(f"No {FIGURES.get(name, name)}: {facts.reason}.")
        else:
            notes += [_sentence(name, gap) for gap in facts.missing]
    return [*notes, *(note for each in codecs for note in _rates_not_finite(each, metrics))]


def explain_misses(codecs: Sequence[CodecResults]) -> list[str]:
    """One sentence for each codec that has no file as small as asked for, of some picture or clip at some rate."""
    notes = []
    for codec in codecs:
        noun, missed = "pictures" if codec.stills else "clips", []
        for quality in dict.fromkeys(each.quality for each in codec.results):
            pairs = [(r, r.target_bytes) for r in codec.results if r.quality == quality and r.target_bytes is not None]
            if count := sum(result.bytes > target for result, target in pairs):
                bpp = sum(result.bpp / result.bytes * target for result, target in pairs) / len(pairs)
                missed.append(f"for {count} of {len(pairs)} {noun} at {bpp:.2g} bpp")
        if missed:
            notes.append(f"{codec.codec}: even its smallest file is above the target {', '.join(missed)}.")
    return notes


def _sentence(figure: str, gap: Gap) -> str:
    qualities: dict[str, list[int]] = {}
    for name, quality in gap.results:
        qualities.setdefault(name or "all", []).append(quality)
    names = [f"{printable(name)} q{','.join(map(str, each))}" for name, each in qualities.items()]
    more = len(names) - _SHOWN
    listed = ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
    return f"{FIGURES.get(figure, figure)} of {gap.codec} is null for {listed}, and in the means: {gap.reason}."


def _rates_not_finite(codec: CodecResults, metrics: Mapping[str, MetricFacts]) -> Iterator[str]:
    for figure in (name for name in codec.results[0].figures() if name not in metrics):
        values = {(each.name, each.quality): each.figures()[figure] for each in codec.results}
        bad = tuple(key for key, value in values.items() if value is not None and not math.isfinite(value))
        if bad:
            yield _sentence(figure, Gap(codec.codec, "it is not finite", bad))
