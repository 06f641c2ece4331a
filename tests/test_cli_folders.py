"""`glc` on many files: several inputs, patterns, processes side by side; what it says of them to programs."""

import argparse
import json
import re
import shlex
import subprocess
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest

from glc_train import cli
from glc_train.cli import _parser
from glc_train.cli.completion import SHELLS
from glc_train.cli.examples import EXAMPLES, parsers
from glc_train.cli.jobs import share_of_memory
from glc_train.data import render_picture
from glc_train.media import write_picture
from tests.training_harness import tiny_image


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_image(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of three pictures and a file that is none, in the working folder."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("a.png", "b.png", "deep/c.png")):
        write_picture(Path("in") / name, render_picture(32, 48, seed))
    Path("in/bad.png").write_bytes(b"bad")
    return Path("in")


def glc(weights: Path, *arguments: object) -> int:
    return cli.main([*map(str, arguments), "--weights", str(weights)])


def made(folder: str) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in Path(folder).rglob("*.*")}


def records(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def without_seconds(text: str) -> str:
    return re.sub(r"\d+\.\d\d s", "", text)


def test_processes_side_by_side_make_and_say_the_same_as_one(
    weights: Path, pictures: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    said = {}
    for jobs in (1, 2):
        assert glc(weights, "compress", pictures, "out", "--target-bpp", 0.001, "--overwrite", "--jobs", jobs) == 1
        said[jobs] = [without_seconds(text) for text in capfd.readouterr()], made("out")
    assert said[1] == said[2]
    (out, error), files = said[1]
    assert [line.partition(" ->")[0] for line in out.splitlines()[:3]] == ["in/a.png", "in/b.png", "in/deep/c.png"]
    assert error.index("in/a.png: even the smallest") < error.index("in/bad.png: not a readable picture")
    assert set(files) == {"a.glc", "b.glc", "deep/c.glc"}
    assert glc(weights, "decompress", "out", "back", "--jobs", 2) == 0
    assert set(made("back")) == {"a.png", "b.png", "deep/c.png"}


def test_processes_side_by_side_share_the_memory() -> None:
    assert share_of_memory(4_000_000_000, "auto", 4) == 1_000_000_000
    free = share_of_memory(None, "cpu", 1)
    assert free is None or 0 < (share_of_memory(None, "cpu", 1000) or 0) < free / 100


def test_weights_that_cannot_be_loaded_are_named_once(pictures: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert glc(Path("absent.pth"), "compress", pictures, "out", "--jobs", 2) == 1
    assert capfd.readouterr().err.count("absent.pth") == 1


def test_several_inputs_and_patterns_go_to_one_folder(weights: Path, pictures: Path) -> None:
    assert glc(weights, "compress", "in/[ab].png", "in/deep", "out") == 0
    assert set(made("out")) == {"a.glc", "b.glc", "deep/c.glc"}
    assert glc(weights, "decompress", "out/a.glc", "out/deep/c.glc", "back") == 0
    assert set(made("back")) == {"a.png", "c.png"}


def test_several_inputs_that_would_have_one_name_or_no_folder_are_refused(
    weights: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_picture("other/a.png", render_picture(32, 48, 7))
    for arguments, sentence in (
        (("in/a.png", "other/a.png", "out"), "in/a.png and other/a.png would have one name, a.png: give them to two"),
        (("in/a.png", "in/b.png", "other/a.png"), "other/a.png is a file, but there are several files to read"),
        (("in/*.tif", "out"), "in/*.tif: no such file or folder"),
        (("in", "out", "--jobs", "0"), "--jobs 0: give 1 or more."),
        (("in", "out", "--overwrite", "--skip-existing"), "--overwrite, --skip-existing: give one of them"),
        (("in/a.png", "in/b.png", "clip.glcv"), "clip.glcv: a clip is made of one video or one folder of frames"),
    ):
        assert glc(weights, "compress", *arguments) == 1
        assert capsys.readouterr().err.startswith(f"glc: {sentence}")
    assert not Path("out").exists()


def test_files_that_are_skipped_are_no_failure(
    weights: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pictures / "bad.png").unlink()
    Path("out").mkdir()
    Path("out/a.glc").write_bytes(b"kept")
    assert glc(weights, "compress", pictures, "out") == 1
    Path("out/b.glc").unlink()
    capsys.readouterr()
    assert glc(weights, "compress", pictures, "out", "--skip-existing") == 0
    said = capsys.readouterr()
    assert "1 of 3 files done" in said.out
    assert ", 2 kept" in said.out
    assert "overwrite" not in said.err
    assert glc(weights, "compress", "in/a.png", "out/a.glc", "--skip-existing") == 0
    assert Path("out/a.glc").read_bytes() == b"kept"


def test_json_has_a_line_for_each_file(weights: Path, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("out").mkdir()
    Path("out/b.glc").write_bytes(b"kept")
    assert glc(weights, "compress", pictures, "out", "--json", "--quality", 1) == 1
    done, kept, failed, deep = records(capsys.readouterr().out)
    assert (done["input"], done["output"], done["width"], done["height"]) == ("in/a.png", "out/a.glc", 48, 32)
    assert done["quality"] == 1
    assert done["bytes"] == Path("out/a.glc").stat().st_size
    assert done["bpp"] == pytest.approx(8 * done["bytes"] / (48 * 32), abs=1e-6)
    assert kept == {"input": "in/b.png", "output": "out/b.glc", "kept": True}
    assert failed["error"].startswith("in/bad.png: not a readable picture")
    assert deep["output"] == "out/deep/c.glc"
    assert glc(weights, "decompress", "out/a.glc", "a.png", "--json") == 0
    (back,) = records(capsys.readouterr().out)
    assert back == {**done, "input": "out/a.glc", "output": "a.png", "seconds": back["seconds"]}
    assert cli.main(["info", "out/a.glc", "out/b.glc", str(weights), "--json"]) == 1
    coded, broken, model = records(capsys.readouterr().out)
    assert {name: coded[name] for name in ("width", "height", "quality", "bytes", "bpp")}.items() <= done.items()
    assert (coded["kind"], coded["fingerprint"]) == ("picture", model["fingerprint"])
    assert broken.keys() == {"file", "error"}
    assert model["kind"] == "weights"
    assert cli.main(["weights", "list", "--json"]) == 0
    assert "image" in {each["kind"] for each in records(capsys.readouterr().out)}


def test_quiet_says_what_went_wrong_alone(weights: Path, pictures: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert glc(weights, "compress", "in/a.png", "a.glc", "-q") == 0
    assert capfd.readouterr() == ("", "")
    assert glc(weights, "compress", pictures, "out", "-q") == 1
    out, error = capfd.readouterr()
    assert out == ""
    assert error.splitlines()[0].startswith("glc: in/bad.png: ")
    assert len(error.splitlines()) == 2


def test_every_command_ends_its_help_with_examples_that_parse() -> None:
    parser = _parser()
    assert {each.prog for each in parsers(parser)} == EXAMPLES.keys()
    for prog, text in EXAMPLES.items():
        commands = [part for line in text.strip().splitlines() for part in line.partition(" > ")[0].split(" | ")]
        for command in commands:
            program, *arguments = shlex.split(command)
            assert program == "glc"
            if arguments[-1] != "--help":
                assert callable(resolve_name(parser.parse_args(arguments).does)), (prog, command)
    helped = next(each for each in parsers(parser) if each.prog == "glc compress").format_help()
    assert helped.endswith("  glc compress clip.mp4 clip.glcv\n")


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_completes_every_command(shell: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    (commands,) = (a for a in _parser()._actions if isinstance(a, argparse._SubParsersAction))
    assert all(name in script for name in commands.choices)
    if shell == "bash":
        (tmp_path / "glc").write_text(script)
        ask = f"source {tmp_path / 'glc'}; COMP_WORDS=(glc compress --qua); COMP_CWORD=2; _shtab_glc; echo $COMPREPLY"
        run = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True)
        assert run.stdout == "--quality\n"
