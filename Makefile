# Two commands set everything up on a machine with Python (3.11 or newer) and make:
#   make audit   runs the audit of the bundled data and prints where its report is
#   make test    runs the tests
PYTHON ?= python3
BIN := .venv/bin
OLDEST := .venv-oldest/bin
JOBS ?= 2
# One thread a worker: the tests already run in parallel.
QUICK := OMP_NUM_THREADS=1

.PHONY: audit test lint types layers evidence docs test-oldest clean

audit: .venv/core
	$(BIN)/corrigible demo --overwrite --out demo-report

test: .venv/dev
	$(QUICK) $(BIN)/python -m pytest -n $(JOBS) -q

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/dev
	$(BIN)/mypy

layers: .venv/dev
	$(BIN)/lint-imports

evidence: .venv/dev
	$(BIN)/corrigible evidence check

docs: .venv/dev
	$(QUICK) $(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

# The oldest supported versions of what Corrigible stands on: tools/oldest.txt.
test-oldest: .venv-oldest/dev
	$(QUICK) $(OLDEST)/python -m pytest -n $(JOBS) -q

.venv/core: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check --upgrade "pip>=25.1"
	$(BIN)/python -m pip install -q --disable-pip-version-check -e .
	touch $@

.venv/dev: .venv/core
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[web,postgres,merge,tantivy]' --group dev
	touch $@

.venv-oldest/dev: pyproject.toml tools/oldest.txt
	test -x $(OLDEST)/python || $(PYTHON) -m venv .venv-oldest
	$(OLDEST)/python -m pip install -q --disable-pip-version-check --upgrade "pip>=25.1"
	$(OLDEST)/python -m pip install -q --disable-pip-version-check -e . --group test -c tools/oldest.txt
	touch $@

clean:
	rm -rf .venv .venv-oldest build dist docs/_build demo-report
