"""One page: styles, scripts, data and pictures in a single file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment

from glc_train.files import printable, write_text
from glc_train.report.content import Content
from glc_train.report.runs import ReportError, Run, load_run
from glc_train.report.shots import fit

LARGEST = 10_000_000
"""Bytes of a page, unless another limit is given."""
_SCRIPTS = ("data", "plot", "rates", "stage", "clips", "details", "viewer", "table", "main")
"""Modules of the page, each after those that it imports."""
_SHOWN_APART = ("schema", "bd_rates", "left_out", "notes", "command", "metrics")
_NAMES = {
    "dataset": "Data", "data_sha256": "SHA-256 of the data", "checkpoint": "Weights",
    "weights_sha256": "SHA-256 of the weights", "dtype": "Computed in", "torch": "PyTorch",
}  # fmt: skip


def write_page(
    path: Path,
    results: Sequence[str | Path],
    titles: Mapping[str, str],
    published: Sequence[dict[str, Any]] = (),
    largest: int = LARGEST,
) -> Path:
    """Write a page of one or several evaluations.

    Args:
        path: of the page, whose links to files are relative to it.
        results: `results.json` of each, or the folder; pictures and details are taken from what lies beside it.
        titles, published: see `Content`.
        largest: bytes that the page may have; pictures are made smaller to keep to that.

    Returns:
        `path`.

    Raises:
        ReportError: no results, some of pictures and some of clips, or more figures than fit into the page.
        OSError: it cannot be written.
    """
    runs = [load_run(each) for each in results]
    if not runs:
        raise ReportError("There is nothing to report on: name at least one results.json.")
    if len({run.stills for run in runs}) > 1:
        raise ReportError("Some of these results are of pictures and some of clips: make a page of each.")
    content = Content(runs, titles, published, path)
    for content.depth in (2, 1, 0):  # at most half of the page is for what is no picture
        bare = len(printable(_render(content, content.as_dict(()), ())).encode())
        if bare <= largest // 2:
            break
    room = largest - bare - 200 * len(content.shots)  # which name their sizes
    if room < 0:
        raise ReportError(f"The figures alone take {bare:,} bytes of {largest:,}: allow more.")
    embedded = fit(content.shots, content.order, room)
    write_text(path, _render(content, content.as_dict(embedded), [each.divisor if each else None for each in embedded]))
    return path


def _render(content: Content, data: dict[str, Any], divisors: Sequence[int | None]) -> str:
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["figure"] = lambda value: f"{value:.{2 if abs(value) >= 10 else 4}f}"
    return environment.from_string(_asset("page.html")).render(
        title=content.title,
        runs=[_run(run, label) for run, label in zip(content.runs, content.labels, strict=True)],
        several=len(content.runs) > 1,
        stills=content.stills,
        noun="pictures" if content.stills else "clips",
        absences=list(_absences(content, divisors)),
        unequal=_unequal(content),
        metrics=content.metrics,
        series=data["series"],
        published=content.published,
        bd_rates=[entry for run in content.runs for entry in run.facts.get("bd_rates") or []],
        titles=content.titles,
        style=_asset("page.css"),
        script="\n".join(_script(name) for name in _SCRIPTS),
        # "<" could end the element
        data=json.dumps(data, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c"),
    )


def _asset(name: str) -> str:
    return (resources.files("glc_train.report") / "assets" / name).read_text("utf-8")


def _script(name: str) -> str:
    """A module as a block of the one script that the page has; `modules` holds what it gives to others."""
    text = _asset(f"{name}.js")
    text = re.sub(r'^import (\{[^}]*\}) from "\./(\w+)\.js";$', r"const \1 = modules.\2;", text, flags=re.MULTILINE)
    given = re.findall(r"^export (?:const|function|class) (\w+)", text, flags=re.MULTILINE)
    text = re.sub(r"^export ", "", text, flags=re.MULTILINE)
    return f"{{ // {name}.js\n{text}modules.{name} = {{ {', '.join(given)} }};\n}}"


def _run(run: Run, label: str) -> dict[str, Any]:
    """How it was made, for people."""
    facts, rows = run.facts, []
    for name, value in facts.items():
        if name in _SHOWN_APART or value in (None, "", [], {}):
            continue
        words = Path(value).name if name == "checkpoint" else _words(value)  # folders above it concern nobody
        rows.append((_NAMES.get(name, name.replace("_", " ").capitalize()), words))
    return {
        "label": label,
        "command": facts.get("command"),
        "facts": rows,
        "metrics": {name: _source(value) for name, value in (facts.get("metrics") or {}).items()},
        "notes": facts.get("notes") or [],
        "left_out": [f"{each['name']}: {each['reason']}" for each in facts.get("left_out") or []],
    }


def _source(metric: dict[str, Any]) -> str:
    """Where a metric comes from, or why there is none."""
    reason = metric.get("reason")
    return f"not measured: {reason}" if reason else _words({k: v for k, v in metric.items() if k != "missing"})


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_words(each)}" for name, each in value.items() if each not in (None, "", [], {}))
    return ", ".join(map(_words, value)) if isinstance(value, list) else str(value)


def _unequal(content: Content) -> str:
    """A sentence where curves are of different pictures or clips, so that their means do not compare."""
    sets = {
        frozenset((run.facts.get("dataset"), coded.name) for coded in series.coded) for run, _, series in content.series
    }
    noun = "pictures" if content.stills else "clips"
    return f"Some curves are of other {noun} than others: do not compare their means." if len(sets) > 1 else ""


def _absences(content: Content, divisors: Sequence[int | None]) -> Iterator[str]:
    """Sentences on what the page lacks."""
    noun = "pictures" if content.stills else "clips"
    files = [coded for each in content.items.values() for _, coded in each]
    if content.left_out:
        yield f"{content.left_out} middling {noun} are not listed; the means count them."
    if content.depth < 2:
        what = "maps of bits" if content.depth else "details of where the bytes go"
        yield f"To keep the page small, it has no {what}; they are in the files of details/ beside the results."
    if missing := sum(coded.decoded is None for coded in files):
        yield f"{missing} of {len(files)} decoded {noun} do not lie beside the results, so they cannot be shown."
    if missing := sum(all(c.original is None for _, c in each) for each in content.items.values()):
        yield f"{missing} of {len(content.items)} originals do not lie beside the results, so they cannot be shown."
    if smaller := sum(each is not None and each > 1 for each in divisors):
        yield f"To keep the page small, {smaller} {noun} are stored with fewer pixels; those that differ most are not."
    if gone := sum(each is None for each in divisors):
        yield f"To keep the page small, {gone} {noun} are only linked."
