# make demo: calibrate a sample model end to end.   make test: everything that CI checks.   make bench-regret: is it any good?
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo samples test test-ray lint pictures docs bench bench-overhead bench-watching bench-gpu bench-logs bench-recommend bench-regret clean
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

$(VENV)/installed-bench: $(VENV)/installed-dev
	$(PIP) -e '.[dev,bench]'
	touch $@

demo: $(VENV)/installed
	$(BIN)/clipcal calibrate configs/char_lstm.yaml --force

samples: $(VENV)/installed
	$(BIN)/python -m benchmarks.samples

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/pytest -n 2 --dist worksteal

test-ray: $(VENV)/installed-dev  # a cluster of two nodes on loopback
	$(PIP) -e '.[dev,ray]'
	$(BIN)/pytest tests/integration/test_ray.py

pictures: $(VENV)/installed-dev
	$(BIN)/python docs/pictures.py

docs: $(VENV)/installed-dev
	$(BIN)/mkdocs build --strict

bench: bench-overhead
	$(BIN)/python -m benchmarks.startup
	$(BIN)/python -m benchmarks.kill9

bench-overhead: $(VENV)/installed-dev
	$(BIN)/python -m benchmarks.overhead
	$(BIN)/python -m benchmarks.jobs

bench-watching: $(VENV)/installed-dev
	$(BIN)/python -m benchmarks.watching

bench-gpu:  # with a Python that has clipcal and a torch for the GPU: constraints.txt holds one for the CPU
	$(PYTHON) -m benchmarks.on_gpu

bench-recommend: $(VENV)/installed-bench
	$(BIN)/python -m benchmarks.traces.run
	$(BIN)/python -m benchmarks.traces.coverage
	$(BIN)/python -m benchmarks.scaling

bench-logs: $(VENV)/installed-bench
	$(BIN)/python -m benchmarks.logs_events
	$(BIN)/python -m benchmarks.logs_jsonl

bench-regret: $(VENV)/installed-bench
	$(BIN)/python -m benchmarks.regret

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
