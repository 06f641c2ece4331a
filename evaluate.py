"""Evaluate a codec: ``python evaluate.py ckpt=FILE data=kodak data.root=FOLDER`` (see conf/evaluation)."""

from __future__ import annotations

import os
import sys
from typing import Any, cast

import hydra
from omegaconf import DictConfig, OmegaConf

from glc_train.evaluation import EvaluationSettings, run_evaluation, run_video_evaluation


@hydra.main(version_base="1.3", config_path="conf/evaluation", config_name="evaluate")
def main(config: DictConfig) -> None:
    """Compose the configuration and run; what the user can mend is one sentence on stderr and exit code 1."""
    settings = EvaluationSettings(**cast(dict[str, Any], OmegaConf.to_container(config, resolve=True)))
    try:
        (run_video_evaluation if settings.data.get("clips") else run_evaluation)(settings)
    except (ValueError, OSError) as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        print(error, file=sys.stderr)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
