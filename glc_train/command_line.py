"""Programs configured by Hydra: what is wrong on their command line is one sentence and exit code 1.

In a sweep a job that fails is reported at once, the others run, and the exit code is 1; a signal ends all.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import os
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import CompactHydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from glc_train.errors import is_for_user, sentence

_FULL_ERROR = "HYDRA_FULL_ERROR"  # with 1 Hydra raises instead of printing and exiting


class JobFailed(Exception):
    """A job of a sweep has failed: its number, and a sentence."""


def program(config_path: str, config_name: str) -> Callable[[Callable[[DictConfig], Any]], Callable[[], None]]:
    """As `hydra.main`, but bad input ends in one sentence on stderr.

    That is: what Hydra cannot parse or compose, OmegaConf's errors, and those of `is_for_user`. Anything else keeps its
    traceback; so does everything where the environment has `HYDRA_FULL_ERROR=1`.

    Args:
        config_path: folder of the configuration, relative to the file of the decorated function.
        config_name: of the primary file, without its suffix.
    """

    def decorate(function: Callable[[DictConfig], Any]) -> Callable[[], None]:
        debug = os.environ.get(_FULL_ERROR) == "1"

        @hydra.main(version_base="1.3", config_path=config_path, config_name=config_name)
        @functools.wraps(function)
        def job(config: DictConfig) -> Any:
            with _environment(debug):
                if HydraConfig.get().mode == RunMode.MULTIRUN:
                    return _job_of_sweep(function, config, debug)
                with _one_sentence(debug):
                    return function(config)

        def main() -> None:
            sys.argv[1:] = null_groups(sys.argv[1:], Path(inspect.getfile(function)).parent / config_path)
            with _one_sentence(debug), _environment(True):
                job()

        return main

    return decorate


def null_groups(arguments: Sequence[str], folder: Path) -> list[str]:
    """Arguments in which GROUP=null is GROUP=[], as Hydra spells it; groups are stored, or the folders in `folder`."""
    pairs = ((argument, argument.removesuffix("=null")) for argument in arguments)
    return [
        f"{group}=[]" if group != argument and ((folder / group).is_dir() or _stored(group)) else argument
        for argument, group in pairs
    ]


def _stored(group: str) -> list[str]:
    """Options of a group in Hydra's store."""
    store = ConfigStore.instance()
    return [name.removesuffix(".yaml") for name in store.list(group)] if store.repo.get(group) else []


@contextmanager
def _environment(full_error: bool) -> Iterator[None]:
    before = os.environ.get(_FULL_ERROR)
    os.environ[_FULL_ERROR] = str(int(full_error))
    try:
        yield
    finally:
        if before is None:
            del os.environ[_FULL_ERROR]
        else:
            os.environ[_FULL_ERROR] = before


def _has_sentence(error: Exception) -> bool:
    return isinstance(error, CompactHydraException | OmegaConfBaseException) or is_for_user(error)


def _job_of_sweep(function: Callable[[DictConfig], Any], config: DictConfig, debug: bool) -> Any:
    """What `function` returns; what is wrong is shown here and now, as Hydra keeps it until all jobs are done."""
    try:
        return function(config)
    except Exception as error:
        reason = explain(error) if _has_sentence(error) else traceback.format_exception_only(error)[-1].strip()
        if debug or not _has_sentence(error):
            traceback.print_exc()
    failed = JobFailed(f"job {HydraConfig.get().job.num}: {reason}")
    print(failed, file=sys.stderr, flush=True)
    raise failed  # outside of the handler: the error's traceback would keep the memory of the job


@contextmanager
def _one_sentence(debug: bool) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if debug or not _has_sentence(error):
            raise
        print(explain(error), file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None


def explain(error: Exception) -> str:
    """One sentence for what a command line or its program's input got wrong."""
    cause = error.__cause__
    if isinstance(error, OverrideParseException):
        return _unreadable(error.override)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        folders = re.findall(r"path=file://(.*)", str(error))  # Hydra gives no options for one of a list
        present = [path.stem for folder in folders for path in sorted(Path(folder, group).glob("*.yaml"))]
        present += _stored(group)
        return f"{group}={name}: there is none{_choice(name, error.options or present)}."
    if isinstance(error, CompactHydraException) and isinstance(cause, OmegaConfBaseException) and cause.full_key:
        known = map(str, cause.parent_node.keys() if isinstance(cause.parent_node, DictConfig) else ())
        section, _, wrong = cause.full_key.rpartition(".")
        public = (name for name in known if wrong.startswith("_") or not name.startswith("_"))  # _target_ and its like
        names = [f"{section}.{name}" if section else name for name in public]
        return f"{cause.full_key}: there is no such option{_choice(cause.full_key, names)}."
    text = sentence(error)
    if isinstance(error, CompactHydraException) and text.startswith("Ambiguous value for argument '"):
        return _several(text.split("'", 1)[1].split("\n")[0].removesuffix("'"))
    if isinstance(error, CompactHydraException | OmegaConfBaseException):
        key = getattr(error, "full_key", None)
        return (f"{key}: " if key else "") + (text.splitlines() or [type(error).__name__])[0]
    if re.match(r"Caught \w+ in DataLoader worker process", text):  # PyTorch puts the traceback before the sentence
        return text.rstrip().rpartition("\n")[2].partition(": ")[2]
    return text


def _choice(name: str, known: Sequence[str]) -> str:
    """The end of a sentence: the one that was meant, or all there are."""
    meant = difflib.get_close_matches(name, known, 1)
    if meant:
        return f"; perhaps {meant[0]} is meant"
    return f"; choose among {', '.join(known)}" if known else ""


def quoted(override: str) -> str:
    """The override KEY=VALUE, its value taken as it stands, as Hydra and the shell read it."""
    key, _, value = override.partition("=")
    literal = re.sub(r"(\\*)\$\{", r"\1\1\\${", os.path.expanduser(value))  # else an interpolation
    return shlex.quote(f"{key}={QuotedString(literal, Quote.double).with_quotes()}")


def _unreadable(override: str) -> str:
    if "=" not in override:
        return f"{override}: no option and value; give OPTION=VALUE."
    return (
        f"{override}: quotes, brackets, commas, = and some other signs mean something here; for a value that has them "
        f"give {quoted(override)}."
    )


def _several(override: str) -> str:
    key, _, value = override.partition("=")
    return (
        f"{override}: several values; give a list as {shlex.quote(f'{key}=[{value}]')}, one value that has a comma as "
        f"{quoted(override)}, and add -m for a run with each of them."
    )
