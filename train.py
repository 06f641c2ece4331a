"""Train a codec: ``python train.py experiment=glc_image data.train.root=FOLDER`` (see conf/train.yaml)."""

from glc_train import extras, interruption

if __name__ == "__main__":
    interruption.leave_at_once()  # the imports take seconds
    extras.leave_without("train", "train.py")

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from glc_train.command_line import program


@program("conf", "train")
def main(config: DictConfig) -> float | None:
    """Composes the configuration and runs the recipe.

    Bad input is one sentence on stderr and exit code 1; a signal is 128 + its number, which ends a whole sweep; other
    jobs of a sweep run where one fails.

    Returns:
        What a sweep optimises: the last value of the metric `objective`; None where none is set.
    """
    # Here, for they take seconds that help and a mistake in the configuration need not wait for.
    from glc_train.training import as_single_run, claim_job_folder, launchable, read_objective, run_recipe, unwind

    unwind()
    hydra_config = HydraConfig.get()
    job = launchable()
    if hydra_config.mode == RunMode.MULTIRUN:
        config.out = hydra_config.runtime.output_dir  # each job of a sweep in a folder of its own
        claim_job_folder(Path(config.out), hydra_config.overrides.task)
        job = as_single_run(Path(config.out), hydra_config.overrides.task)
    with job:
        run_recipe(config)
        return read_objective(config)


if __name__ == "__main__":
    main()
