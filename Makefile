# The same commands that CI and the README use. `make help` lists them.
SHELL := /bin/bash -o pipefail
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CONTRACT_TOOLS := contracts/node_modules/.ready
SLITHER := contracts/.venv/bin/slither

PEERS ?= 3
ROUNDS ?= 10
RECIPE ?= recipes/arithmetic.yaml
RUN := runs/$(shell date +%Y%m%d-%H%M%S)
SUMMARY ?= $(RUN)/summary.json
SMOLLM_SEEDS ?= 1

.DEFAULT_GOAL := help
.PHONY: help install model swarm test lint contracts contracts-check contracts-gas contracts-slither contracts-tools \
  bench bench-collective bench-contracts bench-judging bench-network bench-training screenshots clean

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
	  | { n=0; while IFS= read -r line; do case "$$line" in \
	        Collecting*) n=$$((n + 1)); [ $$((n % 10)) -ne 0 ] || echo "[install] $$n packages found";; \
	        "Installing collected"*) echo "[install] unpacking them: one to three minutes";; \
	        ERROR*|error*) echo "$$line";; \
	      esac; done; } \
	  || { tail -20 $(VENV)/install.log >&2; exit 1; }
	@touch $@
	@echo "[install] done"

model: $(READY)  ## obtain the recipe's model (1 to 3 minutes the first time)
	@echo "[model] the model of $(RECIPE): up to 3 minutes the first time, then seconds"
	@$(BIN)/swarm recipe $(RECIPE) --model | xargs -I{} $(BIN)/swarm model {}

swarm: model  ## start a local swarm that trains, and print what came of it
	@mkdir -p $(RUN) $(dir $(SUMMARY))
	@echo "[swarm] $(PEERS) peers, $(ROUNDS) rounds; on 2 CPU cores a round of the arithmetic recipe takes about a minute, without bfloat16 longer"
	@$(BIN)/python -m swarm.join --recipe $(RECIPE) --peers $(PEERS) --rounds $(ROUNDS) --home $(RUN) --summary $(SUMMARY)
	@[ -t 1 ] || $(BIN)/swarm summary $(SUMMARY)
	@echo "[swarm] the summary is in $(SUMMARY)"

test: $(READY)  ## run all tests (no GPU, no network but the package registries)
	@$(MAKE) --no-print-directory lint
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile --ignore tests/swarm
	$(BIN)/python -m pytest tests/swarm  # each of them starts several peers, which take all cores

lint: $(READY)  ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

contracts: $(CONTRACT_TOOLS)  ## build and check the contract: tests, gas, coverage, lint (5 to 10 minutes)
	@echo "[contracts] the artifact for Python"
	@cd contracts && node build.mjs
	@echo "[contracts] format and solhint"
	@cd contracts && npx forge fmt --check && npx solhint -c solhint.yaml --disc --noPoster --max-warnings 0 'src/*.sol'
	@echo "[contracts] unit tests, fuzzing, invariants and the gas snapshot: 1 to 4 minutes, most of it compiling"
	@cd contracts && npx forge test
	@echo "[contracts] coverage: a minute"
	@cd contracts && npx forge coverage --no-match-contract 'Gas|Invariants' --no-match-coverage test/ --report lcov >/dev/null
	@$(MAKE) --no-print-directory contracts-slither bench-contracts

contracts-check: $(CONTRACT_TOOLS)  ## what CI checks: the artifact is of this source, the gas is that of the snapshot
	@cd contracts && node build.mjs --check && npx forge test --match-contract Gas

contracts-gas: $(CONTRACT_TOOLS)  ## accept the gas that the contract takes now (contracts/snapshots/)
	@cd contracts && rm -f snapshots/*.json && FORGE_SNAPSHOT_CHECK=false npx forge test --match-contract Gas

# The detector "timestamp" is off: the shortest windows here are minutes, and a proposer can shift the time by seconds.
contracts-slither: $(CONTRACT_TOOLS) $(SLITHER)
	@echo "[contracts] slither: a minute"
	@cd contracts && PATH="$$PWD/node_modules/.bin:$$PWD/.venv/bin:$$PATH" \
	  slither . --filter-paths 'node_modules|test' --exclude timestamp 2>&1 | tee slither.log | tail -1 \
	  && grep -q ' 0 result(s) found' slither.log || { cat contracts/slither.log >&2; exit 1; }

bench-contracts:  ## the contract's gas and coverage as tables, after: make contracts
	@$(PYTHON) -m bench.contracts

$(CONTRACT_TOOLS): contracts/package-lock.json
	@command -v npm >/dev/null || { echo "node 20 or later and npm are needed, such as Debian's nodejs and npm" >&2; exit 1; }
	@echo "[contracts] compiler, foundry and solhint from npm: a minute"
	@cd contracts && npm ci --no-audit --no-fund --silent
	@[ -x contracts/node_modules/.bin/forge ] || { echo "foundry's npm packages are for Linux on x86-64 and macOS on ARM; on this machine only the artifact can be built: cd contracts && node build.mjs" >&2; exit 1; }
	@touch $@

$(SLITHER):
	@echo "[contracts] slither into contracts/.venv: a minute"
	@"$(PYTHON)" -m venv contracts/.venv && contracts/.venv/bin/pip install -qq --disable-pip-version-check slither-analyzer==0.11.6

contracts-tools: $(CONTRACT_TOOLS)

bench: model  ## the numbers of the README, written to bench/results/ (15 minutes on 2 cores)
	$(BIN)/python -m bench.first_swarm

bench-judging: $(READY)  ## every adversary of the judging simulator, to bench/results/judging.md (3 core-hours)
	$(BIN)/python -m bench.judging --minutes 240

bench-collective: model  ## what peers gain from each other, into bench/results/ (on 2 cores over an hour, and about one more for each of SMOLLM_SEEDS)
	$(BIN)/python -m bench.collective --model tiny --rounds 60 --jobs 2 --seeds 2 $(if $(MINUTES),--minutes $(MINUTES))
	$(BIN)/python -m bench.collective --model tiny --rounds 60 --jobs 2 --best-rates $(if $(MINUTES),--minutes $(MINUTES))
	$(BIN)/python -m bench.collective --model smollm2 --jobs 2 --measure-every 2 --seeds $(SMOLLM_SEEDS) \
	    --arms alone mean both "trimmed, negated" $(if $(MINUTES),--minutes $(MINUTES))
	$(BIN)/python -m bench.collective --table bench/results/collective-*.jsonl

bench-network: $(READY)  ## the network beside the anchor's all-gather: bench/results/network.md (about 30 minutes on 2 cores)
	$(BIN)/python -m bench.network --table --minutes 60

bench-training: model  ## one peer alone beside TRL and one generate per completion (70 minutes on 2 cores)
	$(BIN)/python -m bench.training --steps 20 --repeats 2

screenshots: $(READY)  ## pictures of the dashboard into docs/images/, over the swarm in HOME_DIR (needs Chromium)
	@[ -n "$(HOME_DIR)" ] || { echo "say whose: make screenshots HOME_DIR=runs/…" >&2; exit 1; }
	@$(BIN)/python -m tests.dashboard.browser.screenshots "$(HOME_DIR)"

clean:  ## remove .venv and runs/
	rm -rf $(VENV) runs contracts/.venv contracts/node_modules contracts/out contracts/cache
