import json
import re
from pathlib import Path
from typing import get_args

import bjontegaard
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glc_train.evaluation import BDRateError, Curve, bd_rate, compare, load_published, published_datasets
from glc_train.evaluation.bd_rate import Method
from glc_train.evaluation.curves import RATES, comparable

METHODS = get_args(Method)

ANCHOR = ([0.021, 0.0246, 0.0291, 0.0332], [24.07, 24.53, 24.92, 25.17])
TEST = ([0.019, 0.0235, 0.028, 0.035, 0.04], [23.9, 24.5, 24.8, 25.3, 25.5])


def test_against_the_bjontegaard_package() -> None:
    expected = bjontegaard.bd_rate(*ANCHOR, *TEST, method="pchip", require_matching_points=False, min_overlap=0)
    result = bd_rate(*ANCHOR, *TEST)
    assert result.percent == pytest.approx(expected, abs=1e-6)
    assert (result.low, result.high) == (24.07, 25.17)
    assert result.share == pytest.approx((25.17 - 24.07) / (25.5 - 23.9))


def curves(count: int) -> st.SearchStrategy[tuple[list[float], list[float]]]:
    """Rates and values that rise with them, by steps that are not far apart."""
    steps = st.lists(st.floats(0.05, 1), min_size=count, max_size=count)
    return st.tuples(steps, steps).map(lambda two: (running_sum(two[0]), running_sum(two[1])))


def running_sum(steps: list[float]) -> list[float]:
    return [sum(steps[: i + 1]) for i in range(len(steps))]


@pytest.mark.parametrize("method", METHODS)
@given(anchor=curves(4), tested=curves(5), falling=st.booleans())
def test_any_two_curves_against_the_bjontegaard_package(
    method: Method, anchor: tuple[list[float], list[float]], tested: tuple[list[float], list[float]], falling: bool
) -> None:
    signs = [[-value for value in values] if falling else values for _, values in (anchor, tested)]
    low, high = max(anchor[1][0], tested[1][0]), min(anchor[1][-1], tested[1][-1])
    if high <= low:
        with pytest.raises(BDRateError, match="do not overlap"):
            bd_rate(anchor[0], signs[0], tested[0], signs[1], method)
        return
    # That package takes metrics that rise with the rate alone.
    expected = bjontegaard.bd_rate(*anchor, *tested, method=method, require_matching_points=False, min_overlap=0)
    result = bd_rate(anchor[0], signs[0], tested[0], signs[1], method)
    assert result.percent == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert (result.low, result.high) == pytest.approx((-high, -low) if falling else (low, high))
    assert result.share == pytest.approx(
        (high - low) / (max(anchor[1][-1], tested[1][-1]) - min(anchor[1][0], tested[1][0]))
    )


def test_another_interpolation_is_refused() -> None:
    with pytest.raises(ValueError, match="by pchip or akima, not cubic"):
        bd_rate(*ANCHOR, *TEST, "cubic")  # type: ignore[arg-type]


@given(st.floats(0.2, 5), st.lists(st.floats(0.01, 1), min_size=2, max_size=6, unique=True))
def test_a_scaled_rate_is_its_own_difference(factor: float, steps: list[float]) -> None:
    rates = running_sum(steps)
    values = [1 - 0.1 * i for i in range(len(steps))]  # falls with the rate, as LPIPS does
    result = bd_rate(rates, values, [factor * rate for rate in rates], values)
    assert result.percent == pytest.approx(100 * (factor - 1), abs=1e-6)
    assert result.share == pytest.approx(1)


def test_the_order_of_points_does_not_matter() -> None:
    rates, values = ANCHOR
    assert bd_rate(rates[::-1], values[::-1], *TEST) == bd_rate(*ANCHOR, *TEST)


@pytest.mark.parametrize(
    ("rates", "values", "message"),
    [
        ([0.1, 0.2], [30, 31], "do not overlap"),
        ([0.1], [24.5], "at least two points"),
        ([0.1, 0.1], [24.2, 24.5], "two points at one rate"),
        ([0.1, 0.2, 0.3], [24.2, 24.5, 24.3], "does not change steadily"),
        ([0.1, 0.2], [24.9, 24.2], "rises with the rate on one"),
        ([0.0, 0.2], [24.2, 24.9], "not positive"),
    ],
)
def test_curves_that_cannot_be_compared_are_refused(rates: list[float], values: list[float], message: str) -> None:
    with pytest.raises(BDRateError, match=message):
        bd_rate(*ANCHOR, rates, values)


