# One file of commands. `make help` lists them; `make test` is what CI runs.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV ?= .venv
BIN := $(VENV)/bin
UV_COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --no-header pyproject.toml

# What to run, for the targets that take arguments:  make test-only ARGS="tests/core -k deadline"
ARGS ?=
SEEDS ?= 1000

.PHONY: help
help: ## This list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  \033[1m%-21s\033[0m %s\n", $$1, $$2}' Makefile

# -- environments ------------------------------------------------------------------------------

.PHONY: setup
setup: ## Install Slalom and its tools into .venv (by hash; nothing to do when up to date)
	@tools/setup.sh $(VENV) requirements/dev.txt --editable

.PHONY: bench-setup
bench-setup: ## Install the LiteLLM proxy, the benchmarks' comparison, into .venv-bench
	@tools/setup.sh .venv-bench requirements/bench.txt

.PHONY: ray-setup
ray-setup: ## Install Slalom with Ray, an extra, into .venv-ray
	@tools/setup.sh .venv-ray requirements/ray.txt --editable

.PHONY: vllm-setup
vllm-setup: setup ## Install vLLM for the CPU into .venv-vllm (the CPU's torch: UV_FIND_LINKS=FOLDER)
	@tools/setup_vllm.sh .venv-vllm requirements/vllm.txt $(BIN)/uv

.PHONY: lock-vllm
lock-vllm: setup ## Resolve vLLM's requirements anew (the CPU's torch: UV_FIND_LINKS=FOLDER)
	UV_FIND_LINKS=$${UV_FIND_LINKS:-$${PIP_FIND_LINKS:-}} $(BIN)/uv pip compile --quiet \
		--python-version 3.11 --generate-hashes --upgrade --no-emit-index-url \
		--no-annotate --no-header --override requirements/vllm.overrides \
		requirements/vllm.in -o requirements/vllm.txt
	sed -i '/^--/d' requirements/vllm.txt

.PHONY: lock
lock: setup ## Resolve the requirements anew and write the lock files (hashes, no addresses)
	$(UV_COMPILE) --upgrade --extra dev --extra docs -o requirements/dev.txt
	$(UV_COMPILE) --upgrade -c requirements/dev.txt -o requirements/runtime.txt
	$(UV_COMPILE) --upgrade --extra docs -c requirements/dev.txt -o requirements/docs.txt
	$(UV_COMPILE) requirements/ray.in --upgrade --extra ray -c requirements/dev.txt \
		-o requirements/ray.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
		--no-emit-index-url --no-annotate --no-header --override requirements/bench.overrides \
		requirements/bench.in \
		-o requirements/bench.txt

.PHONY: clean
clean: ## Remove environments, caches and build outputs
	rm -rf .venv .venv-* .venv.lock build dist site docs/reference/_generated
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests tools docs -name __pycache__ -type d -prune -exec rm -rf {} +

# -- use it ------------------------------------------------------------------------------------

.PHONY: demo
demo: setup ## Serve a mixed coding load with real models and compare policies (under 3 minutes)
	@$(BIN)/slalom demo $(ARGS)

.PHONY: serve
serve: setup ## Leave a server running on 127.0.0.1 and print how to point an editor at it
	@$(BIN)/slalom serve $(ARGS)

# -- check and test ----------------------------------------------------------------------------

.PHONY: check
check: lint types arrows spelling tidy ## All checks that need no test run (make -k check shows every failure)

.PHONY: lint
lint: setup ## ruff: rules and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

.PHONY: types
types: setup ## mypy --strict
	$(BIN)/mypy

.PHONY: arrows
arrows: setup ## import-linter: which room may import which
	$(BIN)/lint-imports --no-logo

.PHONY: spelling
spelling: setup ## codespell
	$(BIN)/codespell

.PHONY: tidy
tidy: setup ## The house's own rules: sizes, names, sleeps, dead modules, links
	$(BIN)/python -m tools.tidy

.PHONY: fix
fix: setup ## Let ruff repair and format what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: test
test: check ## Install, check and run every test (under 20 minutes on 2 cores)
	$(BIN)/pytest -q $(ARGS)

.PHONY: test-only
test-only: setup ## Only pytest:  make test-only ARGS="tests/core -k deadline"
	$(BIN)/pytest $(ARGS)

.PHONY: test-clients
test-clients: setup ## Real editors, agents and SDKs from PyPI and npm, each unchanged (8 minutes)
	$(BIN)/python -m tests.clients.run $(ARGS)

.PHONY: test-ray
test-ray: setup ray-setup ## A server on a Ray cluster on this machine, and what it survives
	$(BIN)/pytest -q -m ray tests/ray $(ARGS)

.PHONY: test-vllm
test-vllm: setup vllm-setup ## Real vLLM on the CPU behind Slalom (10 minutes on two idle cores, 3 GB)
	SLALOM_VLLM_PYTHON=.venv-vllm/bin/python $(BIN)/pytest -q -s tests/vllm $(ARGS)

