# `make demo` and `make test` set themselves up: all they need is Python 3.10 or newer, and make.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

WORK    ?= benchmarks/peers/venv
RESULTS ?= benchmarks/results/$(shell uname -n)

.DEFAULT_GOAL := help
.PHONY: help demo test test-aarch64 lint peers clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY)  ## from nothing to verdicts in a few minutes, in demo/: draw parts, train, export, evaluate, inspect
	$(BIN)/python -m examples.gears.demo --output demo

test: lint  ## lint, then all tests: the fast ones, and those that take minutes
	$(BIN)/python -m pytest -q
	$(BIN)/python -m pytest -q -m slow

test-aarch64: $(READY)  ## the lean runtime on emulated aarch64; wants root, debootstrap and qemu-user-static
	$(BIN)/python -m pytest -q -rs -m slow tests/aarch64

lint: $(READY)  ## format, style, types, and which package may import which
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	PYTHONPATH=.:export:runtime:benchmarks $(BIN)/lint-imports

peers: $(READY)  ## our MODELS beside anomalib's methods, trained on DATA (an MVTec-style category); TEACHER=FILE, WORK=DIR
	@test -n "$(DATA)" -a -n "$(MODELS)" || { echo "expected: make peers DATA=data/bottle MODELS='a.onnx b.onnx'" >&2; exit 1; }
	PYTHONPATH=.:export:runtime:benchmarks $(BIN)/python -m benchmarks.experiments.peers.peers $(MODELS) --data $(DATA) \
	  $(if $(TEACHER),--teacher $(TEACHER)) --work $(WORK) --results $(RESULTS)
	$(BIN)/python -m benchmarks.experiments.recorded

clean:  ## remove what make made: the environment, the demo, caches
	rm -rf $(VENV) demo build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

# Once, and again when the dependencies change. A half-made environment is completed, not trusted.
$(READY): setup.py pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "Python 3.10 or newer is needed; choose one with: make PYTHON=python3.12" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || \
	  { echo "no virtual environment could be made; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "installing into $(VENV), PyTorch included: a minute or two, once"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@
