"""Ten steps of each stage give the losses that they gave before."""

import json
from pathlib import Path

import pytest

from tests.regenerate_golden_curves import COLUMNS, EXPECTED, STEPS, curves, video_curves
from tests.training_harness import STAGES, VIDEO_STAGES

Curves = dict[str, dict[str, dict[int, float]]]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Curves:
    return curves(tmp_path_factory.mktemp("curves") / "out")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Curves:
    return video_curves(tmp_path_factory.mktemp("video_curves") / "out")


def _check(stage: str, measured: Curves) -> None:
    expected = json.loads(Path(EXPECTED).read_text())[stage]
    assert set(expected) == set(COLUMNS[stage])
    assert list(measured[stage]["train/loss"]) == list(range(STEPS)), "a step was not logged"
    for column, values in expected.items():
        assert measured[stage][column] == pytest.approx({int(k): v for k, v in values.items()}, rel=0.02, abs=2e-4), (
            column
        )


@pytest.mark.parametrize("stage", STAGES)
def test_curve_is_as_before(stage: str, image: Curves) -> None:
    _check(stage, image)


@pytest.mark.parametrize("stage", VIDEO_STAGES)
def test_curve_of_the_video_codec_is_as_before(stage: str, video: Curves) -> None:
    _check(stage, video)
