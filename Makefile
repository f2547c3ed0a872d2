# Audit Platform. `make help` is rendered from the comments in this file: `##` after a target
# describes it, `#?` describes a variable.
# Needs Python 3.11 and make; uv is fetched into .uv/ when the machine has none.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

#? ARGS           options of demo, up, bench and e2e-lifecycle, e.g. make demo ARGS=--exit
ARGS ?=
#? TESTS          what `make test` runs: paths, or -k and -m expressions
TESTS ?=
#? WORKERS        test processes; four keep 2 cores busy, since many tests wait; 0 runs in this one
WORKERS ?= 4
#? CHAOS_WORKERS  the same for `make chaos`, whose recoveries are timed
CHAOS_WORKERS ?= 3
#? CHAOS          what `make chaos` runs
CHAOS ?= -m chaos
#? SOAK_MINUTES   length of `make soak`
SOAK_MINUTES ?= 60
#? SOAK_RATE      events a second of `make soak`
SOAK_RATE ?= 1000
#? LIFECYCLE_ROWS rows of `make e2e-lifecycle`, spread over 40 days
LIFECYCLE_ROWS ?= 5000000
#? PYTHON         a Python 3.11; found on the PATH and among pyenv's versions
PYTHON ?= $(shell .ci/find-python)
#? UV             uv to use; default: the machine's, otherwise .uv/bin/uv
UV ?= $(shell command -v uv || echo .uv/bin/uv)

BIN := .venv/bin
SYNCED := .venv/.synced
# One sync at a time; a second `make` waits here and then finds nothing to do.
LOCK := $(shell command -v flock >/dev/null && echo flock .uv/lock)
# Only for a new environment: uv would replace one that was made with another Python 3.11.
NEW_ENVIRONMENT = $(if $(wildcard $(BIN)/python),,$(if $(PYTHON),--python "$(PYTHON)"))
# The machine's certificates, as pip and curl use them: a company's proxy is known there only.
export UV_SYSTEM_CERTS ?= true
# A user without a writable home (containers) still needs a cache for uv.
ifneq ($(shell test -w "$${HOME:-/nonexistent}" && echo yes),yes)
export UV_CACHE_DIR := $(CURDIR)/.uv/cache
endif

##@ Run it

.PHONY: demo
demo: $(SYNCED) ## start everything, generate traffic, print the balance; ARGS=--exit ends
	$(BIN)/audit-platform demo $(ARGS)

.PHONY: up
up: $(SYNCED) ## start PostgreSQL, Redis and Dagster in the foreground; Ctrl-C stops
	$(BIN)/audit-platform up $(ARGS)

##@ Prove it

.PHONY: test
test: $(SYNCED) ## every test, in random order
	$(BIN)/pytest -n $(WORKERS) --dist loadgroup $(TESTS)

.PHONY: e2e
e2e: $(SYNCED) ## the real stack from outside: daemon, code server, webserver, GraphQL
	$(BIN)/pytest -n 0 -m acceptance

.PHONY: e2e-lifecycle
e2e-lifecycle: $(SYNCED) ## 40 days of rows through their whole life on the real stack; ends with PASS or FAIL
	$(BIN)/python -m tests.acceptance.lifecycle --rows $(LIFECYCLE_ROWS) $(ARGS)

.PHONY: chaos
chaos: $(SYNCED) ## all fault tests on PostgreSQL 18 and 16, at least 200 kills each; ends with a table
	@rm -rf .chaos
	status=0; for version in 18 16; do \
	  AUDIT_TEST_PG=$$version AUDIT_TEST_CHAOS=full AUDIT_TEST_CHAOS_DIR=.chaos \
	    $(BIN)/pytest -n $(CHAOS_WORKERS) --dist loadgroup $(CHAOS) || status=1; \
	done; \
	$(BIN)/python -m tests.chaos.harness.report .chaos || status=1; exit $$status

.PHONY: soak
soak: $(SYNCED) ## an hour at a steady rate, a fault a minute; ends with PASS or FAIL
	$(BIN)/python -m tests.chaos.harness.soak --minutes $(SOAK_MINUTES) --rate $(SOAK_RATE)

.PHONY: bench
bench: $(SYNCED) ## figures of the call, the drain against \copy, and the latency
	$(BIN)/python -m benchmarks $(ARGS)

.PHONY: bench-lifecycle
bench-lifecycle: $(SYNCED) ## figures of archive, restore, searches and growth; 34 GB of disk, about 50 minutes
	$(BIN)/python -m benchmarks border_reader archive_export archive_restore history_search growth $(ARGS)

.PHONY: check
check: check-format check-lint check-types check-imports check-sql check-style ## what CI runs before the tests

.PHONY: check-format
check-format: $(SYNCED) ## formatting, without changing a file
	$(BIN)/ruff format --check

.PHONY: check-lint
check-lint: $(SYNCED) ## ruff, all rules but the reasoned exceptions
	$(BIN)/ruff check

.PHONY: check-types
check-types: $(SYNCED) ## basedpyright over package, tests and benchmarks
	$(BIN)/basedpyright

.PHONY: check-imports
check-imports: $(SYNCED) ## who may import whom
	$(BIN)/lint-imports --no-logo

.PHONY: check-sql
check-sql: $(SYNCED) ## sqlfluff over queries and migrations
	$(BIN)/sqlfluff lint --disable-progress-bar audit_platform

.PHONY: check-style
check-style: $(SYNCED) ## the checks of tests/architecture, those that need no service
	$(BIN)/pytest -n 0 -q --tb=short tests/architecture -m "not integration"

##@ Change it

.PHONY: format
format: $(SYNCED) ## format and apply the safe fixes
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

.PHONY: docs
docs: $(SYNCED) ## write .env.example and docs/data.md from their sources
	$(BIN)/python -m tests.architecture.write_documents

.PHONY: hooks
hooks: $(SYNCED) ## install the pre-commit hooks
	$(BIN)/pre-commit install

.PHONY: sync
sync: $(SYNCED) ## environment from uv.lock; every other target does it when needed

# --compile-bytecode: without bytecode each Dagster run starts 1.6 s late (measured).
$(SYNCED): uv.lock pyproject.toml | $(UV)
	@mkdir -p .uv
	$(LOCK) $(UV) sync --locked --all-extras --compile-bytecode $(NEW_ENVIRONMENT)
	@$(BIN)/python -m compileall -q audit_platform
	@touch $@

.uv/bin/uv:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 found. Install it, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@mkdir -p .uv
	@$(LOCK) .ci/install-uv "$(PYTHON)"

.PHONY: clean
clean: ## remove the environment, caches and build results; data directories stay
	rm -rf .venv .uv .chaos dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find audit_platform tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

.PHONY: help
help: ## this text
	@awk 'BEGIN {FS = ":.*## "} \
	  /^##@ / {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z0-9-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' Makefile
	@printf '\nVariables\n'
	@sed -n 's/^#? /  /p' Makefile
