# Needs python3 (3.11 or newer) with pip and venv, and make; everything else is fetched as locked.
# `make` without a target prints the list of targets.

.DEFAULT_GOAL := help
.PHONY: help demo test bench lint format lock
MAKEFLAGS += --no-print-directory

BIN := .venv/bin

help: ## This list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

demo: .venv/.ok ## Run a trusted third party and two nodes, and send a certified mail (ARGS="--help" for options)
	@$(BIN)/secmtp demo $(ARGS)

test: lint ## All checks, then all tests (ARGS="-k ledger" or "-n 2" go to pytest)
	@echo "== tests"
	@$(BIN)/python -m pytest -q -n 2 $(ARGS)

bench: .venv/.ok ## Measure the ledger: a million entries, proofs, trades a second (minutes; wants a quiet machine)
	@$(BIN)/python -m pytest -q tests/bench/*.py $(ARGS)

lint: .venv/.ok ## Style, format, types and import contracts
	@echo "== style"
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet || { echo "run: make format"; exit 1; }
	@echo "== types"
	@$(BIN)/mypy --no-error-summary
	@echo "== import contracts"
	@$(BIN)/lint-imports --no-logo --cache-dir .import_linter_cache

format: .venv/.ok ## Put the code into its one format and mend what can be mended
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

lock: ## Resolve requirements.lock anew from pyproject.toml (ARGS=--upgrade takes newer versions)
	@.ci/lock $(ARGS)

# Touched last: a set-up that was cut short is done again.
.venv/.ok: requirements.lock pyproject.toml .ci/setup
	@.ci/setup
	@touch $@
