# Everything a person does with a checkout. Only Python 3.11+ and make are needed beforehand.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help setup demo test test-slow check bench docs wheel clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: $(READY)  ## make .venv and install avser with the development tools

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "avser needs Python 3.11 or newer; name one with: make PYTHON=python3.11 ..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@$(BIN)/python -m tools.check_system
	@touch $@

demo: setup  ## synthetic corpus -> three models -> ablation, regions, report (about 6 minutes)
	$(BIN)/python -m tools.demo

test: setup  ## the test suite but for what takes long
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n auto

test-slow: setup  ## the tests that take long
	$(BIN)/python -m pytest -m slow

check: setup  ## linter, formatter and type checker
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup  ## measure speed
	$(BIN)/python -m tools.benchmark

docs: setup  ## build the documentation into build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

wheel: setup  ## build wheel and sdist, install the wheel elsewhere and predict with it (WHEEL_FLAGS=--full: every library anew)
	$(BIN)/python -m build
	$(BIN)/python -m tools.check_wheel $(WHEEL_FLAGS)

clean:  ## remove what can be made again
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
