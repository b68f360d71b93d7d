# Everything on a fresh machine with Python 3.11 or newer and make:
#
#   make demo     a broker with traffic on both planes, and the monitor on top
#   make test     every test, the conformance tests with real clients included
#   make lint     what CI checks besides the tests
#   make check    lint and test: what CI runs
#   make bench    every benchmark, one after the other
#   make docs-img what docs/monitor.md shows of the monitor, from a recording
#
# The virtual environment is .venv; its packages are pinned in constraints.txt.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install --quiet --constraint constraints.txt --build-constraint constraints.txt

.PHONY: demo test lint check bench docs-img clean

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
	set -e; for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script; done

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
