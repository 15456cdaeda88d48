# Everything from nothing: Python >= 3.11, make and a package index are all that is needed.
#
#   make demo              the whole job on the sample product
#   make test              what CI runs
#
# Variables:
#   PYTHON=python3.12      the interpreter that .venv is made with
#   TORCH=cpu              the builds of torch and torchvision without CUDA: 0.75 GB instead of 5 GB on Linux.
#                          They carry the local version "+cpu" and are taken from wherever your own pip
#                          settings look (index-url, extra-index-url, find-links); PyTorch's site says which
#                          index has them.
#   TORCH_VERSION=2.14.1   with TORCH=cpu: other versions than those of constraints.txt, where your index
#   TORCHVISION_VERSION=0.29.1  lacks those. The two must be made for each other.
#   DEMO=demo              folder of the demonstration
#   DATA, LAYOUT, SEEDS    of make benchmark
#   WORKERS=2              processes that make test shares the tests among; each takes up to 2.5 GB

PYTHON ?= python3
TORCH ?= default
DEMO ?= demo
DATA ?=
LAYOUT ?= auto
SEEDS ?= 1
WORKERS ?= 2

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
TORCH_VERSION ?= $(shell sed -n 's/^torch==//p' constraints.txt)
TORCHVISION_VERSION ?= $(shell sed -n 's/^torchvision==//p' constraints.txt)
# Compared with in reports/flows.md. Without their own dependencies, of which nothing else here has any use.
NFLOWS_VERSION := 0.14
NORMFLOWS_VERSION := 1.7.3
# One stamp a kind of torch, so that changing TORCH installs again.
STAMP := $(VENV)/.installed-$(TORCH)-$(TORCH_VERSION)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint format benchmark reports soak speed dashboard-reports flow-reports clean environment

help:  ## this list
	@echo "differnet: anomaly detection on normalizing flows, with verdicts whose error rate is stated"
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20
	@echo
	@echo "  PYTHON=python3.12 chooses the interpreter, TORCH=cpu the small builds of torch (see Makefile)."

demo: environment  ## train, inspect and report on the sample product, from nothing
	@echo "[4/4] running differnet demo"
	@$(BIN)/differnet demo --out "$(DEMO)"

test: lint  ## lint, types and all tests, from nothing: what CI runs
	@echo "[tests] pytest in $(WORKERS) processes"
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

lint: environment  ## style, formatting and types, nothing changed
	@echo "[lint] ruff check"
	@$(BIN)/ruff check .
	@echo "[lint] ruff format --check"
	@$(BIN)/ruff format --check .
	@echo "[lint] mypy"
	@$(BIN)/mypy

format: environment  ## put the source into its one form
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

benchmark: environment  ## accuracy under the protocol: make benchmark DATA=folder LAYOUT=mtd SEEDS=3
	@test -n "$(DATA)" || { echo "Name a folder: make benchmark DATA=folder LAYOUT=mtd" >&2; exit 2; }
	@$(BIN)/differnet benchmark "$(DATA)" --layout $(LAYOUT) --seeds $(SEEDS) --json

reports: environment  ## rebuild reports/accuracy.md: three seeds of every case, some hours on two cores
	@$(BIN)/python benchmarks/accuracy.py

soak: environment  ## rebuild reports/trust.md: hostile files, killed jobs, faults of the disk in full, two hours
	@$(BIN)/python benchmarks/trust_report.py

speed: environment  ## rebuild reports/speed.md: what training and inspecting take beside the bare network, an hour
	@$(BIN)/python benchmarks/speed.py

dashboard-reports: environment  ## rebuild reports/dashboard: pictures of every page, what each takes, half an hour
	@$(BIN)/python benchmarks/dashboard_report.py
	@$(BIN)/python benchmarks/dashboard_speed.py

flow-reports: environment  ## rebuild reports/flows.md: every family, and three other libraries beside it, about an hour
	@$(PIP) install --no-deps nflows==$(NFLOWS_VERSION) normflows==$(NORMFLOWS_VERSION)
	@$(BIN)/python benchmarks/flows_report.py

clean:  ## remove .venv, caches and the demonstration
	rm -rf $(VENV) demo .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

environment: $(STAMP)

$(BIN)/python:
	@echo "[1/4] looking for Python 3.11 or later"
	@$(PYTHON) -c 'import platform, sys; good = sys.version_info >= (3, 11); \
	  (sys.stdout if good else sys.stderr).write("      found " + platform.python_version() + " at " + \
	  sys.executable + ("\n" if good else ", too old. Name another one: make PYTHON=python3.12\n")); \
	  sys.exit(not good)' \
	  || { echo "Stopped: PYTHON=$(PYTHON) does not serve." >&2; exit 1; }
	@echo "[2/4] creating $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "Stopped: Python's module venv is missing. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }

$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	@echo "[3/4] installing differnet and what it needs into $(VENV) (minutes the first time)"
	@rm -f $(VENV)/.installed-*
	@sed -e 's/^torch==.*/torch==$(TORCH_VERSION)/' -e 's/^torchvision==.*/torchvision==$(TORCHVISION_VERSION)/' \
	  constraints.txt > $(VENV)/constraints.txt
	@case "$(TORCH)" in \
	default) ;; \
	cpu) $(PIP) install "torch==$(TORCH_VERSION)+cpu" "torchvision==$(TORCHVISION_VERSION)+cpu" || { \
	    echo "Stopped: your package index has no +cpu builds of torch $(TORCH_VERSION) and torchvision" \
	      "$(TORCHVISION_VERSION). Add the index that has them to your pip settings, or name versions that" \
	      "it has: TORCH_VERSION=... TORCHVISION_VERSION=..." >&2; exit 1; } ;; \
	*) echo "TORCH is $(TORCH); it may be cpu, or be left out." >&2; exit 2 ;; \
	esac
	@$(PIP) install -c $(VENV)/constraints.txt -e ".[dev]"
	@touch $@
