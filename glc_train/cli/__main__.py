"""`python -m glc_train.cli` is the command `glc`."""

from glc_train.cli import main

raise SystemExit(main())
