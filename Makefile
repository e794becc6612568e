# Everything runs in .venv, which is made by itself and renewed when a lock file changes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FILE ?= examples/laptop.yaml
ARGS ?=
REDIS ?=
STORE ?=
NODES ?= 3
TAG ?= dev

# What needs only the product, and what needs the developers' tools too.
RUN := $(VENV)/.installed-run
DEV := $(VENV)/.installed-dev

.DEFAULT_GOAL := help
.PHONY: help run install dev check test test-slow test-contract test-stores docs mongo-java bench bench-short \
  bench-storage bench-cluster drill drill-short drill-stores drill-redis cluster-up cluster-down cluster-load cluster-run \
  test-cluster test-cluster-short test-image lock clean

help:  ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# What is not given stays as the environment has it; what is given is not expanded: passwords may have a $ in them.
ifneq ($(value REDIS),)
run: export CHATCTL_REDIS = $(value REDIS)
endif
ifneq ($(value STORE),)
run: export CHATCTL_STORE = $(value STORE)
endif
run: $(RUN)  ## Start a chat cluster here: Redis, pods, operator (FILE=examples/laptop.yaml, STORE=URL, REDIS=URL, ARGS="--port 9000")
	@exec $(BIN)/chatctl up $(FILE) $(ARGS)

install: $(RUN)  ## Make .venv and install what the product needs

dev: $(DEV)  ## The same with the developers' tools

check: $(DEV)  ## Format, lint, types, import contracts, dead code, generated docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/vulture
	$(BIN)/python -m docs.tools --check

test: $(DEV)  ## The tests, in under five minutes
	$(BIN)/python -m pytest -m "not slow and not stores" --ignore tests/cluster -n 4 --dist loadfile $(ARGS)

test-slow: $(DEV)  ## The tests that take longer
	$(BIN)/python -m pytest -m "slow and not stores" --ignore tests/cluster $(ARGS)

test-contract: $(DEV)  ## The rest of the contracts: all on PostgreSQL, Redis under Sentinels and as a cluster, and faults
	$(BIN)/python -m pytest -m stores -n 3 --dist loadfile tests/contract tests/worker tests/redis $(ARGS)

test-stores: test-contract test-slow  ## The same, test-slow, and Redis and each store broken under the drill, three times each (40 minutes more)
	$(BIN)/python -m pytest -m stores --ignore tests/contract --ignore tests/worker --ignore tests/redis \
	  --ignore tests/cluster $(ARGS)
	PYTHONPATH=tests $(BIN)/python -m drills.stores

drill-stores: $(DEV)  ## A short drill on each store while it fails and a pod dies, and on a Redis that fails over, both ways
	PYTHONPATH=tests $(BIN)/python -m drills.stores --short
	PYTHONPATH=tests $(BIN)/python -m drills redis-failover redis-cluster-failover --times 1

drill-redis: $(DEV)  ## The faults of a Redis under the drill, three times each (ARGS="redis-stopped --times 1")
	PYTHONPATH=tests $(BIN)/python -m drills $(ARGS)

cluster-up: $(DEV)  ## A real Kubernetes on this machine, as root (NODES=3, KWOK=1 for fake nodes, CLUSTER=name)
	PYTHONPATH=tests $(BIN)/python -m cluster up --nodes $(NODES) $(if $(KWOK),--kwok)

cluster-down: $(DEV)  ## End it, and leave nothing of it
	PYTHONPATH=tests $(BIN)/python -m cluster down

cluster-load: $(DEV)  ## Make our image of the code as it is, and load it into every node (TAG=dev)
	PYTHONPATH=tests $(BIN)/python -m cluster load --tag $(TAG)

cluster-run: $(DEV)  ## A command in the cluster's network (ARGS="kubectl get pods -A")
	@PYTHONPATH=tests $(BIN)/python -m cluster run $(ARGS)

test-cluster: $(DEV)  ## The tests that need a Kubernetes: the one of `make cluster-up`, or yours by KUBECONFIG
	PYTHONPATH=tests $(BIN)/python -m cluster test $(ARGS)

test-cluster-short: $(DEV)  ## The same without what takes long (about half of the time)
	PYTHONPATH=tests $(BIN)/python -m cluster test --short $(ARGS)

bench-cluster: $(DEV)  ## 200 ChatClusters under one operator, on nodes that only pretend; after `make cluster-up`
	@PYTHONPATH=tests $(BIN)/python -m cluster run $(BIN)/python -m bench.fleet $(ARGS)

test-image: $(DEV)  ## The Dockerfile by buildah, beside the image that the tests make without it (as root)
	$(BIN)/python -m pytest tests/image $(ARGS)

mongo-java: $(DEV)  ## Build the MongoDB-protocol server for tests (needs a JDK and Maven), if there is none yet
	PYTHONPATH=tests $(BIN)/python -m support.mongo.java_build

docs: $(DEV)  ## Renew what docs/ takes from the types and from a real run
	$(BIN)/python -m docs.tools

bench: $(DEV)  ## All measurements, in at most five minutes, into bench/results/latest.json
	$(BIN)/python -m bench $(ARGS)

bench-short: $(DEV)  ## A quick look at the same measurements
	$(BIN)/python -m bench --short $(ARGS)

bench-storage: $(DEV)  ## SQLite, PostgreSQL and MongoDB's protocol side by side, up to ten million events
	$(BIN)/python -m bench.storage $(ARGS)

drill: $(RUN)  ## Two hundred people under every fault, on a cluster of its own
	./tools/drill.sh $(ARGS)

drill-short: $(RUN)  ## The same with fewer people for less time
	./tools/drill.sh --short $(ARGS)

lock: $(DEV)  ## Lock the newest versions that pyproject.toml allows, with hashes
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
	  --no-annotate --no-emit-index-url --no-emit-find-links --group build pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
	  --no-annotate --no-emit-index-url --no-emit-find-links -c requirements.lock --extra operator pyproject.toml \
	  -o requirements-operator.lock
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
	  --no-annotate --no-emit-index-url --no-emit-find-links -c requirements-operator.lock --extra dev \
	  --extra operator pyproject.toml -o requirements-dev.lock

clean:  ## Remove .venv and caches; the data in .chatcluster stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/pip:
	@command -v $(PYTHON) >/dev/null || { echo "make: there is no $(PYTHON): install Python 3.11 or newer" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "make: $$($(PYTHON) --version) is too old: install Python 3.11 or newer, or name one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "make: $(PYTHON) lacks the venv module: install it (on Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@echo "making $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(RUN): requirements.lock pyproject.toml | $(VENV)/bin/pip
	@echo "installing into $(VENV)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(BIN)/python -m compileall -q chatkernel chatpod apipod worker prober chatclient operator
	@touch $@

$(DEV): requirements-dev.lock $(RUN)
	@echo "installing the developers' tools into $(VENV)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@
