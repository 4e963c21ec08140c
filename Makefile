# Each target sets itself up: the first one to run makes .venv with the exact versions of constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := true

.PHONY: setup run test test-slow test-browser test-services test-faults lint docs clean
.DEFAULT_GOAL := run

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/pip install --quiet --constraint constraints.txt --editable . --group dev
	touch $@

run: setup
	$(BIN)/dvc pull --quiet data.dvc embedded-base.dvc
	$(BIN)/mlc run

test: setup
	$(BIN)/dvc pull --quiet data.dvc embedded-base.dvc
	$(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

test-slow: setup
	$(BIN)/pytest -m slow

test-browser: setup
	$(BIN)/pytest -m browser

test-services: setup
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[s3,server,workers]" --group dev
	$(BIN)/pytest -m services

# Full disks and read-only folders take root, to mount; those tests are left out otherwise.
test-faults: setup
	OMP_NUM_THREADS=1 $(BIN)/pytest -m faults tests/faults

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf .venv artifacts build dist *.egg-info
