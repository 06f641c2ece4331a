"""What an evaluation is asked to do: options of every kind, taken or refused with their name."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir

from glc_train.evaluation import EvaluationError, EvaluationSettings
from tests.evaluation.sections import baselines, metrics, pictures


def settings_of(repository: Path, *overrides: str) -> EvaluationSettings:
    with initialize_config_dir(str(repository / "conf"), version_base="1.3"):
        return EvaluationSettings.from_config(compose("evaluate", list(overrides)))


@pytest.mark.parametrize(
    ("override", "name", "value"),
    [
        ("qualities=0", "qualities", [0]),
        ("qualities=[0,2]", "qualities", [0, 2]),
        ("metrics=psnr", "metrics", metrics("psnr")),
        ("metrics=[]", "metrics", {}),
        ("baselines=x264", "baselines", baselines("x264")),
        ("ckpt=7", "ckpt", "7"),
        ("limit=3", "limit", 3),
    ],
)
def test_one_value_stands_for_a_list(repository: Path, override: str, name: str, value: Any) -> None:
    assert getattr(settings_of(repository, override), name) == value


@pytest.mark.parametrize(
    ("override", "name", "value"),
    [
        ("data.test.only=[1]", "only", ["1"]),
        ("data.test.only=reach", "only", ["reach"]),
        ("data.test.only=null", "only", None),
        ("data.test.size=[416,240]", "size", [416, 240]),
        ("data.test.root=2024", "root", "2024"),
    ],
)
def test_numbers_name_clips_and_folders(repository: Path, override: str, name: str, value: Any) -> None:
    assert getattr(settings_of(repository, "data=clips", override).build_data(), name) == value


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["qualities=[0.5]"], r"^qualities\[0\]: Value '0.5' of type 'float' could not be converted to Integer\.$"),
        (["qualities=low"], r"^qualities\[0\]: Value 'low'"),
        (["limit=few"], "^limit: Value 'few'"),
        (["limit=-1"], "^limit=-1: give 1 or more"),
        (["workers=0"], "^workers=0: give 1 or more"),
        (["strict=perhaps"], "^strict: Value 'perhaps' is not a valid bool"),
        (["ckpt=[a,b]"], "^ckpt: Cannot convert"),
        (["+option=1"], "^option: there is no such option"),
        (["+data.test.option=1"], r"^data\.test\.option: there is no such option"),
        (["device=gpu"], r"^device=gpu: not usable here \(no such device\); give cpu, cuda or auto\.$"),
        (["data=clips", "data.test.frames=0"], r"^data\.test\.frames=0: give 1 or more"),
        (["data=clips", "data.test.size=416"], r"^data\.test\.size=\[416\]: give '\[WIDTH,HEIGHT\]'"),
        (["data=clips", "data.test.only=[]"], r"^data\.test\.only=\[\] leaves no clip"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_does_not_fit_is_refused_by_its_name(repository: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        settings_of(repository, *overrides).build_data()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_cuda_is_one_sentence() -> None:
    with pytest.raises(EvaluationError, match=r"^device=cuda: not usable here \(.+\); give cpu, cuda or auto\.$"):
        EvaluationSettings(pictures("."), device="cuda")
