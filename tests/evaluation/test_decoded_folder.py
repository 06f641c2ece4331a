"""A folder of pictures that another program decoded goes through the same metrics."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir

from glc_train.evaluation import DecodedFolder, EvaluationError, EvaluationSettings, Result, run_evaluation
from glc_train.evaluation.decoded import read_rates
from glc_train.media import read_picture, write_picture
from glc_train.metrics import psnr
from glc_train.metrics.pictures import to_tensor
from tests.metrics.rendered import coarsen, render

STEPS = {"2": 96, "10": 24}  # rate points, in the order of numbers


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(2):
        picture = render(40 + 8 * number, 64)
        write_picture(f"originals/p{number}.png", picture)
        for point, step in STEPS.items():
            write_picture(f"theirs/{point}/p{number}_decoded.png", coarsen(picture, step))
            coded = Path(f"coded/{point}/p{number}.bin")
            coded.parent.mkdir(parents=True, exist_ok=True)
            coded.write_bytes(bytes(1000 // step + number))


def size(name: str, point: str) -> int:
    return 1000 // STEPS[point] + int(name[1:])


def write_rows(path: str, unit: str, factor: float) -> None:
    keys = [(point, f"p{number}") for point in STEPS for number in range(2)]
    rows = [{"point": point, "picture": f"{name}.png", unit: size(name, point) * factor} for point, name in keys]
    if path.endswith(".json"):
        Path(path).write_text(json.dumps(rows))
    else:
        with open(path, "w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)


def evaluated(repository: Path, *overrides: str) -> tuple[Result, ...]:
    with initialize_config_dir(str(repository / "conf"), version_base="1.3"):
        common = [
            "codec=folder",
            "data=folder",
            "data.test.root=originals",
            "metrics=psnr",
            "out=out",
            "progress=false",
        ]
        config = compose("evaluate", [*common, *overrides])
    (results,) = run_evaluation(EvaluationSettings.from_config(config))
    return results.results


def test_every_rate_point_is_measured_with_the_sizes_of_the_coded_files(repository: Path) -> None:
    results = evaluated(repository, "decoded=theirs", "bits=coded")
    assert [(r.codec, r.name, r.quality) for r in results] == [("folder", f"p{n}", q) for n in (0, 1) for q in (0, 1)]
    for result in results:
        point = list(STEPS)[result.quality]
        assert result.bytes == size(result.name, point)
        pair = (f"originals/{result.name}.png", f"theirs/{point}/{result.name}_decoded.png")
        assert result.scores["psnr"] == pytest.approx(psnr(*(to_tensor(read_picture(p)) for p in pair)).item())
        kept = read_picture(f"out/decoded/q{result.quality}/{result.name}.png")
        np.testing.assert_array_equal(kept, read_picture(pair[1]))
    content = json.loads(Path("out/results.json").read_text())
    assert content["notes"] == ["Rate points are folders of theirs: q0 2, q1 10."]
    assert content["checkpoint"] is None
    timings = json.loads(Path("out/timings.json").read_text())["codecs"]["folder"]
    assert timings["means"][0] == {"quality": 0, "encode_seconds": None, "decode_seconds": None}
    assert not Path("out/files").exists()


@pytest.mark.parametrize(
    ("file", "unit", "factor"), [("a.csv", "bytes", 1), ("a.json", "bits", 8), ("a.csv", "bpp", 0)]
)
def test_sizes_come_from_a_file_in_any_unit(repository: Path, file: str, unit: str, factor: float) -> None:
    write_rows(file, unit, factor or 8 / (40 * 64))
    results = evaluated(repository, "decoded=theirs", f"bits={file}", "limit=1")
    assert [r.bytes for r in results] == [size("p0", point) for point in STEPS]


def test_one_folder_is_one_rate_point_and_sizes_may_lie_in_it(repository: Path) -> None:
    for number in range(2):
        Path(f"theirs/10/p{number}.bin").write_bytes(bytes(7 + number))
    results = evaluated(repository, "decoded=theirs/10", "bits=theirs/10")
    assert [r.bytes for r in results] == [7, 8]


def test_a_missing_picture_is_named_and_the_others_are_kept(repository: Path) -> None:
    Path("theirs/10/p1_decoded.png").unlink()
    with pytest.raises(EvaluationError, match=r"^1 of 2 pictures .*theirs/10 has no file for p1: give it one"):
        evaluated(repository, "decoded=theirs", "bits=coded")
    content = json.loads(Path("out/results.json").read_text())
    assert [p["picture"] for p in content["codecs"]["folder"]["pictures"]] == ["p0", "p0"]


def test_a_picture_of_another_size_is_named_as_it_lies_there(repository: Path) -> None:
    write_picture("theirs/10/p1_decoded.png", render(40, 64))
    with pytest.raises(EvaluationError, match=r"theirs/10/p1_decoded\.png has 64×40 pixels, not 64×48 as p1 "):
        evaluated(repository, "decoded=theirs", "bits=coded")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], r"^codec=folder needs decoded=FOLDER"),
        (["decoded=theirs"], r"^codec=folder needs decoded=FOLDER"),
        (["decoded=nowhere", "bits=coded"], r"^decoded=nowhere is no folder"),
        (["decoded=theirs", "bits=nowhere"], r"^bits=nowhere does not exist"),
        (["codec=glc", "decoded=theirs"], r"give codec=folder with them\.$"),
        (["decoded=theirs", "bits=coded", "qualities=2"], r"from 0 to 1"),
    ],
)
def test_what_is_asked_wrongly_is_one_sentence(repository: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        evaluated(repository, *overrides)
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"p0": 3}', r"is not a list of objects"),
        ("[", r"cannot be read as CSV or JSON"),
        ('[{"picture": "p0"}]', r"^Row 1 of .* needs a picture, and its bytes, bits or bpp"),
        ('[{"picture": "p0", "bytes": "many"}]', r"bytes is 'many' and no positive number"),
        ('[{"picture": "p0", "bytes": -3}]', r"bytes is -3 and no positive number"),
        ('[{"picture": "p0", "bytes": 3}, {"picture": "p0.png", "bytes": 4}]', r"^Row 2 of .* another size"),
    ],
)
def test_a_file_of_sizes_is_read_strictly(content: str, message: str) -> None:
    Path("bits.json").write_text(content)
    with pytest.raises(EvaluationError, match=message):
        read_rates(Path("bits.json"))


def test_pictures_that_change_count_as_other_ones() -> None:
    before = DecodedFolder("theirs", "coded").identity
    assert DecodedFolder("theirs", "coded").identity == before
    write_picture("theirs/2/p0_decoded.png", render(40, 64))
    assert DecodedFolder("theirs", "coded").identity != before


def test_a_file_of_a_picture_with_a_longer_name_is_not_taken(repository: Path) -> None:
    for name in ("p1_b", "p1_b_c"):
        write_picture(f"originals/{name}.png", render(48, 64))
    Path("theirs/2/p1_decoded.png").rename("theirs/2/p1_b_c.png")
    Path("coded/2/p1.bin").rename("coded/2/p1_b_c.bin")
    with pytest.raises(EvaluationError, match=r"2 of 4 pictures .* no file for p1: .* no file for p1_b:"):
        evaluated(repository, "decoded=theirs/2", "bits=coded/2")
