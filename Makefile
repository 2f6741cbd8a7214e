# make demo | papers-quick | test | test-fast | test-agreement | test-slurm | check | docs | bench | audit | env | lock | clean
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: env demo papers-quick test pytest test-fast test-agreement test-slurm check docs bench audit lock clean

env: $(STAMP)

# torch first and alone: the CPU or the CUDA build the machine offers (set TORCH to choose another source).
TORCH ?= torch==2.13.0
$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}: make env PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$(TORCH)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	$(BIN)/python -m pip check
	@touch $(STAMP)

demo: env
	$(BIN)/internal-kd run --cores 2 --configfile config/demo.yaml
	$(BIN)/internal-kd show --overlay config/demo.yaml

# Minutes, and not the papers' settings. MNIST comes from the hub; a study whose files are missing does not stop the others.
papers-quick: env
	@failed=; for quick in config/papers/quick/*.yaml; do \
	  $(BIN)/internal-kd run --cores 2 --overlay config/papers/$$(basename $$quick) --overlay $$quick || failed="$$failed $$quick"; \
	done; [ -z "$$failed" ] || { echo "not finished:$$failed"; exit 1; }

# Two workers, one thread each: torch's own threads would only get in each other's way. Files in the order of
# tests/conftest.py, the longest first.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --ignore tests/cluster

# Types and style beside the tests: they would keep one core busy and leave the other one idle.
test: env
	$(MAKE) --no-print-directory --jobs 2 check pytest

pytest: env
	$(PYTEST)

# Snakemake, DVC and git together on a trained study; `make test` begins with it.
test-agreement: env
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/integration

# A study through a real SLURM of this machine alone; its packages are installed where root can do so with apt-get.
# Elsewhere the tests are skipped and say why.
test-slurm: env
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! { command -v slurmctld && command -v munged; } >/dev/null; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm munge >/dev/null \
	    || echo "slurm-wlm and munge could not be installed"; fi
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -rs tests/cluster

test-fast: env
	$(PYTEST) -m "not slow"

check: env
	$(BIN)/ruff check src tests bench docs
	$(BIN)/ruff format --check src tests bench docs
	$(BIN)/mypy

# The reference from the code, then all pages as a site with search in work/site/; a broken link is an error.
docs: env
	$(BIN)/python docs/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# Our losses and those of TextBrewer and torchdistill on one batch; then, in about twenty minutes, our speed, theirs and a
# plain loop's, written into docs/explanation/performance.md.
# BENCH=quick takes a look and writes nothing; ARGS="--threads 1 --steps 2" is for a machine that others use too.
PEERS := work/bench/peers
$(PEERS)/.installed: bench/requirements-peers.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check "$(TORCH)"
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $<
	@touch $@

bench: env $(PEERS)/.installed
	PYTHONPATH=src:. $(PEERS)/bin/python -m bench.agreement
	$(BIN)/python -m bench --peers $(PEERS)/bin/python $(if $(filter quick,$(BENCH)),--quick) $(ARGS)

# Known weaknesses of the locked packages; a warning where the advisory service cannot be reached.
audit: env
	$(BIN)/python .ci/audit.py

# After a change of dependencies in pyproject.toml; needs uv (python -m pip install uv).
lock:
	uv pip compile pyproject.toml --all-extras --group dev --python-version 3.11 --no-emit-index-url \
	  --no-emit-find-links --no-annotate --no-header --generate-hashes -o requirements.lock

clean:
	rm -rf work .snakemake
