# Two commands do everything: `make serve` and `make test`. All others are for those who work on it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: serve test check demo sim bench bench-quick soak fuzz lint format yjs-fixtures clean

serve: $(STAMP)
	$(BIN)/syncline serve --insecure-dev

test: $(STAMP)
	$(BIN)/pytest -n 2

check: lint test

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

demo: $(STAMP)
	$(BIN)/python -m client_sim demo $(ARGS)

sim: $(STAMP)
	$(BIN)/python -m client_sim sim $(ARGS)

bench: $(STAMP)
	$(BIN)/python -m benchmarks $(ARGS)

bench-quick: $(STAMP)
	$(BIN)/python -m benchmarks --quick $(ARGS)

soak: $(STAMP)
	SYNCLINE_SOAK=1 $(BIN)/pytest -n 2 $(ARGS)

fuzz: $(STAMP)
	$(BIN)/python -m tests.fuzz $(ARGS)

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# Needs node and npm; what they write is committed.
yjs-fixtures:
	cd tests/conformance/yjs13 && npm install --silent --no-package-lock --no-audit --no-fund && npm run --silent fixtures

clean:
	rm -rf $(VENV) build *.egg-info
