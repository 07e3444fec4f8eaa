# Every command builds .venv from the hash-locked requirements.txt when it is missing or older than the lock.
.DEFAULT_GOAL := help
.PHONY: help repro test test-long test-real lint verify verify-quick verify-portable bench bench-quick lock
.DELETE_ON_ERROR:

PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

help: ## Say what each command does
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /make \1\t/' | expand -t 14

repro: .venv/ready ## Run the pipeline: real MNIST to metrics, plots and dvc.lock
	dvc repro

test: .venv/ready ## Run the tests
	pytest

test-long: .venv/ready ## Kill trainings and their dvc by the dozen
	pytest -m long

test-real: repro ## Does the real model read photos of digits, and print?
	pytest -m real

verify: .venv/ready ## Two clean clones: is every output the same, and that of dvc.lock?
	python -m tools.verify

verify-quick: .venv/ready ## The same on a tenth of an epoch
	python -m tools.verify --quick

verify-portable: .venv/ready ## Does this processor arrive at the committed bytes of a short portable run?
	dvc repro prepare
	python -m tools.verify --portable

lint: .venv/ready ## Check style and types
	ruff check .
	ruff format --check .
	mypy

bench: .venv/ready ## Time the recipes against the notebook's way: more than an hour
	dvc repro prepare
	python -m benchmarks.bench

bench-quick: .venv/ready ## The quick recipes alone, nothing written
	dvc repro prepare
	python -m benchmarks.bench --quick

lock: .venv/ready ## Write requirements.txt anew from requirements.in
	pip install --quiet uv
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url requirements.in -o requirements.txt

.venv/ready: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: Python is too old" >&2; \
	  echo "  found:    $$($(PYTHON) --version 2>&1) ($(PYTHON))" >&2; \
	  echo "  expected: Python 3.11 or newer" >&2; \
	  echo "  run:      make $(MAKECMDGOALS) PYTHON=python3.12   # any newer one by its name" >&2; \
	  exit 1; }
	@echo "Setting up .venv from requirements.txt: some minutes, 6 GB"
	@$(PYTHON) -m venv --clear .venv
	@.venv/bin/python -m pip install --quiet --require-hashes --requirement requirements.txt
	@.venv/bin/python -m tools.page
	@touch .venv/ready
