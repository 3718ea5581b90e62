# The two commands a newcomer needs are `make demo` and `make test`; each sets up what it uses.
# A distribution's own Python is built with profile-guided optimisation: next to a plain build, such as pyenv's, a call
# takes a tenth less, and a start a quarter.
PYTHON ?= $(shell /usr/bin/python3.11 -c 'import ensurepip, sys; print(sys.executable)' 2>/dev/null || echo python3)
BIN := .venv/bin
ARGS ?=

.PHONY: help setup demo test check format bench agents lock clean

help: ## what each target does
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## /  make \1\t/' | expand -t 18

.venv/.runtime: requirements/runtime.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/runtime.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m compileall -q src # else each process does it for itself where Python may not write
	@touch $@

.venv/.dev: .venv/.runtime requirements/dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	@touch $@

setup: .venv/.runtime ## make .venv with `penstock` in it

demo: .venv/.runtime ## set up, then run the demo (ARGS=--once: sample calls, then exit)
	$(BIN)/penstock demo $(ARGS)

# A file of tests stays at one process, so that what its tests share is started once.
test: .venv/.dev ## set up, then run every test
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

check: .venv/.dev ## format, lint, types, import contracts, tidy, unit tests
	$(BIN)/ruff format --check src tests
	$(BIN)/ruff check src tests
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n 2 tests/tidy tests/unit

format: .venv/.dev ## rewrite the code in the house's format
	$(BIN)/ruff format src tests
	$(BIN)/ruff check --fix src tests

bench: .venv/.dev ## the benchmark beside nginx; ARGS are passed on
	$(BIN)/penstock bench --write $(ARGS)

agents: ## install the coding agents that some journeys drive (needs npm)
	npm install --no-audit --no-fund --prefix .venv/agents @anthropic-ai/claude-code @openai/codex
	node .venv/agents/node_modules/@anthropic-ai/claude-code/install.cjs

lock: .venv/.dev ## resolve the dependencies again (hashes, no index addresses)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate --extra build -o requirements/runtime.lock pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate --extra dev -c requirements/runtime.lock -o requirements/dev.lock pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate --extra build --extra postgres -c requirements/runtime.lock -o requirements/postgres.lock pyproject.toml

clean: ## remove what set-up and tests made
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
