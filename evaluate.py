"""Evaluate a codec: ``python evaluate.py ckpt=FILE data=kodak data.root=FOLDER`` (see conf/evaluation)."""

from __future__ import annotations

from glc_train import interruption

if __name__ in ("__main__", "__mp_main__"):  # the latter in processes for clips
    interruption.leave_at_once()  # the imports take seconds

from omegaconf import DictConfig

from glc_train.command_line import program
from glc_train.evaluation import EvaluationSettings, run_evaluation, run_video_evaluation


@program(config_path="conf/evaluation", config_name="evaluate")
def main(config: DictConfig) -> None:
    """Runs what the configuration asks for; what the user can mend is one sentence on stderr and exit code 1."""
    settings = EvaluationSettings.from_config(config)
    (run_video_evaluation if settings.data.clips else run_evaluation)(settings)


if __name__ == "__main__":
    interruption.unwind()
    main()
    interruption.leave_at_once()  # what is left is the end of the interpreter
