# make demo: calibrate a sample model end to end.   make test: everything that CI checks.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo samples test lint bench bench-overhead clean
.DELETE_ON_ERROR:

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "clipcal needs Python 3.11 or newer; name one with: make PYTHON=python3.11 demo")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) -e '.[samples]'
	touch $@

$(VENV)/installed-dev: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) -e '.[dev]'
	touch $@ $(VENV)/installed

demo: $(VENV)/installed
	$(BIN)/clipcal calibrate configs/char_lstm.yaml --force

samples: $(VENV)/installed
	$(BIN)/python benchmarks/samples.py

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/pytest -n 2

bench: bench-overhead
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/kill9.py

bench-overhead: $(VENV)/installed-dev
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/jobs.py

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
