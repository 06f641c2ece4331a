"""The page as a file: what it holds, how large it is, what is said of what is absent, what is refused."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from glc_train.cli import main
from glc_train.report import ReportError, write_page
from tests.report.evaluations import (
    CURVES,
    DETAILS,
    TITLES,
    clips_evaluation,
    picture,
    pictures_evaluation,
    write_results,
)


def data_of(page: Path) -> dict[str, Any]:
    """What the scripts draw."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text("utf-8"), re.DOTALL)
    assert found
    content: dict[str, Any] = json.loads(found[1])
    return content


def test_a_page_holds_everything(tmp_path: Path) -> None:
    page = write_page(tmp_path / "report.html", [pictures_evaluation(tmp_path)], TITLES, CURVES)
    text, data = page.read_text("utf-8"), data_of(page)
    assert "python evaluate.py out=here" in text
    assert "abc1234" in text
    assert not re.search(r'(src|href)="(https?:)?//', text), "nothing is fetched"
    assert [metric["id"] for metric in data["metrics"]] == ["lpips", "psnr"]
    assert [metric["lower"] for metric in data["metrics"]] == [True, False]
    assert [series["label"] for series in data["series"]] == ["GLC", "webp"]
    assert [item["name"] for item in data["items"]] == ["a1", "a2", "a10"]
    assert len(data["media"]) == 3 * (1 + 2 + 2)
    assert all(uri.startswith("data:image/webp;base64,") for uri in data["media"])
    file = data["items"][0]["files"][0]
    assert file["picture"] == {"link": "decoded/q0/a1.png", "media": 1, "divisor": 1}
    assert file["details"]["passes"] == [200, 120, 80, 48.5]
    assert data["published"][0]["name"] == "Paper"
    assert "cannot be shown" not in text


def test_names_cannot_break_the_page(tmp_path: Path) -> None:
    name = "</script><b>&\"'é%"
    page = write_page(
        tmp_path / "report.html", [pictures_evaluation(tmp_path, (name.replace("/", "|"),), dataset=name)], TITLES
    )
    text = page.read_text("utf-8")
    assert text.count("</script>") == 2
    assert "<b>" not in text
    assert data_of(page)["items"][0]["name"] == name.replace("/", "|")
    assert data_of(page)["items"][0]["files"][0]["picture"]["link"].startswith("decoded/q0/%3C")


def test_pictures_get_smaller_until_the_page_fits(tmp_path: Path) -> None:
    names = tuple(f"p{number}" for number in range(5))
    results = pictures_evaluation(tmp_path, names)
    for number, path in enumerate(sorted(tmp_path.rglob("decoded/**/*.png"))):
        Image.fromarray(picture(number, 144, 192)).save(path)
    page = tmp_path / "report.html"
    full = write_page(page, [results], TITLES).stat().st_size
    least = page.stat().st_size - sum(len(uri) for uri in data_of(page)["media"])
    for share in (0.6, 0.2):
        most = int(least + share * (full - least)) + 10_000
        assert write_page(page, [results], TITLES, largest=most).stat().st_size <= most
        divisors = [{f["picture"]["divisor"] or 99 for f in item["files"]} for item in data_of(page)["items"]]
        assert "To keep the page small" in page.read_text("utf-8")
        assert all(len(each) == 1 for each in divisors), "both sides of a comparison are alike"
        # LPIPS grows with the picture's number: best and worst keep most
        assert min(divisors[0]) <= min(divisors[2]) > 1
    with pytest.raises(ReportError, match=r"The figures alone take [\d,]+ bytes of 1,000: allow more"):
        write_page(page, [results], TITLES, largest=1000)


def test_a_page_of_many_pictures_has_fewer_details(tmp_path: Path) -> None:
    results, page = pictures_evaluation(tmp_path), tmp_path / "report.html"
    for path in tmp_path.glob("details/*/*.json"):
        path.write_text(json.dumps(DETAILS | {"map": [[float(number % 7) for number in range(300)]] * 300}))
    write_page(page, [results], TITLES, largest=600_000)
    assert "it has no maps of bits" in page.read_text("utf-8")
    details = data_of(page)["items"][0]["files"][0]["details"]
    assert details["map"] is None
    assert details["passes"] == [200, 120, 80, 48.5]
    assert page.stat().st_size < 600_000


