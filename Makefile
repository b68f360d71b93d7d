# Everything on a fresh machine with Python 3.11 or newer and make:
#
#   make demo     a broker with traffic on both planes, and the monitor on top
#   make test     every test, the conformance tests with real clients included
#   make lint     what CI checks besides the tests
#   make check    lint and test; CI counts as well
#   make bench    every benchmark with a goal, beside its peers, in one table
#   make count    instructions per request, compared with the baseline; needs valgrind
#   make docs-img what docs/monitor.md shows of the monitor, from a recording
#
# The virtual environment is .venv; its packages are pinned in constraints.txt.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install --quiet --constraint constraints.txt --build-constraint constraints.txt

.PHONY: demo test lint check bench count docs-img clean

demo: $(VENV)/.runtime
	$(BIN)/python -m trio_kafka_net demo

test: $(VENV)/.development
	$(BIN)/python -m pytest $(PYTEST_OPTIONS)

lint: $(VENV)/.development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test

bench: $(VENV)/.development
	$(BIN)/python benchmarks/run.py $(BENCH_OPTIONS)

count: $(VENV)/.development
	$(BIN)/python benchmarks/instructions.py --check

docs-img: $(VENV)/.development
	$(BIN)/python tools/generate_monitor_docs.py

clean:
	rm -rf $(VENV)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name it: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

# Dependency groups need a pip that a Python of 2023 does not bring along.
$(VENV)/.pip: $(VENV)/bin/python constraints.txt
	$(PIP) install --quiet --upgrade --constraint constraints.txt pip
	@touch $@

$(VENV)/.runtime: $(VENV)/.pip pyproject.toml constraints.txt
	$(INSTALL) --editable .
	@touch $@

$(VENV)/.development: $(VENV)/.pip pyproject.toml constraints.txt
	$(INSTALL) --editable . --group dev
	@touch $@ $(VENV)/.runtime
