"""Evaluations of prepared sets: found by name, verified, and recorded with the hash of their files."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from glc_train.datasets import SETS, DataSetError, Manifest
from glc_train.datasets.manifest import count_samples, record_files, write_manifest
from glc_train.evaluation import EvaluationSettings, load_published, run_evaluation
from glc_train.evaluation.results import EvaluationError
from glc_train.media import write_picture
from tests.evaluation.fake_codec import FakeCodec
from tests.evaluation.sections import metrics
from tests.metrics.rendered import render

BY_NAME = ["kodak", "clic2020", "div2k", "coco30k", "uvg", "mcl_jcv", "hevc_b", "hevc_c", "hevc_d", "hevc_e"]


def settings_for(repository: Path, *overrides: str) -> EvaluationSettings:
    with initialize_config_dir(str(repository / "conf"), version_base="1.3"):
        return EvaluationSettings.from_config(compose("evaluate", [*overrides, "device=cpu", "progress=false"]))


@pytest.fixture
def sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two pictures as a prepared Kodak, with a file beside them that is none of the set's."""
    folder = tmp_path / "sets/kodak"
    for number in range(2):
        write_picture(folder / f"test/p{number}.png", render(48, 64 + number))
    files = record_files(folder, {f"test/p{number}.png": "test" for number in range(2)})
    write_picture(folder / "test/another.png", render(48, 64 + 2))
    described: dict[str, Any] = {"name": "kodak", "version": "1", "licence": "", "frames": False, "drawn": None}
    write_manifest(folder, Manifest(**described, counts=count_samples(files, False), sources=(), files=tuple(files)))
    monkeypatch.setenv("GLC_DATA", str(folder.parent))
    return folder.parent


def kodak(repository: Path, tmp_path: Path, *overrides: str) -> EvaluationSettings:
    settings = settings_for(repository, "data=kodak", "data.test.expected=2", f"out={tmp_path / 'out'}", *overrides)
    settings.metrics = metrics("psnr")
    settings.save_pictures = False
    return settings


@pytest.mark.parametrize("name", BY_NAME)
def test_every_set_by_name_is_one_that_is_prepared(
    repository: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("GLC_DATA", "/none")
    data = settings_for(repository, f"data={name}").build_data()
    assert data.prepared is not None
    prepared, split = data.prepared.split("/")
    assert prepared == name
    assert data.expected == (SETS[name].drawn or SETS[name].count(split))
    assert data.sets == "/none"
    if data.published:
        assert load_published(data.published)
    with pytest.raises(DataSetError, match=f"/none/{name} has no manifest"):
        data.items()


def test_the_files_of_the_manifest_are_evaluated_and_their_hash_is_recorded(
    repository: Path, sets: Path, tmp_path: Path
) -> None:
    settings = kodak(repository, tmp_path)
    run_evaluation(settings, FakeCodec())
    content = json.loads((tmp_path / "out/results.json").read_text())
    assert {each["picture"] for each in content["codecs"]["GLC"]["pictures"]} == {"p0", "p1"}
    assert content["data_sha256"] == settings.build_data().digest
    moved = tmp_path / "moved"
    shutil.move(sets, moved)
    run_evaluation(kodak(repository, tmp_path, f"data.test.sets={moved}"), FakeCodec())  # the same results


def test_a_file_that_differs_ends_it_before_the_work(repository: Path, sets: Path, tmp_path: Path) -> None:
    write_picture(sets / "kodak/test/p1.png", render(48, 64 + 5))
    with pytest.raises(DataSetError, match=r"1 of 2 files are not as prepared: test/p1\.png"):
        run_evaluation(kodak(repository, tmp_path), FakeCodec())
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_named_is_taken_as_it_is(repository: Path, sets: Path, tmp_path: Path) -> None:
    settings = kodak(repository, tmp_path, f"data.test.root={sets / 'kodak'}", "data.test.expected=3")
    assert settings.build_data().digest is None
    assert len(settings.build_data().items()) == 3


def test_where_nothing_is_known_both_ways_are_said(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GLC_DATA", raising=False)
    with pytest.raises(EvaluationError, match=r"give data\.test\.root=FOLDER, or set GLC_DATA .* data prepare kodak"):
        kodak(repository, tmp_path).build_data().items()
