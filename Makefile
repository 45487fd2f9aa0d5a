# Each target sets itself up in .venv. `make` alone lists them.
PYTHON ?= python3
TORCH ?= torch
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
BIN := $(VENV)/bin
SOURCES := nbs tests tools benchmarks setup.py
# Analyses compare trained models where `uar ablation` has left them; without them they train toys and say so
RUNS := $(if $(wildcard runs/ablation/rows.json),UAR_RUNS=$(abspath runs))
# The tests run as two processes on two cores: these, and all others
HALF := tests/apps tests/data tests/experiment tests/phantom tests/scoring tests/systems

.PHONY: help setup demo demo-long ablation format types test test-all fuzz gpu lab lessons measure readme explorers docs clean

help:
	@echo "make demo       train UAR on generated chest X-rays, about 10 minutes; then open runs/demo/index.html"
	@echo "make demo-long  the same at full quality, about 40 minutes"
	@echo "make ablation   seven rows of the paper's tables on phantoms, for the analyses that compare models"
	@echo "make test       the checks for every change: at most 20 minutes on two cores"
	@echo "make test-all   every check, at full length; runs weekly"
	@echo "make fuzz       20,000 damaged files through every reader, about 15 minutes; make test reads 500"
	@echo "make gpu        on a machine with a GPU: is it right, how fast, an epoch, the demo at the paper's size; 10 minutes"
	@echo "make format     notebooks, tests and tools as ruff writes them, then the exported modules"
	@echo "make types      types of the paper's modules, checked by pyright"
	@echo "make lab        open the lessons in JupyterLab"
	@echo "make lessons    run every lesson again and save its outputs"
	@echo "make measure    run every page and note minutes and memory in data/results/notebooks.json"
	@echo "make explorers  the explorers as pages without Python, in nbs/explorers/"
	@echo "make docs       every page as HTML, without Quarto, in _docs/"
	@echo "Settings: PYTHON=python3.12  TORCH='torch==2.13.0' (or any pip arguments, such as an index of another build)"

setup: $(VENV)/.ready

$(VENV)/.ready: settings.ini setup.py pyproject.toml $(CONSTRAINTS)
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not installed. Install Python 3.11 to 3.14, or name another: make PYTHON=/path/to/python3"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' || { echo "uar_nb needs Python 3.11 to 3.14, and $(PYTHON) is $$($(PYTHON) -V 2>&1). Name another: make PYTHON=python3.12"; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "$(PYTHON) has no venv module. On Debian or Ubuntu: apt install python3-venv"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c $(CONSTRAINTS) $(TORCH)
	$(BIN)/python -m pip install --quiet -c $(CONSTRAINTS) -e '.[dev]'
	@touch $@

demo: setup
	$(BIN)/uar demo

demo-long: setup
	$(BIN)/uar demo --long

# Rows that are there are kept, so it goes on where it stopped; afterwards `make lessons` lets the analyses of retrieval, alignment and basis compare these models
ablation: setup
	$(BIN)/uar ablation $(addprefix --row ,base a e uar memory uniform normal) --out runs/ablation

format: setup
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/nbdev_clean
	$(BIN)/nbdev_export

test: setup
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES) uar_nb
	OMP_NUM_THREADS=1 $(BIN)/nbdev_test --n_workers 2 --timing
	@$(BIN)/python -m pytest $(HALF) --durations=10 > $(VENV)/half.log 2>&1 & half=$$!; \
	$(BIN)/python -m pytest tests $(HALF:%=--ignore=%) --durations=10; rest=$$?; \
	wait $$half; half=$$?; cat $(VENV)/half.log; exit $$((half + rest))

# Both tiers: also cells with `#| slow` and tests with the mark `slow`; their minutes stand beside them
test-all: setup
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES) uar_nb
	OMP_NUM_THREADS=1 $(BIN)/nbdev_test --n_workers 2 --timing --flags slow
	$(BIN)/python -m pytest tests -m "slow or not slow" --durations=30

fuzz: setup
	OMP_NUM_THREADS=1 $(BIN)/python tools/fuzz.py --cases 20000 --out data/results/fuzz.json

# Not run on a GPU yet; `tools/gpu.py --toy --device cpu` tries it anywhere
gpu: setup
	$(BIN)/python tools/gpu.py --out runs/gpu

# Pyright on the modules of the road; the first time it fetches its own Node
types: setup
	$(BIN)/python tools/types_of_road.py

# Saved notebooks are cleaned, so that opening one changes nothing in it, whatever the Python
lab: setup
	cd nbs && ../$(BIN)/jupyter lab --FileContentsManager.pre_save_hook=nbdev.clean.clean_jupyter

# Which pages: tools/pages.py. Training runs are left as they are, with the outputs of the real run
lessons: setup
	$(RUNS) OMP_NUM_THREADS=1 $(BIN)/python tools/lessons.py --all
	$(BIN)/nbdev_export
	$(MAKE) readme

measure: setup
	$(RUNS) OMP_NUM_THREADS=1 $(BIN)/python tools/lessons.py --measure

readme: setup
	$(BIN)/python tools/docs.py readme

# About three minutes; run it when the shipped checkpoint or the explorers' own files change
explorers: setup
	OMP_NUM_THREADS=1 $(BIN)/python -c "from uar_nb.apps.explorer_pages import write_explorers; write_explorers('nbs/explorers')"

docs: setup
	$(BIN)/python tools/docs.py html _docs

clean:
	rm -rf build dist *.egg-info _proc _docs .pytest_cache