.PHONY: swarm
swarm: setup ## More random worlds than CI tries:  make swarm SEEDS=5000
	$(BIN)/pytest -q tests/swarm --swarm-seeds $(SEEDS) --timeout 0 $(ARGS)

.PHONY: mutants
mutants: setup ## Bugs put in on purpose, which the checks must catch
	$(BIN)/pytest -q tests/mutants $(ARGS)

.PHONY: scorecard
scorecard: setup ## Write the twin's committed numbers anew, after a change that moves them
	$(BIN)/python -m tests.twin.scorecard --write

# -- measure -----------------------------------------------------------------------------------

.PHONY: bench
bench: bench-handle bench-gateway ## Both benchmarks

.PHONY: bench-gateway
bench-gateway: setup bench-setup ## Latency and throughput added by the gateway, next to LiteLLM's
	$(BIN)/python -m slalom.bench.gateway --write docs/benchmarks/gateway.md $(ARGS)

.PHONY: bench-handle
bench-handle: setup ## Cost of one scheduling decision
	$(BIN)/python -m slalom.bench.handle --write docs/benchmarks/handle.md $(ARGS)

.PHONY: bench-alternation
bench-alternation: setup ## Two models in memory for one: request to first token, by phase (2 minutes)
	$(BIN)/python -m slalom.bench.alternation --write docs/benchmarks/alternation.md $(ARGS)

.PHONY: bench-sla
bench-sla: setup ## Every policy on SABER's grid and the standing loads, in the twin (about an hour)
	$(BIN)/python -m slalom.bench.sla --write docs/benchmarks/sla.md $(ARGS)

.PHONY: bench-residency
bench-residency: setup ## Every residency policy where models outnumber memory, in the twin (half an hour)
	$(BIN)/python -m slalom.bench.residency --write docs/benchmarks/residency.md $(ARGS)

.PHONY: bench-fleet
bench-fleet: setup ## Routing and scaling of fleets in the twin (half an hour on two idle cores)
	$(BIN)/python -m slalom.bench.fleet --write docs/benchmarks/fleet.md $(ARGS)

.PHONY: bench-residency-live
bench-residency-live: setup ## Residency policies on six real models in memory for half (12 minutes, idle machine)
	$(BIN)/python -m slalom.bench.residency_live --write docs/benchmarks/residency-live.md $(ARGS)

.PHONY: bench-sla-live
bench-sla-live: setup bench-setup ## One engine directly, by LiteLLM and by Slalom under load (12 minutes, idle machine)
	$(BIN)/python -m slalom.bench.sla_live --write docs/benchmarks/sla-live.md $(ARGS)

.PHONY: bench-ray
bench-ray: setup ray-setup ## The same load by Ray Serve, Slalom on Ray and Slalom (25 minutes, idle machine)
	$(BIN)/python -m slalom.bench.ray_live --write docs/benchmarks/ray.md $(ARGS)

.PHONY: bench-ray-faults
bench-ray-faults: setup ray-setup ## Parts of a Ray cluster die under traffic: who notices, for how long (6 minutes)
	SLALOM_RAY_FAULTS_PAGE=docs/benchmarks/ray-faults.md \
		$(BIN)/pytest -q -m ray tests/ray/test_faults.py $(ARGS)

.PHONY: bench-chains
bench-chains: setup ## Chains of three calls beside people, told and not told (10 minutes, idle machine)
	$(BIN)/python -m slalom.bench.chains --write docs/benchmarks/chains.md $(ARGS)

.PHONY: bench-confidence
bench-confidence: setup ## A small model first, a large one where it is doubted, live and twin (8 minutes)
	$(BIN)/python -m slalom.bench.confidence --write docs/benchmarks/confidence.md $(ARGS)

.PHONY: bench-typing
bench-typing: setup bench-setup ## People who type, directly, by LiteLLM and by Slalom (12 minutes, idle machine)
	$(BIN)/slalom bench type --write docs/benchmarks/typing.md $(ARGS)

.PHONY: bench-hostile
bench-hostile: setup ## Hostile clients: memory, and what ordinary clients notice (half a minute)
	SLALOM_HOSTILE_PAGE=docs/benchmarks/hostile.md $(BIN)/pytest -q tests/gateway/test_hostile.py $(ARGS)

.PHONY: fidelity
fidelity: setup ## The twin against real llama.cpp on the same arrivals (ten minutes, idle machine)
	$(BIN)/python -m slalom.bench.fidelity --write docs/benchmarks/fidelity.md $(ARGS)

.PHONY: train
train: ## Train the bundled models again (needs torch; see tools/train)
	@tools/train/run.sh $(ARGS)

# -- documentation -----------------------------------------------------------------------------

.PHONY: docs
docs: setup ## Build the site into site/, strictly
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

.PHONY: docs-serve
docs-serve: setup ## Serve the site locally while you write
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

.PHONY: news
news: setup ## Show what the next release's notes would say
	$(BIN)/towncrier build --draft --version next
