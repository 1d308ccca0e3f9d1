# Everything a contributor or an operator types. Needs python3 (3.11 or later, with venv and pip), git and make.
# Another interpreter: make PYTHON=python3.13 test

PYTHON = python3
VENV = .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check --quiet
BENCHMARKS = codec verify ingest append replay fanout queries end_to_end

.POSIX:
.PHONY: help setup demo run test lint bench test-realpds test-browser lock clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile

setup: $(VENV)/.run ## install what the relay needs into .venv, and nothing else

demo: $(VENV)/.run ## run the whole relay against a small simulated network for 30 s; no internet needed
	@$(BIN)/relay demo

run: $(VENV)/.run ## run the relay with config/relay.toml
	@exec $(BIN)/relay run --config config/relay.toml

test: lint ## lint, then all tests a contributor runs
	$(BIN)/python -m pytest -q -n 2 --ignore=tests/browser

lint: $(VENV)/.dev ## ruff, mypy --strict and the import contracts
	$(BIN)/ruff check --quiet
	$(BIN)/ruff format --check --quiet
	$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports > $(VENV)/lint-imports.log 2>&1 || { cat $(VENV)/lint-imports.log; exit 1; }

bench: $(VENV)/.dev ## run all benchmarks; one of them: .venv/bin/python -m benchmarks.NAME
	@for name in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$name || exit 1; done

test-realpds: $(VENV)/.dev ## tests against a network of real PDSes (see tests/realpds)
	$(BIN)/python -m pytest -q -m realpds -o log_cli=true -o log_cli_level=INFO -o faulthandler_timeout=0 tests/realpds

test-browser: $(VENV)/.browser ## tests of the pages in a real browser; needs chromium (see tests/browser)
	$(BIN)/python -m pytest -q -m browser tests/browser

lock: ## compile the lock files anew from pyproject.toml
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
	$(PYTHON) -m venv "$$folder" && "$$folder/bin/pip" --disable-pip-version-check --quiet install uv && \
	for part in "build requirements.lock" "dev requirements-dev.lock"; do set -- $$part; \
	"$$folder/bin/uv" --quiet pip compile pyproject.toml --group "$$1" --universal --python-version 3.11 \
	--no-header --no-annotate --generate-hashes --no-emit-index-url -o "$$2" || exit 1; done && \
	"$$folder/bin/uv" --quiet pip compile --group browser --universal --python-version 3.11 \
	--no-header --no-annotate --generate-hashes --no-emit-index-url -o requirements-browser.lock

clean: ## remove what was built and installed; never data
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .benchmarks
	find relay tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# What is installed, as stamps: nothing is done again until a lock file or pyproject.toml changes.

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed" if sys.version_info < (3, 11) else 0)'
	@echo "setting up $(VENV)"
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.run: $(VENV)/.made requirements.lock pyproject.toml
	@$(PIP) install --no-deps --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements-dev.lock
	@$(PIP) install --no-deps --require-hashes -r requirements-dev.lock
	@touch $@

$(VENV)/.browser: $(VENV)/.dev requirements-browser.lock
	@$(PIP) install --no-deps --require-hashes -r requirements-browser.lock
	@touch $@
