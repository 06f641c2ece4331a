"""Programs with Hydra's command line: one sentence for what is wrong, exit codes, and quoting that works."""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from torch.utils.data import DataLoader

from glc_train.command_line import explain, null_groups, quoted

PROGRAM = """
import os, signal
from glc_train import interruption
from glc_train.command_line import program

@program("conf", "config")
def main(config):
    if config.do == "signal":
        os.kill(os.getpid(), config.number)
    if config.do == "mistake":
        raise RuntimeError("a mistake in the program")
    if config.do == "unpack":
        one, two = [1]
    if config.do == "refuse":
        raise OSError("that is not wanted")
    print(config.path, os.environ.get("HYDRA_FULL_ERROR") == "1")

if __name__ == "__main__":
    interruption.unwind()
    main()
"""
CONFIG = """
defaults: [_self_, data: one]
do: nothing
path: null
number: 15
hydra: {output_subdir: null, run: {dir: .}, sweep: {dir: sweeps}}
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("program")
    (folder / "conf/data").mkdir(parents=True)
    (folder / "conf/config.yaml").write_text(CONFIG)
    for name in ("one", "two"):
        (folder / f"conf/data/{name}.yaml").write_text("{root: null, _target_: null}\n")
    (folder / "script.py").write_text(PROGRAM)
    return folder / "script.py"


def run(script: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {k: v for k, v in os.environ.items() if k != "HYDRA_FULL_ERROR"} | environment
    return subprocess.run(
        [sys.executable, script, *arguments],
        cwd=script.parent, env=variables, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["paht=x"], "paht: there is no such option; perhaps path is meant."),
        (["data.rot=x"], "data.rot: there is no such option; perhaps data.root is meant."),
        (["data.target=x"], "data.target: there is no such option; perhaps data.root is meant."),
        (["data=tow"], "data=tow: there is none; perhaps two is meant."),
        (["data=elsewhere"], "data=elsewhere: there is none; choose among one, two."),
        (["path=a b=c.ckpt"], "path=a b=c.ckpt: quotes, brackets, commas, = and some other signs mean something here; "
                              "for a value that has them give 'path=\"a b=c.ckpt\"'."),
        (["path"], "path: no option and value; give OPTION=VALUE."),
        (["path=a,b"], "path=a,b: several values; give a list as 'path=[a,b]', one value that has a comma as "
                       "'path=\"a,b\"', and add -m for a run with each of them."),
        (["path=${nowhere}"], "path: Interpolation key 'nowhere' not found"),
        (["do=refuse"], "that is not wanted"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_what_is_wrong_is_one_sentence(script: Path, arguments: list[str], sentence: str) -> None:
    ended = run(script, *arguments)
    assert (ended.returncode, ended.stderr) == (1, sentence + "\n")


def test_a_group_can_be_null(script: Path) -> None:
    ended = run(script, "data=null", "path=null")
    assert (ended.returncode, ended.stdout) == (0, "None False\n"), ended.stderr
    given = ["data=null", "path=null", "data.root=null", "data=one"]
    assert null_groups(given, script.parent / "conf") == ["data=[]", *given[1:]]


def test_the_advice_for_odd_characters_is_right(script: Path) -> None:
    name = 'it\'s "odd" ${x} (1), [a]=b.ckpt'
    advice = run(script, f"path={name}").stderr.partition("give ")[2].removesuffix(".\n")
    ended = run(script, *shlex.split(advice))
    assert (ended.returncode, ended.stdout) == (0, f"{name} False\n")


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=30).filter(lambda v: not v.startswith("~")))
def test_a_quoted_value_is_read_as_it_stands(value: str) -> None:
    (override,) = OverridesParser.create().parse_overrides(shlex.split(quoted(f"path={value}")))
    config = OmegaConf.create({"path": override.value()})
    assert config.path == value


@pytest.mark.parametrize(
    ("number", "code", "shown"), [(signal.SIGTERM, 143, ""), (signal.SIGINT, 130, "interrupted\n")]
)
def test_signals_end_it_quietly(script: Path, number: int, code: int, shown: str) -> None:
    ended = run(script, "do=signal", f"number={int(number)}")
    assert (ended.returncode, ended.stderr) == (code, shown)


def test_mistakes_and_debugging_keep_their_traceback(script: Path) -> None:
    debugged = run(script, "do=refuse", HYDRA_FULL_ERROR="1")
    for ended in (run(script, "do=mistake"), run(script, "do=unpack"), debugged):
        assert ended.returncode == 1
        assert "Traceback" in ended.stderr
        assert 'script.py", line' in ended.stderr


def test_a_job_that_fails_is_reported_and_the_others_run(script: Path) -> None:
    ended = run(script, "-m", "do=refuse,nothing,unpack,nothing", "path=x")
    assert ended.returncode == 1
    assert ended.stdout.splitlines().count("x False") == 2
    assert ended.stderr.splitlines()[0] == "job 0: that is not wanted"
    assert "job 2: ValueError: not enough values to unpack (expected 2, got 1)\n" in ended.stderr
    assert ended.stderr.count("Traceback") == 1, "of the mistake, not of what the user can mend"
    assert "one, two = [1]" in ended.stderr
    assert ended.stderr.splitlines()[-1] == "job 0: that is not wanted"


def test_a_signal_ends_all_jobs(script: Path) -> None:
    ended = run(script, "-m", "do=signal,nothing", "number=2", "path=x")
    assert (ended.returncode, ended.stdout.count("x False"), ended.stderr) == (130, 0, "interrupted\n")


def test_an_error_of_a_loader_process_is_its_sentence() -> None:
    class Broken(torch.utils.data.Dataset[int]):
        def __getitem__(self, index: int) -> int:
            raise DataError("a.tar: the shard is missing; fetch it: all of it.")

    with pytest.raises(DataError) as caught:
        next(iter(DataLoader(Broken(), sampler=[0], num_workers=1)))
    assert explain(caught.value) == "a.tar: the shard is missing; fetch it: all of it."


class DataError(ValueError):
    pass


def test_an_error_of_the_system_names_the_file_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError) as caught:
        (tmp_path / "file" / "results.json").read_text()
    assert explain(caught.value) == f"{tmp_path}/file/results.json: Not a directory; check the path and its rights."
