import bjontegaard
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glc_train.evaluation import BDRateError, bd_rate, load_published, published_datasets

ANCHOR = ([0.021, 0.0246, 0.0291, 0.0332], [24.07, 24.53, 24.92, 25.17])
TEST = ([0.019, 0.0235, 0.028, 0.035, 0.04], [23.9, 24.5, 24.8, 25.3, 25.5])


def test_against_the_bjontegaard_package() -> None:
    expected = bjontegaard.bd_rate(*ANCHOR, *TEST, method="pchip", require_matching_points=False, min_overlap=0)
    result = bd_rate(*ANCHOR, *TEST)
    assert result.percent == pytest.approx(expected, abs=1e-6)
    assert (result.low, result.high) == (24.07, 25.17)
    assert result.share == pytest.approx((25.17 - 24.07) / (25.5 - 23.9))


@given(st.floats(0.2, 5), st.lists(st.floats(0.01, 1), min_size=2, max_size=6, unique=True))
def test_a_scaled_rate_is_its_own_difference(factor: float, steps: list[float]) -> None:
    rates = [sum(steps[: i + 1]) for i in range(len(steps))]
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
    assert published_datasets() == ["clic2020", "div2k", "kodak", "video"]
    for name in ("clic2020", "div2k", "kodak", "video/uvg", "video/mcl_jcv", "video/hevc_b"):
        for curve in load_published(name):
            rates, values = curve.series("fid" if curve.name == "MS-ILLM" and name == "clic2020" else "dists")
            assert len(rates) >= 3
            assert 0.004 < rates[0] < rates[-1] < 0.05
            assert values == sorted(values, reverse=True)
            assert "arXiv" in curve.note
    with pytest.raises(ValueError, match="kodak"):
        load_published("imagenet")
    with pytest.raises(ValueError, match="video/uvg"):
        load_published("video")


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