def test_published_curves_are_sane() -> None:
    assert published_datasets() == ["clic2020", "div2k", "hevc_b", "kodak", "mcl_jcv", "uvg"]
    for name in published_datasets():
        found = load_published(name)
        assert len({curve.name for curve in found}) == len(found)
        for curve in found:
            assert curve.items
            assert curve.frames == (96 if name in ("hevc_b", "mcl_jcv", "uvg") else None)
            assert curve.rate in RATES
            assert re.search(r"arXiv \d{4}\.\d{5}|ICML", curve.source)
            assert set(curve.metrics) <= {"psnr", "ms_ssim", "lpips", "dists", "fid", "kid"}
            for metric in curve.metrics:
                rates, values = curve.series(metric)
                assert len(rates) >= 3
                assert 0.003 < rates[0] < rates[-1] < 0.16
                assert values == sorted(values, reverse=metric not in ("psnr", "ms_ssim"))
    with pytest.raises(ValueError, match="kodak"):
        load_published("imagenet")


def test_authors_own_results_have_all_metrics_where_the_set_is_large_enough_for_fid() -> None:
    for name in ("clic2020", "div2k"):
        own = {curve.name: curve for curve in load_published(name) if curve.rate == "stated"}
        assert set(own) == {"AEIC-ME", "AEIC-SE", "StableCodec", "MS-ILLM (authors' file)"}
        for curve in own.values():
            assert set(curve.metrics) == {"psnr", "ms_ssim", "lpips", "dists", "fid", "kid"}
            assert "FID" in curve.note


def test_both_accounts_of_one_codec_are_kept_and_their_difference_is_said() -> None:
    clic = {curve.name: curve for curve in load_published("clic2020") if curve.name.startswith("MS-ILLM")}
    (read, own) = clic["MS-ILLM"], clic["MS-ILLM (authors' file)"]
    assert (read.series("fid")[1][-1], own.series("fid")[1][0]) == (6.26, 6.272)
    assert "14.4" in own.note
    assert read.source != own.source


def test_the_curves_are_those_of_the_shared_figures(shared: Path) -> None:
    found = {name: {curve.name: list(curve.points) for curve in load_published(name)} for name in published_datasets()}
    for path in (shared / "published").glob("*.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        for dataset, codecs in content.get("datasets", {path.stem: content.get("codecs")}).items():
            for name, points in codecs.items():
                assert found[dataset][name] == points


def test_curves_of_another_extent_are_left_out_and_it_is_said() -> None:
    published = load_published("kodak")
    ours = Curve("ours", ({"bpp": 0.03, "psnr": 20.0},), items=24)
    assert comparable(ours, published) == (published, None)
    ours = Curve("ours", ours.points, items=2)
    reason = "Published curves are left out: they are of 24 pictures, these results of 2 pictures."
    assert comparable(ours, published) == ([], reason)
    short = Curve("ours", ours.points, items=7, frames=10)
    reason = "Published curves are left out: they are of 7 clips of 96 frames, these results of 7 clips of 10 frames."
    assert comparable(short, load_published("uvg")) == ([], reason)
    assert comparable(short, []) == ([], None)


@pytest.mark.parametrize("dataset", published_datasets())
def test_a_curve_has_a_bd_rate_against_every_published_one_and_metric(dataset: str) -> None:
    published = load_published(dataset)
    for curve in published:
        cheaper = Curve("ours", tuple({**point, "bpp": 0.8 * point["bpp"]} for point in curve.points))
        for method in METHODS:
            found = {entry["metric"]: entry for entry in compare(cheaper, [curve], method)}
            assert set(found) == set(curve.metrics)
            assert [entry["percent"] for entry in found.values()] == pytest.approx([-20] * len(found))
            assert [entry["share"] for entry in found.values()] == pytest.approx([1] * len(found))


def test_published_figures_give_a_saving_over_ms_illm() -> None:
    kodak = {curve.name: curve for curve in load_published("kodak")}
    anchor, tested = kodak["MS-ILLM"].series("lpips"), kodak["GLC-image"].series("lpips")
    negated = [(rates, [-value for value in values]) for rates, values in (anchor, tested)]
    expected = bjontegaard.bd_rate(
        *negated[0], *negated[1], method="pchip", require_matching_points=False, min_overlap=0
    )
    result = bd_rate(*anchor, *tested)
    assert result.percent == pytest.approx(expected, abs=1e-6)
    assert -30 < result.percent < -20
    clic = {curve.name: curve for curve in load_published("clic2020")}
    with pytest.raises(BDRateError, match="do not overlap"):  # their FIDs meet in the single value 6.26
        bd_rate(*clic["MS-ILLM"].series("fid"), *clic["GLC-image"].series("fid"))


def test_curves_leave_unknown_points_out() -> None:
    kodak = {curve.name: curve for curve in load_published("kodak")}["GLC-image"]
    assert kodak.series("psnr") == ([], [])
