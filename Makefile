# The same commands that CI and the README use. `make help` lists them.
SHELL := /bin/bash -o pipefail
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

PEERS ?= 3
ROUNDS ?= 10
RECIPE ?= recipes/arithmetic.yaml
RUN := runs/$(shell date +%Y%m%d-%H%M%S)
SUMMARY ?= $(RUN)/summary.json

.DEFAULT_GOAL := help
.PHONY: help install model swarm test lint contracts contracts-check bench clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18
	@echo; echo "variables of swarm: PEERS=$(PEERS) ROUNDS=$(ROUNDS) RECIPE=$(RECIPE) SUMMARY=FILE"

install: $(READY)  ## create .venv and install the pinned set (2 to 6 minutes)

$(READY): pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "Python 3.11 or later is needed; name one with: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "[install] about 150 packages into $(VENV): 2 to 6 minutes; details in $(VENV)/install.log"
	@"$(PYTHON)" -m venv $(VENV)
	@$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]' 2>&1 \
	  | tee $(VENV)/install.log \
	  | awk '/^Collecting/ {n++; printf "%s", (n % 10 ? "" : "[install] " n " packages found\n"); fflush()} \
	         /^Installing collected/ {print "[install] unpacking them: about a minute"; fflush()} \
	         /^(ERROR|error)/ {print; fflush()}' \
	  || { tail -20 $(VENV)/install.log >&2; exit 1; }
	@touch $@
	@echo "[install] done"

model: $(READY)  ## obtain the recipe's model (1 to 3 minutes the first time)
	@echo "[model] the model of $(RECIPE): up to 3 minutes the first time, then seconds"
	@$(BIN)/swarm recipe $(RECIPE) --model | xargs -I{} $(BIN)/swarm model {}

swarm: model  ## start a local swarm that trains, and print what came of it
	@mkdir -p $(RUN) $(dir $(SUMMARY))
	@echo "[swarm] $(PEERS) peers, $(ROUNDS) rounds; on 2 CPU cores a round of the arithmetic recipe takes about a minute"
	@$(BIN)/python -m swarm.join --recipe $(RECIPE) --peers $(PEERS) --rounds $(ROUNDS) --home $(RUN) --summary $(SUMMARY)
	@[ -t 1 ] || $(BIN)/swarm summary $(SUMMARY)
	@echo "[swarm] the summary is in $(SUMMARY)"

test: $(READY)  ## run all tests (no GPU, no network but the package registries)
	@$(MAKE) --no-print-directory lint
	$(BIN)/python -m pytest

lint: $(READY)  ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

contracts:  ## rebuild the contract's artifact (needs node and npm)
	@command -v npm >/dev/null || { echo "node 20 or later and npm are needed, such as Debian's nodejs and npm" >&2; exit 1; }
	cd contracts && npm ci --no-audit --no-fund && node build.mjs

contracts-check:  ## fail if the committed artifact is not what the source compiles to
	@command -v npm >/dev/null || { echo "node 20 or later and npm are needed, such as Debian's nodejs and npm" >&2; exit 1; }
	cd contracts && npm ci --no-audit --no-fund && node build.mjs --check

bench: model  ## the numbers of the README, written to bench/results/ (15 minutes on 2 cores)
	$(BIN)/python -m bench.first_swarm

clean:  ## remove .venv and runs/
	rm -rf $(VENV) runs
