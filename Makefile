# Sets up its own environments with nothing but python3 (3.11 or newer) and make, then runs there.

PYTHON ?= python3
# Worker processes of the test run; one that has done its share takes over some of another's.
JOBS ?= 2
PYTEST_OPTIONS ?=

ENV := .venv
SECOND := .venv-3.12
BIN := $(ENV)/bin

# Idle OpenMP threads sleep instead of spinning: torch, NumPy and the samplers' worker processes
# share the cores, and on a few cores the spinning costs more than the work itself.
export OMP_WAIT_POLICY = PASSIVE
# One order of sets in every interpreter: chains in new processes compile their graph themselves, and
# are compared with others to the last bit.
export PYTHONHASHSEED = 0
# Figures go to files, with or without a display.
export MPLBACKEND = Agg

.PHONY: help demo test test-second-stack check lint format types doctest docs clean
.NOTPARALLEL:

help:
	@echo "make demo               run examples/ddm.py"
	@echo "make test               run the tests"
	@echo "make check              lint, types, doctests and tests"
	@echo "make test-second-stack  bridge and ArviZ tests on Python 3.12 (PyMC 6, ArviZ 1.x)"
	@echo "make format             format the code"
	@echo "make docs               build the documentation: docs/_build/index.html"
	@echo "make clean              remove the environments, built pages and caches"

demo: $(ENV)/.package
	$(BIN)/python examples/ddm.py

test: $(ENV)/.test
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(PYTEST_OPTIONS)

test-second-stack: $(SECOND)/.test
	$(SECOND)/bin/python -m pytest -n $(JOBS) --dist worksteal -m "bridge or arviz" $(PYTEST_OPTIONS)

check: lint types doctest test

lint: $(ENV)/.test
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: $(ENV)/.test
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: $(ENV)/.test
	$(BIN)/mypy

doctest: $(ENV)/.test
	$(BIN)/python -m pytest --doctest-modules jana_pymc

# docs/api has a page for each public name; one of a name that is gone would be left over.
docs: $(ENV)/.docs
	rm -rf docs/api
	$(BIN)/python -m sphinx -W --keep-going docs docs/_build

clean:
	rm -rf $(ENV) $(SECOND) docs/_build docs/api .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Each environment is made once, and installed into again when its requirements change.

$(ENV)/.made:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed, $(PYTHON) is " + sys.version.split()[0])'
	$(PYTHON) -m venv --clear $(ENV)
	@touch $@

# Searched only when this environment is made: python3.12 on PATH, or one that pyenv has.
$(SECOND)/.made:
	python=$$(.ci/find-python 3.12) && $$python -m venv --clear $(SECOND)
	@touch $@

$(ENV)/.package: $(ENV)/.made pyproject.toml constraints.txt
	$(BIN)/python -m pip install --constraint constraints.txt --editable .
	@touch $@

$(ENV)/.docs: $(ENV)/.made pyproject.toml constraints.txt
	$(BIN)/python -m pip install --constraint constraints.txt --editable ".[docs]"
	@touch $@

$(ENV)/.test $(SECOND)/.test: %/.test: %/.made pyproject.toml constraints.txt
	$*/bin/python -m pip install --constraint constraints.txt --editable ".[test]"
	@touch $@
