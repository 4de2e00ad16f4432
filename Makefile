# Every target sets up .venv by itself: python3 (3.11 or newer, with venv), make and a network are all it takes.

PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# The folders import as amr.*: mypy and doctest see them through a link of that name.
AS_AMR := dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && ln -s "$(CURDIR)" "$$dir/amr" && cd "$$dir" &&
RUN := "$(abspath $(BIN))/python" -m

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-ray test-lowest test-newest torture doctest docs tutorials lint format bench gpu results clean

help:  ## what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Packages without what they depend on, such as compilers and old libraries: one brings weights, the others are what our
# own code must be equal to.
ALONE := Resemblyzer torchvggish panns-inference torchlibrosa

setup: $(READY)  ## .venv with the package, editable, and its tools, in the versions of constraints.txt

$(READY): pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "PYTHON must be Python 3.11 or newer, got $(PYTHON): $$("$(PYTHON)" --version 2>&1)." \
		"Pass for example: make PYTHON=python3.12" >&2; exit 1; }
	@"$(PYTHON)" -m venv "$(VENV)" || { \
		echo "$(PYTHON) must have the venv module (on Debian: apt install python3-venv)." >&2; exit 1; }
	@echo "installing into $(VENV): a few minutes, torch is large"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint "$(CONSTRAINTS)" --editable '.[dev,docs]'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint "$(CONSTRAINTS)" --no-deps $(ALONE)
	@touch $@

demo: $(READY)  ## the whole pipeline on clips that it renders itself; about a minute
	$(BIN)/amr demo

test: $(READY)  ## all tests; those that need real media skip where there are none
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal $(ARGS)

# Ray starts threads, and a fork of a process with threads may wait for ever. So each module has a process of its own.
RAY_TESTS := tests/common/cluster tests/extract/shards/test_on_ray.py tests/fusion/sweep/test_on_ray.py tests/torture/kills/test_kill_points.py

test-ray: $(READY)  ## the tests of --engine ray, on a local cluster of two nodes; a few minutes
	@set -e; for each in $(RAY_TESTS); do OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m ray $$each; done

torture: $(READY)  ## the long tests of docs/reliability.md: kills, damage, hostile files; under half an hour on 2 cores
	$(BIN)/python -m tests.torture $(ARGS)

test-lowest:  ## the tests with the lowest versions that pyproject.toml allows, in .venv-lowest
	@mkdir -p .venv-lowest && "$(PYTHON)" tests/versions.py lowest > .venv-lowest/constraints.txt
	$(MAKE) test VENV=.venv-lowest CONSTRAINTS=.venv-lowest/constraints.txt

test-newest:  ## the tests with the newest versions that pyproject.toml allows, in .venv-newest
	$(MAKE) test VENV=.venv-newest CONSTRAINTS=/dev/null

doctest: $(READY)  ## the examples in docstrings
	@$(AS_AMR) OMP_NUM_THREADS=1 $(RUN) pytest --quiet -p no:cacheprovider --config-file "$(CURDIR)/pyproject.toml" \
		--rootdir "$$dir" --override-ini consider_namespace_packages=true --doctest-modules \
		amr/common amr/console amr/data_manifests amr/extract amr/fusion amr/cli.py

# Without the switch, the theme prints an announcement on each build.
docs: $(READY)  ## the documentation site, into site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet --site-dir site
	@echo "open site/index.html"

tutorials: $(READY)  ## run the executed pages of docs/ and put what they print into them; ARGS="docs/quickstart.md" for one
	OMP_NUM_THREADS=1 $(BIN)/python docs/tutorials/run.py --write $(ARGS)

lint: $(READY)  ## ruff and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	@$(AS_AMR) $(RUN) mypy --config-file "$(CURDIR)/pyproject.toml" --cache-dir "$(CURDIR)/.mypy_cache" \
		--package amr.common --package amr.console --package amr.data_manifests --package amr.extract --package amr.fusion --module amr.cli

format: $(READY)  ## let ruff rewrite what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# Small sizes, a few minutes in all; docs/benchmarks.md has the commands of the full ones.
BENCHES := "step.py --rounds 1 --runs 1,13" "sweep.py --rounds 1" "loading.py --clips 5954" "memory.py --sizes 1,13" \
	"sweep.py --hidden 0 --clips 180000 --classes 309 --steps 2 --rounds 1 --loop-only-memory" \
	"extraction.py --clips 16 --rounds 1" "encoders.py --batch 4 --steps 1" "speed_paths.py --rounds 1 --steps 2" \
	"startup.py --rounds 1" "imports.py --clips 2000 --dim 256" "cluster.py --clips 400 --shards 4" \
	"rehearsal.py --clips 5000 --shards 4 --runs 11"

bench: $(READY)  ## every benchmark, each against what you would use instead
	@set -e; for each in $(BENCHES); do echo "== $$each"; $(BIN)/python benchmarks/$$each; done

# Installs nothing: a machine with a GPU may have no network, and its own PyTorch.
gpu:  ## all that needs a GPU, in nine minutes, with PYTHON as it is; writes docs/benchmarks/gpu-NAME.md
	@$(AS_AMR) cd "$(CURDIR)" && PYTHONPATH="$$dir" "$(PYTHON)" benchmarks/gpu $(ARGS)

results: $(READY)  ## docs/results.md from real embeddings and clips, in about two and a half hours; resumes; ARGS="--only digits" prints one
	$(BIN)/python docs/results/make.py $(ARGS)

clean:  ## what was built here; media, caches and runs stay
	rm -rf .venv .venv-lowest .venv-newest build dist site *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
