# Every target sets up .venv by itself. PYTHON=python3.13 chooses another interpreter (3.11 or newer).

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && exit; done; echo no-python)
VENV := .venv
BIN := $(VENV)/bin
# The tests start hundreds of processes, each of which would compile all modules anew.
unexport PYTHONDONTWRITEBYTECODE
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

COMPILED := cd build/compiled && PYTHONPATH=$(CURDIR)/build/compiled $(CURDIR)/$(BIN)/python

.PHONY: run test unit lint format bench compiled clean redis-server

run: $(VENV)/.run
	$(BIN)/zerver serve examples.todo.app:app

test: $(VENV)/.test redis-server
	$(BIN)/python -m compileall -q zerver runtime examples
	$(BIN)/python -m pytest tests/unit -n 2
	$(BIN)/python -m pytest tests/integration -n 2 --dist loadfile

unit: $(VENV)/.test
	$(BIN)/python -m pytest tests/unit -n 2

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/basedpyright --warnings

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.bench
	$(BIN)/python -m bench all

# The hot path compiled to C from the same sources, as a wheel; and the tests on it. Needs a C compiler.
compiled: $(VENV)/.test redis-server
	rm -rf build/wheel build/compiled
	HATCH_BUILD_HOOKS_ENABLE=1 $(PIP) wheel --no-deps --wheel-dir build/wheel .
	$(PIP) install --no-deps --target build/compiled build/wheel/*.whl
	cp -r bench docs examples tests *.md *.json *.toml Makefile build/compiled
	mkdir build/compiled/runtime && ln -s ../zerver_runtime build/compiled/runtime
	$(COMPILED) -c 'import sys, zerver.interpreter as it; sys.exit(not it.__file__.endswith(".so"))'
	$(COMPILED) -m pytest tests/unit -n 2
	$(COMPILED) -m pytest tests/integration -n 2 --dist loadfile --ignore tests/integration/test_typing.py

clean:
	rm -rf $(VENV) var build dist .mypy_cache .ruff_cache .hypothesis

# No wheel has a Redis server. Without one, its tests are skipped, and say so.
redis-server:
	@command -v redis-server >/dev/null || command -v valkey-server >/dev/null || { [ "$$(id -u)" = 0 ] && apt-get update -qq && \
		apt-get install -y -qq --no-install-recommends redis-server >/dev/null; } || \
		echo "There is no redis-server, and it cannot be installed from here: its tests will be skipped" >&2

# The stamps keep a second run from asking pip anything.
$(VENV)/.made:
	@if [ "$(PYTHON)" = no-python ]; then echo "Zerver needs Python 3.11 or newer; none was found. Give one: make PYTHON=/path/to/python3" >&2; exit 1; fi
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.run: $(VENV)/.made pyproject.toml
	$(PIP) install --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.made pyproject.toml
	$(PIP) install --editable '.[test]'
	@touch $@ $(VENV)/.run

$(VENV)/.bench: $(VENV)/.test
	$(PIP) install --editable '.[bench]'
	@touch $@
