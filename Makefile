# make demo: calibrate a sample model.   make test: all checks of CI.   make bench-regret: compare clipcal with other rules.
# tools/environment.py makes and fills the environments. Where it cannot, it says why in one sentence.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
LOWEST := $(VENV)-lowest
NAMED := $(if $(filter file,$(origin PYTHON)),,--python-is-named)
# An existing environment keeps its own Python, unless PYTHON names another.
MAKER := $(if $(NAMED),$(PYTHON),$(if $(wildcard $(VENV)/made-by-clipcal.json),$(BIN)/python,$(PYTHON)))
ENVIRONMENT := @$(MAKER) tools/environment.py $(NAMED)

.PHONY: demo samples test test-lowest test-versions test-ray lint check-install dist pictures docs bench bench-overhead bench-watching bench-gpu bench-logs bench-recommend bench-regret clean
.PHONY: python environment environment-dev environment-bench environment-release
.DELETE_ON_ERROR:

python:
	@command -v '$(MAKER)' >/dev/null || { echo 'error: there is no $(MAKER) here; name a Python that is there: make PYTHON=python3.11 demo' >&2; exit 1; }
	@$(MAKER) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "error: clipcal needs Python 3.11 or newer; name one with: make PYTHON=python3.11 demo")'

environment: python
	$(ENVIRONMENT) $(VENV) samples

environment-dev: python
	$(ENVIRONMENT) $(VENV) dev --editable

environment-bench: python
	$(ENVIRONMENT) $(VENV) dev bench --editable

environment-release: python
	$(ENVIRONMENT) $(VENV) dev release --editable

demo: environment
	$(BIN)/clipcal calibrate configs/char_lstm.yaml --force

samples: environment
	$(BIN)/python -m benchmarks.samples

lint: environment-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --num-workers 2

# mypy runs at the same time as the tests: by itself it does not use two cores well. The third test worker works while others wait.
test: environment-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@echo '$(BIN)/mypy and $(BIN)/pytest -n 3 --dist worksteal --durations 20, side by side'
	@$(BIN)/mypy > $(VENV)/mypy.log 2>&1 & types=$$!; trap 'kill $$types' INT TERM; \
	$(BIN)/pytest -n 3 --dist worksteal --durations 20; tests=$$?; \
	wait $$types; types=$$?; cat $(VENV)/mypy.log; [ $$tests -eq 0 ] && [ $$types -eq 0 ]

FLOOR ?= 90
test-lowest: python  # the tests that need no torch, without torch, with the lowest versions that pyproject.toml allows
	$(ENVIRONMENT) $(LOWEST) --lowest
	CLIPCAL_TESTS_AT_LEAST=3600 $(LOWEST)/bin/python -m pytest -n 2 --dist worksteal --cov --cov-report= --cov-fail-under=$(FLOOR) tests/unit

TORCH ?= 2.6.0
EXTRAS ?= samples parquet plots tensorboard
test-versions: python  # the suite with another torch and the newest other packages: make test-versions TORCH=2.15.0 EXTRAS=dev
	$(ENVIRONMENT) $(VENV)-torch-$(TORCH) $(EXTRAS) --torch $(TORCH)
	CLIPCAL_TESTS_AT_LEAST=4500 $(VENV)-torch-$(TORCH)/bin/python -m pytest -n 2 --dist worksteal

check-install: environment-dev  # does the public index have every line of constraints.txt? Downloads nothing large
	$(BIN)/python -m tools.constraints

dist: environment-release
	rm -rf build/lib dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl

test-ray: python  # a cluster of two nodes on loopback
	$(ENVIRONMENT) $(VENV) dev ray --editable
	$(BIN)/pytest tests/integration/test_ray.py

pictures: environment-dev
	$(BIN)/python docs/pictures.py

docs: environment-dev
	$(BIN)/mkdocs build --strict

bench: bench-overhead
	$(BIN)/python -m benchmarks.startup
	$(BIN)/python -m benchmarks.kill9

bench-overhead: environment-dev
	$(BIN)/python -m benchmarks.overhead
	$(BIN)/python -m benchmarks.jobs

bench-watching: environment-dev
	$(BIN)/python -m benchmarks.watching

bench-gpu:  # needs a Python with clipcal and a torch for the GPU: the torch of constraints.txt is for the CPU
	$(PYTHON) -m benchmarks.on_gpu

bench-recommend: environment-bench
	$(BIN)/python -m benchmarks.traces.run
	$(BIN)/python -m benchmarks.traces.coverage
	$(BIN)/python -m benchmarks.scaling

bench-logs: environment-bench
	$(BIN)/python -m benchmarks.logs_events
	$(BIN)/python -m benchmarks.logs_jsonl

bench-regret: environment-bench
	$(BIN)/python -m benchmarks.regret

clean:  # an environment that make did not make is not removed
	@for venv in $(VENV) $(LOWEST); do $(PYTHON) tools/environment.py $$venv --remove || exit 1; done
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
