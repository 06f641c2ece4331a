"""The command `glc`; nothing heavy is imported before Ctrl-C is taken care of."""

import os
from collections.abc import MutableMapping

from glc_train import interruption

_SPINS = "10000"  # half a millisecond, longer than what lies between two operators


def share_cores(environment: MutableMapping[str, str]) -> None:
    """Has idle threads of OpenMP sleep soon, unless the user has chosen; to be called before PyTorch is imported.

    GNU's library lets them spin for 15 ms, which takes the cores from the very threads that they wait for as soon as
    other programs run too: a picture then takes twice as long, and four times the processor time.
    """
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", _SPINS)


def main() -> int:
    """Run `glc` with the arguments of this process; returns the exit code."""
    interruption.leave_at_once()
    share_cores(os.environ)
    from glc_train import cli

    code = cli.main(ready=interruption.unwind)
    interruption.leave_at_once()  # what is left is the end of the interpreter
    return code


if __name__ == "__main__":
    raise SystemExit(main())