def test_what_is_absent_is_said(tmp_path: Path) -> None:
    results = pictures_evaluation(tmp_path / "there")
    bare = tmp_path / "bare"
    bare.mkdir()
    results.rename(bare / "results.json")
    page = write_page(tmp_path / "report.html", [bare], TITLES)
    text = page.read_text("utf-8")
    assert "12 of 12 decoded pictures do not lie beside the results" in text
    assert "3 of 3 originals do not lie beside the results" in text
    assert data_of(page)["items"][0]["files"][0]["details"] is None


def test_several_evaluations_make_one_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "two"):
        pictures_evaluation(tmp_path / name)
    out = tmp_path / "page.html"
    assert main(["report", str(tmp_path / "one/results.json"), str(tmp_path / "two"), "--out", str(out)]) == 0
    assert str(out) in capsys.readouterr().out
    data = data_of(out)
    assert [each["label"] for each in data["series"]] == ["GLC (one)", "webp (one)", "GLC (two)", "webp (two)"]
    assert len(data["items"]) == 3
    assert [file["series"] for file in data["items"][0]["files"]] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert data["items"][0]["files"][4]["picture"]["link"] == "two/decoded/q0/a1.png"


def test_pictures_of_two_data_sets_are_not_taken_for_one(tmp_path: Path) -> None:
    runs = [pictures_evaluation(tmp_path / name, dataset=name) for name in ("one", "two")]
    data = data_of(write_page(tmp_path / "page.html", runs, TITLES))
    assert [item["name"] for item in data["items"]] == ["a1", "a2", "a10"] * 2
    assert [{file["series"] for file in item["files"]} for item in data["items"]] == [{0, 1}] * 3 + [{2, 3}] * 3


def test_a_folder_of_many_files_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    iterdir = Path.iterdir

    def noted(folder: Path) -> Iterator[Path]:
        read.append(folder)
        return iterdir(folder)

    monkeypatch.setattr(Path, "iterdir", noted)
    write_page(tmp_path / "page.html", [pictures_evaluation(tmp_path)], TITLES)
    assert tmp_path / "decoded/q0" in read
    assert len(read) == len(set(read))


def test_numbers_that_are_none_do_not_break_the_page(tmp_path: Path) -> None:
    results = pictures_evaluation(tmp_path)
    results.write_text(results.read_text().replace('"psnr": 19.0', '"psnr": NaN'))
    page = write_page(tmp_path / "page.html", [results], TITLES)
    assert "NaN" not in page.read_text("utf-8")
    assert "psnr" not in data_of(page)["series"][0]["means"][0]


def test_curves_of_other_pictures_are_pointed_out(tmp_path: Path) -> None:
    folders = [pictures_evaluation(tmp_path / "one"), pictures_evaluation(tmp_path / "two", ("a1",))]
    sentence = "Some curves are of other pictures than others"
    assert sentence in write_page(tmp_path / "page.html", folders, TITLES).read_text("utf-8")
    assert sentence not in write_page(tmp_path / "page.html", folders[:1], TITLES).read_text("utf-8")


def test_clips_are_embedded_as_videos(tmp_path: Path) -> None:
    page = write_page(tmp_path / "report.html", [clips_evaluation(tmp_path)], TITLES)
    data = data_of(page)
    assert not data["stills"]
    assert [uri[:22] for uri in data["media"]] == ["data:video/mp4;base64,"] * 2
    assert data["items"][0]["files"][0]["overFrames"]["lpips"] == [0.1, 0.2, 0.3, 0.2, 0.25]
    assert data["items"][0]["thumbnail"].startswith("data:image/webp")
    small = write_page(page, [tmp_path], TITLES, largest=page.stat().st_size - 2000)
    assert data_of(small)["media"] != data["media"]


def test_what_is_no_evaluation_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "results.json").write_text("{}")
    assert main(["report", str(tmp_path)]) == 1
    assert main(["report", str(tmp_path / "none")]) == 1
    told = capsys.readouterr().err.splitlines()
    assert told[0] == f"glc: {tmp_path}/results.json holds no results of an evaluation: give a results.json."
    assert "none cannot be read (No such file or directory)" in told[1]
    write_results(tmp_path, {"GLC": {"means": [], "pictures": []}})
    with pytest.raises(ReportError, match="holds no picture and no clip"):
        write_page(tmp_path / "report.html", [tmp_path], TITLES)
    with pytest.raises(ReportError, match="some of clips: make a page of each"):
        write_page(tmp_path / "r.html", [pictures_evaluation(tmp_path / "p"), clips_evaluation(tmp_path / "c")], TITLES)
    assert not list(tmp_path.glob("*.html"))
