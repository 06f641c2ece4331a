"""The command `glc`; nothing heavy is imported before Ctrl-C is taken care of."""

from glc_train import interruption


def main() -> int:
    """Run `glc` with the arguments of this process; returns the exit code."""
    interruption.leave_at_once()
    from glc_train import cli

    code = cli.main(ready=interruption.unwind)
    interruption.leave_at_once()  # what is left is the end of the interpreter
    return code


if __name__ == "__main__":
    raise SystemExit(main())
