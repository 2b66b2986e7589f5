# `make quickstart` solves the first scenario, `make test` sets up and runs every check; both need python3 and
# nothing else. PYTHON=python3.12 picks another interpreter.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: quickstart test clean

quickstart: $(VENV)/quickstart.stamp
	$(BIN)/planner solve scenarios/quickstart.yaml

test: $(VENV)/test.stamp
	$(BIN)/python tests/checks.py

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

# A python3 without ensurepip (Debian's, without python3-venv) may still come with virtualenv, uv or pip.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "python 3.11 or newer is needed; this is $$($(PYTHON) --version). Try: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV) 2>/dev/null || $(PYTHON) -m virtualenv -q $(VENV) 2>/dev/null || \
	  uv venv -q --seed --clear --python $(PYTHON) $(VENV) 2>/dev/null || \
	  { rm -rf $(VENV); $(PYTHON) -m venv --without-pip $(VENV) && \
	    $(PYTHON) -m pip --python $(BIN)/python install -q pip 2>/dev/null; } || \
	  { rm -rf $(VENV); echo "$(PYTHON) can make no environment: it has neither ensurepip nor pip, and there is no uv."; \
	    echo "Without root, uv or a Python from conda brings what is missing; with root, the package python3-venv."; exit 1; }

# Compiled here, since some environments forbid Python to write bytecode as it runs.
$(VENV)/quickstart.stamp: $(BIN)/python pyproject.toml
	@echo "installing into $(VENV) ..."
	@$(BIN)/python -m pip install -q -e .
	@$(BIN)/python -m compileall -q planner formulations
	@touch $@

$(VENV)/test.stamp: $(BIN)/python pyproject.toml
	@echo "installing into $(VENV) ..."
	@$(BIN)/python -m pip install -q -e '.[dev]'
	@$(BIN)/python -m compileall -q planner formulations
	@touch $@
