# `make demo` and `make test` do all their own set-up on a fresh machine with Python 3.11 or newer.
#
#   TORCH_SPEC   what to install as torch, first and alone. For an NVIDIA card, for example:
#                make setup TORCH_SPEC="torch==2.13.0 --index-url https://download.pytorch.org/whl/cu130" EXTRAS=gpu,dev
#   EXTRAS       extras of pyproject.toml to install
#   STORE        where artefacts live

PYTHON      ?= python3
TORCH_SPEC  ?= torch==2.13.0
EXTRAS      ?= train,play,dev
STORE       ?= store
VENV        := .venv
BIN         := $(VENV)/bin
STAMP       := $(VENV)/.installed

# Tiny models on few cores spin-wait with more than one thread: 78 s against 6 s, measured (LOG.md).
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM = false
export DO_NOT_TRACK = 1
export HF_HUB_DISABLE_TELEMETRY = 1

.PHONY: help setup demo test test-fast lint format clean

help:
	@echo "make setup   virtual environment in .venv with everything"
	@echo "make demo    the whole pipeline on the embedded default, then one spoken turn"
	@echo "make test    linters and every test"
	@echo "make lint    ruff, pyright, import-linter, typos"
	@echo "make clean   delete .venv, caches and the demo's store"

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=python3.11"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "python venv is missing: apt install python3-venv"; exit 2; }
	$(BIN)/pip install --quiet --disable-pip-version-check $(TORCH_SPEC)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $@

demo: setup
	@$(BIN)/python flows/full.py --profile smoke --store $(STORE)
	@$(BIN)/python flows/play.py --store $(STORE) --text "비가 오는데 오늘은 같이 있어도 돼?" --wav out/demo.wav
	@cat docs/after-demo.txt

# What fails is tried once more, alone: real servers, sound and processes have time limits that a busy machine can miss.
# A test that fails twice fails.
test: setup lint
	$(BIN)/pytest --numprocesses 2 --dist loadfile -m "not e2e" || $(BIN)/pytest --last-failed --last-failed-no-failures none -m "not e2e"
	$(BIN)/pytest -m e2e || $(BIN)/pytest -m e2e

test-fast: setup
	$(BIN)/pytest --numprocesses 2 --dist loadfile -m "not e2e and not slow"

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright
	$(BIN)/typos

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(STORE) out .pytest_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
