"""`glc plot`: from files of results to plots and tables, and CompressAI's format."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from glc_train import cli
from glc_train.evaluation import Curve, EvaluationError, load_published
from glc_train.evaluation.rate_plot import _figure, plot_rate_distortion
from glc_train.evaluation.result_files import read_results, write_compressai
from glc_train.evaluation.tables import Table, bd_table, rate_table

POINTS = [(0.02, 19.0, 0.28), (0.03, 19.5, 0.25), (0.04, 20.0, 0.22)]


def results_file(path: Path, items: int = 24, dataset: str = "kodak", **changes: Any) -> Path:
    """A `results.json` with a codec and a baseline."""
    means = [
        {
            "quality": q,
            "pictures": items,
            "bpp": bpp,
            "psnr": psnr,
            "lpips": lpips,
            "fid": None,
            "estimated_bpp": 0.9 * bpp,
        }
        for q, (bpp, psnr, lpips) in enumerate(POINTS)
    ]
    worse = [mean | {"bpp": 1.5 * float(str(mean["bpp"])), "estimated_bpp": None} for mean in means]
    codecs = {"GLC": {"means": means, "pictures": []}, "webp": {"means": worse, "pictures": []}}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"schema": 2, "dataset": dataset, "codecs": codecs} | changes))
    return path


def test_one_command_makes_plots_and_tables_that_are_the_same_bytes_each_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(results_file(tmp_path / "run" / "results.json"))
    names = [f"rate_distortion.{suffix}" for suffix in ("png", "svg", "pdf")] + ["tables.md", "tables.tex"]
    for out in ("one", "two"):
        assert cli.main(["plot", path, "--published", "--metric", "lpips", "--out", str(tmp_path / out)]) == 0
        assert capsys.readouterr().out.split() == [str(tmp_path / out / name) for name in names]
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
    with Image.open(tmp_path / "one" / names[0]) as plot:
        assert min(plot.size) > 400
    svg, pdf = ((tmp_path / "one" / name).read_bytes() for name in names[1:3])
    assert b"dc:date" not in svg
    assert b"<text" not in svg, "outlines need no font"
    assert b"CreationDate" not in pdf
    assert re.search(rb"/FontFile2 ", pdf), "TrueType, embedded"
    markdown = (tmp_path / "one" / "tables.md").read_text()
    assert "| GLC | bytes on disk | 0.0200 | 0.2800 |" in markdown
    assert "| GLC | webp | LPIPS | -33.3% | 0.2200 to 0.2800 | 100.0% |" in markdown
    assert "| StableCodec | rate as stated |" in markdown
    assert "- StableCodec: Zhang et al." in markdown
    assert "No BD-rate of GLC against VTM at equal LPIPS: The curves do not overlap" in markdown


def test_a_subset_is_plotted_without_the_published_curves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = results_file(tmp_path / "results.json", items=2)
    assert cli.main(["plot", str(path), "--published", "--out", str(tmp_path)]) == 0
    assert "they are of 24 pictures, these results of 2 pictures" in capsys.readouterr().out
    assert "StableCodec" not in (tmp_path / "tables.md").read_text()


def test_curves_of_several_files_are_told_apart(tmp_path: Path) -> None:
    paths = [results_file(tmp_path / name / "results.json") for name in ("small", "base")]
    theirs = tmp_path / "hyperprior.json"
    write_compressai(Curve("mbt2018", ({"bpp": 0.03, "psnr": 21.0}, {"bpp": 0.05, "psnr": 22.0})), theirs)
    assert cli.main(["plot", *map(str, [*paths, theirs]), "--out", str(tmp_path), "--to-compressai"]) == 0
    markdown = (tmp_path / "tables.md").read_text()
    for name in ("GLC (small)", "GLC (base)", "webp (small)", "mbt2018 (hyperprior)"):
        assert f"| {name} | bytes on disk |" in markdown
    assert "| GLC (small) | GLC (base) | PSNR | +0.0% |" in markdown
    assert json.loads((tmp_path / "GLC_small_.compressai.json").read_text())["results"]["psnr-rgb"] == [
        19.0,
        19.5,
        20.0,
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.json", "--metric", "vmaf"], r"No curve has the metric vmaf: choose among lpips, psnr\."),
        (["a.json", "other.json"], r"a\.json is of kodak and other\.json of folder: plot them apart\."),
        (["a.json", "two.json"], r"two\.json of 2 pictures: evaluate both on the same\."),
        (["other.json", "--published"], "There are no published curves for 'folder': choose among clic2020"),
        (["theirs.json", "--published"], "name it with --dataset"),
        (["notes.json"], r"notes\.json holds no results: give a results\.json"),
        (["photo.png"], r"photo\.png holds no results"),
        (["uneven.json"], r"uneven\.json has lists of different lengths"),
        (["rates.json"], r"rates\.json has rates alone"),
        (["missing.json"], r"missing\.json: No such file"),
    ],
)
def test_what_cannot_be_plotted_is_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    results_file(Path("a.json"))
    results_file(Path("two.json"), items=2)
    results_file(Path("other.json"), dataset="folder")
    Path("notes.json").write_text('{"results": 3}')
    Path("photo.png").write_bytes(b"\x89PNG\xff")
    Path("theirs.json").write_text(json.dumps({"name": "x", "results": {"bpp": [0.1], "psnr-rgb": [20]}}))
    Path("uneven.json").write_text(json.dumps({"name": "x", "results": {"bpp": [0.1], "psnr-rgb": [20, 21]}}))
    Path("rates.json").write_text(json.dumps({"name": "x", "results": {"bpp": [0.1]}}))
    assert cli.main(["plot", *arguments, "--out", "plots"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(message, error)
    assert not Path("plots").exists()


def test_results_of_clips_know_their_frames(tmp_path: Path) -> None:
    means = [{"quality": 0, "sequences": 7, "bpp": 0.01, "kbps": 20.0, "psnr": 30.0, "flicker": 0.1}]
    rows = {f"c{n}": {"0": {"frames": 96}} for n in range(7)}
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"dataset": "uvg", "codecs": {"GLC": {"means": means, "sequences": rows}}}))
    (curve,) = read_results(path).curves
    assert (curve.items, curve.frames, curve.extent) == (7, 96, "7 clips of 96 frames")
    assert curve.points == ({"bpp": 0.01, "psnr": 30.0},)
    rows["c1"]["0"]["frames"] = 10
    path.write_text(json.dumps({"dataset": "uvg", "codecs": {"GLC": {"means": means, "sequences": rows}}}))
    assert read_results(path).curves[0].extent == "7 clips"


def test_compressais_own_results_are_read(tmp_path: Path) -> None:
    content = {
        "name": "bmshj2018-factorized",
        "description": "Inference (ans)",
        "results": {
            "psnr-rgb": [25.0, 26.0], "ms-ssim-rgb": [0.8, 0.9], "bpp": [0.1, 0.2], "encoding_time": [1, 1],
            "decoding_time": [1, 1],
        },
    }  # fmt: skip
    path = tmp_path / "x.json"
    path.write_text(json.dumps(content))
    (curve,) = read_results(path).curves
    assert (curve.name, curve.rate) == ("bmshj2018-factorized", "strings")
    assert curve.points == ({"bpp": 0.1, "psnr": 25.0, "ms_ssim": 0.8}, {"bpp": 0.2, "psnr": 26.0, "ms_ssim": 0.9})
    path.write_text(json.dumps(content | {"description": "Inference (entropy estimation)"}))
    assert read_results(path).curves[0].rate == "estimated"


@pytest.mark.parametrize("dataset", ["kodak", "uvg"])
def test_a_curve_survives_compressais_format(tmp_path: Path, dataset: str) -> None:
    for curve in load_published(dataset):
        write_compressai(curve, tmp_path / "x.json")
        (again,) = read_results(tmp_path / "x.json").curves
        assert (again.name, again.rate, again.points) == (curve.name, curve.rate, curve.points)


@given(st.text(max_size=30))
def test_any_text_stays_in_its_cell(text: str) -> None:
    table = Table("title", ("head", "number"), ((text, "1"),), 1)
    latex = table.latex().split("\n\\midrule\n")[1].split(" \\\\\n\\bottomrule")[0]
    assert len(re.findall(r"(?<!\\)&", latex.replace("\\\\", ""))) == 1
    assert not re.search(r"(?<!\\)[#_%]", latex)
    rows = table.markdown().removesuffix("\n").split("\n")
    assert len(re.findall(r"(?<!\\)\|", rows[-1].replace("\\\\", ""))) == 3


def test_a_table_of_bd_rates_keeps_negative_overlaps_and_says_the_method() -> None:
    entry = {
        "codec": "a",
        "anchor": "b",
        "metric": "kid",
        "percent": -12.34,
        "low": -0.001,
        "high": 0.002,
        "share": 0.004,
    }
    table = bd_table([entry], "akima")
    assert table.rows == (("a", "b", "KID", "-12.3%", "-0.00100 to 0.00200", "0.4%"),)
    assert "AKIMA" in table.title


def test_a_table_leaves_out_points_without_a_value() -> None:
    curve = Curve("a", ({"bpp": 0.2, "psnr": 30.0}, {"bpp": 0.1, "own": 3.0}))
    assert rate_table([curve], ["psnr"]).rows == (("a", "bytes on disk", "0.2000", "30.00"),)
    assert rate_table([curve], ["psnr", "own"]).rows[0] == ("a", "bytes on disk", "0.1000", "–", "3")


def test_a_name_may_hold_any_signs(tmp_path: Path) -> None:
    curve = Curve("a$b_{c}$ \udcff", ({"bpp": 0.1, "own": 1.0},))
    plot_rate_distortion([curve], [], tmp_path / "plot.svg", "50 $ & more $")
    assert b"<svg" in (tmp_path / "plot.svg").read_bytes()


def test_the_legend_stays_on_the_page(tmp_path: Path) -> None:
    curves = [
        Curve(f"codec {k} of a folder with quite a long name, 1a2b3c4d", ({"bpp": 0.1, "own": 1.0},)) for k in "abcde"
    ]
    figure = _figure(curves, [], "", ["own", "own"])
    figure.canvas.draw()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width


def test_results_in_the_repository_are_read(repository: Path) -> None:
    found = sorted((repository / "results").glob("*/*/results.json"))
    assert found
    for path in found:
        file = read_results(path.parent)  # the folder does as well
        assert file == read_results(path)
        assert file.curves
        assert all(curve.items and set(curve.metrics) >= {"psnr", "lpips", "dists"} for curve in file.curves)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 30) | st.floats() | st.sampled_from(["", "psnr", "1"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["means", "bpp", "psnr", "psnr-rgb", "pictures", "sequences", "frames", "name", "results", "x"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(content=_JSON, key=st.sampled_from(["codecs", "results"]))
def test_any_json_is_results_or_refused(tmp_path_factory: pytest.TempPathFactory, content: Any, key: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps({"name": "n", "dataset": "d", key: content}))
    try:
        file = read_results(path)
    except EvaluationError:
        return
    assert all(point["bpp"] > 0 for curve in file.curves for point in curve.points)
    assert all(math.isfinite(value) for curve in file.curves for point in curve.points for value in point.values())


def test_figures_that_are_no_numbers_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(
        '{"name": "x", "results": {"bpp": [0.1, 0.2], "psnr-rgb": [20, Infinity], "mse": [1, NaN]}}'
    )
    assert read_results(tmp_path / "x.json").curves[0].points == ({"bpp": 0.1, "psnr": 20, "mse": 1}, {"bpp": 0.2})


def test_a_file_that_cannot_be_read_names_itself(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[1, 2]")
    with pytest.raises(EvaluationError, match=r"x\.json holds no results"):
        read_results(tmp_path / "x.json")
