# Everything that a person or CI runs. From a fresh clone, `make run` serves and `make test`
# proves; both make .venv first. `make help` lists the targets.
#
#   make run  PORT=6379 DIR=data ARGS="--appendonly yes"
#   make sim  SEED=4711            one seed again       SEEDS=5000   many
#   make chaos SEED=4711 SECONDS=60                    one round again
#   make unit ARGS="-k backlog"    ARGS goes to pytest in every test target

PYTHON ?= python3
VENV ?= .venv
PORT ?= 6379
DIR ?= data
ARGS ?=

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BENCH_STAMP := $(VENV)/.installed-bench
# The compiled accelerators come out of these: a change of one means a new build.
PYX := $(wildcard kvrepl/*.pyx kvrepl/*.pxd kvrepl/*/*.pyx kvrepl/*/*.pxd rdb/*.pyx rdb/*.pxd)

# SEED and SEEDS reach the simulation as environment variables: make exports what is given to it.
PYTEST = $(BIN)/python -m pytest $(ARGS)

.DEFAULT_GOAL := help
.PHONY: help venv run test lint format type unit property fuzz sim interop differential chaos deep bench benchrdb demo build clean

help: ## this list
	@awk -F':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(STAMP) ## .venv with kvrepl and everything the tests need

$(STAMP): pyproject.toml setup.cfg $(PYX)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "kvrepl needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1)." \
	           "Choose another with: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	    { echo "$(PYTHON) cannot make a virtual environment. On Debian and Ubuntu:" \
	           "apt-get install python3-venv" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,lint]'
	@touch $@

$(BENCH_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@touch $@

run: $(STAMP) ## serve on 127.0.0.1:PORT in the foreground, data in DIR
	@mkdir -p '$(DIR)'
	@exec $(BIN)/kvrepl-server --bind 127.0.0.1 --port $(PORT) --dir '$(DIR)' $(ARGS)

test: lint type $(STAMP) ## everything CI runs: lint, types, and every test that is not deep
	$(PYTEST) tests

lint: $(STAMP) ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP) ## rewrite the files as ruff wants them
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

type: $(STAMP) ## mypy --strict
	$(BIN)/mypy
	$(BIN)/mypy tests benchmarks

unit: $(STAMP) ## tests without any process or socket
	$(PYTEST) tests/unit tests/property

property: $(STAMP) ## hypothesis alone
	$(PYTEST) tests/property

sim: export SEEDS := $(or $(SEEDS),10000)
sim: $(STAMP) ## clusters under 10,000 seeds; SEED= repeats one, SEEDS= takes so many
	$(PYTEST) tests/simulation

fuzz: $(STAMP) ## hostile bytes, many fresh examples
	HYPOTHESIS_PROFILE=deep $(PYTEST) tests/fuzz tests/property -m 'deep or not deep' --timeout=3600

interop: $(STAMP) ## against redis-server 7.0
	$(PYTEST) tests/interop

differential: $(STAMP) ## 200,000 random commands to redis-server and to us; SEED= repeats a run
	$(PYTEST) -s -m deep tests/interop/differential $(if $(SEED),--hypothesis-seed=$(SEED))

chaos: $(STAMP) ## mixed clusters under faults for ten minutes; SEED= SECONDS= one again
	$(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED)) $(if $(SECONDS),--seconds $(SECONDS))

deep: $(STAMP) ## the long runs: a million keys, a thousand cuts (an hour or more)
	HYPOTHESIS_PROFILE=deep $(PYTEST) tests -m deep

bench: $(BENCH_STAMP) ## beside redis-server, into benchmarks/results; ARGS="--quick bgsave"
	$(BIN)/python -m benchmarks $(ARGS)

benchrdb: $(BENCH_STAMP) ## the rdb tools beside rdbtools, which gets an environment of its own
	@test -x $(VENV)-rdbtools/bin/rdb || { $(PYTHON) -m venv $(VENV)-rdbtools && \
	    $(VENV)-rdbtools/bin/pip install --quiet rdbtools python-lzf; }
	$(BIN)/python -m benchmarks.rdb --rdbtools $(VENV)-rdbtools/bin/rdb \
	    --out benchmarks/results $(ARGS)

demo: $(STAMP) ## four servers, a cut link and a promotion, told step by step
	@$(BIN)/kvrepl demo

build: $(STAMP) ## a wheel with the compiled accelerators, in dist/
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

clean: ## remove what the other targets made, except the data of `make run`
	rm -rf $(VENV) $(VENV)-rdbtools build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find kvrepl rdb -name '*.so' -delete
