# Every target but help first builds .venv from the two requirements*.txt, if it is missing or older than they are.
.DEFAULT_GOAL := help
.PHONY: help repro test lint test-all test-long verify bench lock
.DELETE_ON_ERROR:

PYTHON ?= python3
COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url
LOCKS := -r requirements.txt -r requirements-dev.txt
PIP := .venv/bin/python -m pip install --quiet --require-hashes
UV := .venv/bin/uv pip install --python .venv/bin/python --quiet --require-hashes
# with the default shell, make 3.81 (macOS) ignores this PATH
SHELL := /bin/bash
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# importing torch takes half as long when Python may keep the compiled files
unexport PYTHONDONTWRITEBYTECODE

help: ## List the commands
	@awk -F ':.*## ' '/^##@/ {print "\n" substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' Makefile

##@ Use it

repro: .venv/ready ## Run the pipeline: from MNIST to metrics, plots and dvc.lock
	dvc repro

##@ Test it

test: .venv/ready ## Run the unit tests and the pipeline once, end to end, in about two minutes
	pytest tests/unit tests/integration/test_pipeline.py

lint: .venv/ready ## Check style and types
	ruff check .
	ruff format --check .
	mypy

test-all: .venv/ready ## Run all tests except test-long; starts servers and a browser, kills processes
	pytest

test-long: .venv/ready ## Run the crash tests: kill training runs and dvc many times
	pytest -m long

verify: repro ## Run the pipeline again in a clean clone of the last commit, and compare the two dvc.lock
	@clone=$$(mktemp -d) && trap 'rm -rf "$$clone"' EXIT && git clone --quiet . "$$clone" && \
	{ [ ! -d data/raw ] || cp -R data/raw "$$clone/data/"; } && cd "$$clone" && \
	dvc repro --force && diff "$(CURDIR)/dvc.lock" dvc.lock && echo "All outputs have the same bytes"

##@ Measure and maintain

bench: .venv/ready ## Measure the recipes against the notebook's training code: about two hours
	dvc repro prepare
	python -m benchmarks.bench

lock: .venv/ready ## Write both requirements*.txt from requirements*.in
	$(COMPILE) requirements.in -o requirements.txt
	$(COMPILE) requirements-dev.in -o requirements-dev.txt

.venv/ready: requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: $(PYTHON) is $$($(PYTHON) --version 2>&1), expected Python 3.11 or newer" >&2; \
	  echo "hint: make $(MAKECMDGOALS) PYTHON=python3.12   # or any newer Python" >&2; \
	  exit 1; }
	@echo "Setting up .venv from requirements.txt and requirements-dev.txt (a few minutes, 6 GB)"
	@$(PYTHON) -m venv --clear .venv
	@sed -n '/^uv==/,/[^\\]$$/p' requirements-dev.txt > .venv/uv.txt
	@$(PIP) -r .venv/uv.txt
	@$(UV) $(LOCKS) || { \
	  echo "warning: uv failed; trying pip, which is slower and reads pip.conf" >&2; \
	  $(PYTHON) -m venv --clear .venv && $(PIP) $(LOCKS); }
	@.venv/bin/python -m tools.page
	@touch .venv/ready
