"""Ten steps of each stage give the losses that they gave before."""

import json
from pathlib import Path

import pytest

from tests.regenerate_golden_curves import COLUMNS, EXPECTED, STEPS, curves
from tests.training_harness import STAGES


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, dict[int, float]]]:
    return curves(tmp_path_factory.mktemp("curves") / "out")


@pytest.mark.parametrize("stage", STAGES)
def test_curve_is_as_before(stage: str, measured: dict[str, dict[str, dict[int, float]]]) -> None:
    expected = json.loads(Path(EXPECTED).read_text())[stage]
    assert set(expected) == set(COLUMNS[stage])
    for column, values in expected.items():
        assert measured[stage][column] == pytest.approx({int(k): v for k, v in values.items()}, rel=0.02, abs=2e-4), (
            column
        )


@pytest.mark.parametrize("stage", STAGES)
def test_every_step_was_logged(stage: str, measured: dict[str, dict[str, dict[int, float]]]) -> None:
    assert list(measured[stage]["train/loss"]) == list(range(STEPS))
