# Two commands do everything: `make serve` and `make test`. All others are for those who work on it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# With COMPILED=1, as in `make serve COMPILED=1`, the same runs on a build of which the modules that every update passes
# through are compiled to C: two thirds of the CPU, for two minutes of building and a C compiler (docs/OPERATIONS.md).
ifeq ($(COMPILED),1)
  READY := build/compiled/.built
  export SYNCLINE_COMPILED := 1
  export PYTHONSAFEPATH := 1
  export PYTHONPATH := $(CURDIR)/build/compiled:$(CURDIR)
  PYTEST := --import-mode=append -m 'not interpreted' # what is compiled can not be patched
else
  READY := $(STAMP)
endif

.PHONY: serve test check check-compiled demo sim fleet bench bench-quick soak fuzz lint format yjs-fixtures clean

serve: $(READY)
	$(BIN)/syncline serve --insecure-dev

test: $(READY)
	$(BIN)/pytest -n 2 $(PYTEST) $(ARGS)

check: lint test

# Everything that could tell one build from the other. The rest are devices and simulated ones, which are not compiled.
check-compiled:
	$(MAKE) test COMPILED=1 ARGS="tests/architecture/test_packaging.py tests/unit/crdt tests/unit/server tests/property \
	  tests/contract tests/conformance tests/golden tests/integration tests/sim tests/yjs $(ARGS)"

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

demo: $(READY)
	$(BIN)/python -m client_sim demo $(ARGS)

sim: $(READY)
	$(BIN)/python -m client_sim sim $(ARGS)

# About two minutes: 200 users with three devices each on a commute, and a server that is killed in the middle.
fleet: $(READY)
	mkdir -p out
	$(BIN)/python -m client_sim fleet --users 200 --devices 3 --profile 3g-commute --duration 90s --burst 20s \
	  --restart-at 45s --report out/fleet.html --json out/fleet.json $(ARGS)

bench: $(READY)
	$(BIN)/python -m benchmarks $(ARGS)

bench-quick: $(READY)
	$(BIN)/python -m benchmarks --quick $(ARGS)

soak: $(READY)
	SYNCLINE_SOAK=1 $(BIN)/pytest -n 2 $(PYTEST) $(ARGS)

fuzz: $(STAMP)
	$(BIN)/python -m tests.fuzz $(ARGS)

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

build/compiled/.built: $(STAMP) setup.py $(shell find crdt server client_sim -name '*.py')
	rm -rf build
	env -u PYTHONPATH -u PYTHONSAFEPATH SYNCLINE_COMPILE=1 \
	  $(BIN)/pip install --quiet --no-deps --constraint constraints.txt --target build/compiled .
	touch $@

# Needs node and npm; what they write is committed.
yjs-fixtures:
	cd tests/conformance/yjs13 && npm install --silent --no-package-lock --no-audit --no-fund && npm run --silent fixtures

clean:
	rm -rf $(VENV) build *.egg-info
