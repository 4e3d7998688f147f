PYTHON ?= python3.11
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: help setup repro test test-slow check golden smoke format constraints

help: ## what there is to make
	@grep -E '^[a-z-]+:.*## ' Makefile | sed 's/:.*## /\t/' | expand -t 12

setup: .venv/.done ## the environment in .venv, from requirements-dev.txt

.venv/.done: requirements.txt requirements-dev.txt requirements-export.txt constraints.txt
	@echo "installing to .venv: about three minutes"
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --requirement requirements-dev.txt --constraint constraints.txt
	touch $@

repro: setup ## the active study, from raw data to tables
	dvc repro

smoke: setup ## the smoke study: every stage, a few steps; then the former study again
	study=$$(python -m stages.study name); python -m stages.study use smoke; \
	trap 'python -m stages.study use $$study' EXIT; dvc repro && python -m pipeline.check

test: setup ## the tests that take five to ten minutes
	OMP_NUM_THREADS=1 python -m pytest -n auto

test-slow: setup ## whole DVC runs and the paper's networks
	OMP_NUM_THREADS=1 python -m pytest -m slow -n auto --dist loadfile

check: setup ## formatting, lint, import directions
	ruff format --check .
	ruff check .
	lint-imports

constraints: ## the newest of what requirements*.txt bring along: constraints.txt
	$(PYTHON) -m venv --clear .venv/new
	.venv/new/bin/pip install --quiet --requirement requirements-dev.txt
	(head -n 1 constraints.txt; .venv/new/bin/pip freeze) > .venv/constraints.txt
	mv .venv/constraints.txt constraints.txt
	rm -r .venv/new

golden: setup ## record the golden traces anew; say why in the commit
	RECORD_GOLDEN=1 python -m pytest tests/methods/test_golden.py

format: setup ## put the code in the project's form
	ruff format .
	ruff check --fix .
