PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help setup demo run test faults lint bench clean
help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

setup: $(STAMP) ## make .venv with everything, at the locked versions

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $(STAMP)

demo: setup ## the main job on real photographs: ingest, search, a contact sheet (KEEP=1 leaves it running)
	@$(BIN)/python -m demo $(if $(KEEP),--keep)

run: setup ## start everything on this machine: http://127.0.0.1:8080
	@$(BIN)/lookalike up

test: setup lint ## lint, then every test
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

faults: setup ## kill every part at random moments, for half an hour (TABLE=file keeps what came of it)
	$(BIN)/python -m pytest -s -m faults tests/faults $(if $(TABLE),--faults-table $(TABLE))

lint: setup ## ruff, mypy, the import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup ## measure everything side by side, about an hour: benchmarks/results.md
	$(BIN)/python -m benchmarks

clean: ## remove .venv, caches and the demo's data
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache demo/data demo/results.png build *.egg-info
