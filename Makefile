# `make` alone lists what there is. Every target builds the environment in .venv first when it is missing or stale.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The interpreter that .venv is made from: `make setup PYTHON=/path/to/python3.11`.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
# Test processes that run side by side, each with one thread.
WORKERS ?= 2
# Training and codec tests that are run once more with the instructions of AVX2 alone.
AVX2_TESTS := tests/test_precision.py tests/test_cli_precision.py tests/training/test_trainer_precision.py \
	tests/training/test_golden_curves.py tests/codecs/test_image_files.py
# Those that are run once more with the oldest packages that pyproject.toml allows: they import all, train all stages,
# write and read files, pictures, clips, logs and checkpoints.
LOWEST_TESTS := tests/test_imports.py tests/test_backbones.py tests/bitstream tests/layers tests/metrics \
	tests/codecs/test_image_files.py tests/codecs/test_video_codec.py tests/media/test_pictures.py tests/media/test_raw_video.py \
	tests/evaluation/test_measure.py tests/training/test_golden_curves.py tests/training/test_loggers.py \
	tests/training/test_profiler.py

BIN := .venv/bin
LOWEST := .venv-lowest
INSTALLED := .venv/.installed
SOURCES := glc_train tests $(wildcard train.py evaluate.py benchmarks)

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# Where the build of PyTorch without CUDA is, and what that does without.
TORCH_CPU ?= https://download.pytorch.org/whl/cpu
CUDA := ^(cuda-|nvidia-|triton=)
OLD_PYTHON = Python 3.11 or newer is needed: make setup PYTHON=/path/to/python3.11

.PHONY: setup
setup: $(INSTALLED) ## build .venv from requirements.lock (again only when that or pyproject.toml changed)

# The lock also pins setuptools, so our own package is built with it rather than in a second, fetched environment.
$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(OLD_PYTHON)" >&2; exit 1; }
	@command -v nvidia-smi >/dev/null || echo "no NVIDIA card found: make setup-cpu fetches no CUDA libraries (3.3 GB)"
	@rm -f $@
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -r requirements.lock
	$(BIN)/python -m pip install --no-deps --no-build-isolation -e .
	$(BIN)/python -m pip check
	@touch $@

.PHONY: setup-cpu
setup-cpu: ## the same with the build of PyTorch for processors alone, without the CUDA libraries
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(OLD_PYTHON)" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --no-deps --index-url $(TORCH_CPU) $(shell grep -E '^torch(vision)?==' requirements.lock)
	grep -vE '$(CUDA)' requirements.lock | $(BIN)/python -m pip install -r /dev/stdin
	$(BIN)/python -m pip install --no-deps --no-build-isolation -e .
	$(BIN)/python -m pip check
	@touch $(INSTALLED)

.PHONY: test
test: $(INSTALLED) ## run the tests (all but those marked slow or gpu)
	$(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

.PHONY: test-slow
test-slow: $(INSTALLED) ## run the tests marked slow
	$(BIN)/python -m pytest -n $(WORKERS) -m "slow and not gpu" --timeout 900 $(ARGS)

.PHONY: test-avx2
test-avx2: $(INSTALLED) ## run a training and a codec test as on a processor with AVX2 alone
	ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 $(BIN)/python -m pytest -n $(WORKERS) $(AVX2_TESTS) $(ARGS)

.PHONY: test-lowest
test-lowest: ## run some tests with the lowest versions that pyproject.toml allows, in an environment of their own
	test -x $(LOWEST)/bin/python || $(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet uv
	$(LOWEST)/bin/uv pip install --python $(LOWEST)/bin/python --resolution lowest-direct -e '.[dev,sweep]'
	$(LOWEST)/bin/python -m pytest -n $(WORKERS) $(LOWEST_TESTS) $(ARGS)

.PHONY: test-gpu
test-gpu: $(INSTALLED) ## run the tests marked gpu (needs a CUDA device)
	$(BIN)/python -m pytest -m gpu $(ARGS)

.PHONY: lint
lint: $(INSTALLED) ## check style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(SOURCES)
	$(BIN)/hadolint Dockerfile

.PHONY: format
format: $(INSTALLED) ## rewrite the sources in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: docs
docs: $(INSTALLED) ## build the documentation as a site, docs/_build/html
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

.PHONY: docs-links
docs-links: $(INSTALLED) ## ask for every address outside that the documentation links to (needs the network)
	$(BIN)/python -m sphinx -q --keep-going -b linkcheck docs docs/_build/links

.PHONY: demo
demo: $(INSTALLED) ## code photographs with the installed codec, fine-tune it on another kind of picture, measure both
	$(BIN)/python -m glc_train.demo

.PHONY: prefetch
prefetch: $(INSTALLED) ## fetch the ImageNet weights that LPIPS and DISTS need, for later use offline
	$(BIN)/python -m glc_train.backbones

.PHONY: results
results: $(INSTALLED) ## make the results of README.md and docs/ anew, where possible (KODAK=FOLDER or GLC_DATA)
	KODAK="$(KODAK)" $(BIN)/python -m benchmarks.results

.PHONY: golden
golden: $(INSTALLED) ## regenerate tests/expected after a change that is meant to alter the training curves
	$(BIN)/python -m tests.regenerate_golden_curves

.PHONY: clean
clean: ## remove caches and build products; .venv and outputs stay
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
