"""Evaluate a codec: `python evaluate.py ckpt=FILE data=kodak data.test.root=FOLDER` (see conf/evaluate.yaml)."""

from __future__ import annotations

from glc_train import extras, interruption

if __name__ in ("__main__", "__mp_main__"):  # the latter in processes of their own
    interruption.leave_at_once()  # the imports take seconds
    extras.leave_without("eval", "evaluate.py")

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from glc_train import codec_groups
from glc_train.command_line import program

codec_groups.register()


@program(config_path="conf", config_name="evaluate")
def main(config: DictConfig) -> None:
    """Runs what the configuration asks for; what the user can mend is one sentence on stderr and exit code 1."""
    # Here, for they take seconds that help and a mistake in the configuration need not wait for.
    from glc_train.evaluation import EvaluationSettings, run_evaluation

    interruption.unwind()
    hydra_config = HydraConfig.get()
    if hydra_config.mode == RunMode.MULTIRUN and config.out is not None:
        config.out = f"{config.out}/{hydra_config.job.num}"  # each job of a sweep in a folder of its own
    run_evaluation(EvaluationSettings.from_config(config))


if __name__ == "__main__":
    main()
    interruption.leave_at_once()  # what is left is the end of the interpreter
