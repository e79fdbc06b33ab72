# `make demo` and `make test` create their environment: they need only Python 3.10 or newer, and make.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
DEMO_READY := $(VENV)/.ready-for-the-demo

WORK    ?= benchmarks/peers/venv
RESULTS ?= benchmarks/results/$(shell uname -n)

.DEFAULT_GOAL := help
.PHONY: help demo docs test test-aarch64 lint peers clean

help:  ## print this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(DEMO_READY)  ## draw parts, train, export, evaluate and inspect in demo/, in a few minutes
	$(BIN)/python -m examples.gears.demo --output demo

test: lint  ## run lint, then all tests: the fast ones, and those that take minutes
	$(BIN)/python -m pytest -q
	$(BIN)/python -m pytest -q -m slow

test-aarch64: $(READY)  ## test the lean runtime on emulated aarch64; needs root, debootstrap and qemu-user-static
	$(BIN)/python -m pytest -q -rs -m slow tests/aarch64

docs: $(READY)  ## build the documentation as a site in build/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lint: $(READY)  ## check format, style, types, and which package may import which
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	PYTHONPATH=.:export:runtime:benchmarks $(BIN)/lint-imports

peers: $(READY)  ## measure MODELS and anomalib's methods, trained on DATA (an MVTec-style category); TEACHER=FILE, WORK=DIR
	@test -n "$(DATA)" -a -n "$(MODELS)" || { echo "expected: make peers DATA=data/bottle MODELS='a.onnx b.onnx'" >&2; exit 1; }
	PYTHONPATH=.:export:runtime:benchmarks $(BIN)/python -m benchmarks.experiments.peers.peers $(MODELS) --data $(DATA) \
	  $(if $(TEACHER),--teacher $(TEACHER)) --work $(WORK) --results $(RESULTS)
	$(BIN)/python -m benchmarks.experiments.line.recorded

clean:  ## remove the environment, the demo and caches
	rm -rf $(VENV) demo build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

# These run once, and again when the dependencies change. An incomplete environment is completed.
$(READY): EXTRAS := dev
$(DEMO_READY): EXTRAS := export,bench
$(READY) $(DEMO_READY): setup.py pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "Python 3.10 or newer is needed; choose one with: make PYTHON=python3.12" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || \
	  { echo "a virtual environment could not be created; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "installing into $(VENV), PyTorch included: a minute or two, once"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$(EXTRAS)]'
	@touch $@
