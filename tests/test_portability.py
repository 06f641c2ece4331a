"""The package without what Unix alone has: as on Windows, imitated."""

import os
import subprocess
import sys
from pathlib import Path

from glc_train.data import render_picture
from glc_train.media import write_picture

# What other libraries need of Unix is taken from them before; `posixpath` and files stay those of this system.
WINDOWS = """
import multiprocessing.popen_spawn_posix, os, signal, sys
import lightning, torch, torchvision, rich.console, constriction, fsspec, webdataset, wandb, hydra
import filelock, gradio, matplotlib.figure, requests
for name in ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGKILL", "SIGPIPE", "SIGCHLD", "pthread_sigmask", "alarm",
             "setitimer", "sigwait"):
    delattr(signal, name)
for name in ("fork", "forkpty", "register_at_fork", "getuid", "geteuid", "getpgid", "setsid", "killpg", "uname",
             "mkfifo", "sched_getaffinity", "sched_setaffinity", "nice", "sysconf", "statvfs", "getloadavg", "fchmod",
             "chown", "sync"):
    delattr(os, name)
for name in ("fcntl", "resource", "termios", "tty", "pty", "pwd", "grp", "syslog"):
    sys.modules[name] = None
"""


def run(script: str, folder: Path) -> None:
    root = Path(__file__).parents[1]
    command, variables = [sys.executable, "-c", WINDOWS + script], os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_files_are_coded(tmp_path: Path) -> None:
    write_picture(tmp_path / "photo.png", render_picture(64, 64, 1))
    script = """
from glc_train.__main__ import main
for arguments in ("compress photo.png photo.glc", "decompress photo.glc decoded.png", "info photo.glc"):
    sys.argv = ["glc", *arguments.split()]
    assert main() == 0
"""
    run(script, tmp_path)
    assert (tmp_path / "decoded.png").exists()


def test_every_module_can_be_imported_and_signals_are_set(tmp_path: Path) -> None:
    script = """
import importlib, pkgutil, glc_train
for module in pkgutil.walk_packages(glc_train.__path__, "glc_train."):
    if module.name != "glc_train.__main__":
        importlib.import_module(module.name)
from glc_train.processes import _without_interrupts
with _without_interrupts():
    pass
from torch import tensor
from glc_train.data.module import _leave_signals_to_parent
_leave_signals_to_parent(tensor([False]), 0)
"""
    run(script, tmp_path)
