# Two commands set everything up on a machine with Python and make: `make demo` and `make test`.

PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
CONSTRAINTS ?= constraints.txt
PIP_FLAGS ?= --quiet
DEMO_OUT ?= out/demo
DEMO ?= run --image examples/scene.png --text "the red circle" --out $(DEMO_OUT)
PYTEST_FLAGS ?= -m "not slow and not gpu and not weights and not browser"
# One process per core; each computes on one thread, so that they do not wait for each other.
WORKERS ?= auto

SOURCES = core plugins model_adapters registry src tests benchmarks examples scripts
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install --disable-pip-version-check $(PIP_FLAGS)
TORCH = $(shell sed -n -e 's/^torch==/&/p' -e 's/^torchvision==/&/p' $(CONSTRAINTS))
RUNTIME = $(VENV)/.vg-engine-runtime
DEV = $(VENV)/.vg-engine-dev
TEMPLATE = examples/vg-engine-adapter-template

# Families whose image processors need torchvision, and some others beside it, as most users have it.
TORCHVISION_VENV ?= .venv-torchvision
TORCHVISION_TESTS = tests/torchvision_families $(addprefix tests/model_adapters/test_, \
  llava.py internvl.py qwen2_vl.py gemma3.py smolvlm.py)

.PHONY: help demo test lint bench clean torchvision with-torchvision
.DEFAULT_GOAL := help

help:
	@echo "make demo    install, then ground a shipped picture with the embedded model"
	@echo "make test    install, then lint, types and tests"
	@echo "make lint    ruff and mypy alone"
	@echo "make torchvision   the same families with torchvision, in an environment of its own (5.5 GB)"
	@echo "make bench   run every benchmarks/bench_*.py"
	@echo "make clean   remove what was built, and $(DEMO_OUT); $(VENV) stays"
	@echo
	@echo "PYTHON=$(PYTHON)   the Python (3.11 or newer) that $(VENV) is made from"
	@echo "VENV=$(VENV)   where everything is installed"
	@echo "TORCH_INDEX=URL   where torch is taken from, for instance"
	@echo "                  https://download.pytorch.org/whl/cpu for the small CPU build"

demo: $(RUNTIME)
	$(BIN)/python -m vg_engine $(DEMO)
	@echo 'next: $(BIN)/vg-engine run examples/scene.png "the large square"'

test: lint
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(PYTEST_FLAGS)

lint: $(DEV)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

torchvision:
	@mkdir -p $(TORCHVISION_VENV)
	@sed 's/^torch==.*/torch==2.14.1\ntorchvision==0.29.1/' constraints.txt \
	  | cmp -s - $(TORCHVISION_VENV)/constraints.txt \
	  || sed 's/^torch==.*/torch==2.14.1\ntorchvision==0.29.1/' constraints.txt \
	    > $(TORCHVISION_VENV)/constraints.txt
	@$(MAKE) --no-print-directory with-torchvision VENV=$(TORCHVISION_VENV) \
	  CONSTRAINTS=$(TORCHVISION_VENV)/constraints.txt

with-torchvision: $(DEV)
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile \
	  $(PYTEST_FLAGS) $(TORCHVISION_TESTS)

bench: $(DEV)
	@for file in benchmarks/bench_*.py; do \
	  if [ -f "$$file" ]; then echo "$$file"; $(BIN)/python "$$file" || exit 1; fi; \
	done

clean:
	rm -rf build dist *.egg-info $(TEMPLATE)/build $(TEMPLATE)/src/*.egg-info
	rm -rf $(DEMO_OUT) .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find $(wildcard $(SOURCES)) -name __pycache__ -type d -prune -exec rm -rf {} +

# torch first and alone: whichever build is found then satisfies the rest, and nothing fetches another.
$(RUNTIME): pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "vg-engine needs Python 3.11 or newer, and $(PYTHON) is not one;" \
	    "name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { \
	  echo "no virtual environment could be made at $(VENV);" \
	    "Debian and Ubuntu need: apt install python3-venv" >&2; exit 1; }
	@echo "installing $(TORCH), then the rest, into $(VENV)"
	@$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) -c $(CONSTRAINTS) $(TORCH)
	@$(PIP) -c $(CONSTRAINTS) -e .
	@touch $@

# The template of an adapter package is installed as a stranger's would be; tests use it so.
$(DEV): $(RUNTIME) $(TEMPLATE)/pyproject.toml
	@$(PIP) -c $(CONSTRAINTS) -e '.[dev]'
	@$(PIP) --no-deps --no-build-isolation -e $(TEMPLATE)
	@touch $@
