# LoRA Foundry: `make help` lists the targets. Needs Python 3.11 to 3.13, pip and make, nothing else.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PY     := $(BIN)/python
STAMP  := $(VENV)/.ready
# `make test ARGS="tests/config -x"`, `make demo ARGS="trainer.max_steps=50"`, `make bench ARGS=--quick`
ARGS   ?=
# `make test WORKERS=8`: tests side by side, each process on one thread of torch
WORKERS ?= 2
# Hundreds of processes of the tests run this tree: where nothing keeps what it was compiled to, each compiles it anew
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(PY) -m pytest -n $(WORKERS) --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help setup demo quick test ui bench soak mutate lint docs clean-venv

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

setup: $(STAMP)  ## the environment in .venv, which the others call; instant the second time

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; ok = (3, 11) <= sys.version_info[:2] < (3, 14); \
	  sys.exit(0 if ok else f"Python {sys.version.split()[0]} found, 3.11 to 3.13 is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $(STAMP)

demo: $(STAMP)  ## train LoRA ranks 4, 8 and 16 together on real drawings
	$(PY) -m src.train lora.rank=4,8,16 -m $(ARGS)

quick: $(STAMP)  ## most tests, in under a minute on two cores: before each commit
	$(PYTEST) --quick -q $(ARGS)

test: $(STAMP)  ## every test
	$(PYTEST) --no-loadscope-reorder $(ARGS)

ui: $(STAMP)  ## MLflow UI on http://127.0.0.1:5000 over mlruns/
	@store="$$(PYTHONPATH=src $(PY) -c 'from lora_foundry.tracking.addresses import default_store; print(default_store())')" && \
	  $(BIN)/mlflow ui --host 127.0.0.1 --port 5000 --backend-store-uri "$$store" $(ARGS)

bench: $(STAMP)  ## measure the speed figures of docs/benchmarks.md (ARGS=--quick for a short look)
	$(PY) -m bench $(ARGS)

soak: $(STAMP)  ## do faults to real sweeps (ARGS=--counts, or "--minutes 60 --seed 7"): docs/reliability.md
	$(PY) -m bench.soak $(ARGS)

mutate: $(STAMP)  ## change the code a little at a time: tests must notice (ARGS="--minutes 5 src/lora_foundry/lora/rows.py"); an hour
	$(PY) -m pip install --quiet --constraint constraints.txt --editable '.[mutate]'
	$(PY) -m bench.mutate $(ARGS)

lint: $(STAMP)  ## ruff, mypy and the table of rooms
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(STAMP)  ## write docs/configuration.md from the schema, and the tables of docs/architecture.md
	$(PY) docs/configuration.py
	$(PY) docs/wire.py

clean-venv:  ## remove the environment, so that setup makes a new one
	rm -rf $(VENV)
