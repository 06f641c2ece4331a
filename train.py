"""Train a codec: ``python train.py experiment=glc_image data.train.root=FOLDER`` (see conf/train.yaml)."""

import os
import sys

import hydra
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from glc_train.training import TrainingError, run_recipe


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(config: DictConfig) -> None:
    """Composes the configuration and runs the recipe; bad input is one sentence on stderr and exit code 1."""
    try:
        run_recipe(config)
    except (TrainingError, ValueError, OSError, OmegaConfBaseException) as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        print(error, file=sys.stderr)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
