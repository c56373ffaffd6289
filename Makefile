# Everything a user does. `make` alone lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PROFILE ?= quick
# Where jobs run: a folder of workflow/profiles.
WORKFLOW ?= local
PYTHON ?= python3
# Where data sets are read from, and downloaded to if they are not there (the quick profile needs none).
DATA_DIR ?= data
export DATA_DIR
# Names of files and texts are UTF-8, whatever the locale.
export PYTHONUTF8 := 1
# Nothing of the project is installed: all that runs imports the packages of this folder, whatever is installed elsewhere.
export PYTHONPATH := $(CURDIR)$(if $(PYTHONPATH),:$(PYTHONPATH))

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
FLAGS ?=
PROFILES := $(basename $(notdir $(wildcard workflow/config/*.yaml)))
WORKFLOWS := $(sort $(notdir $(patsubst %/,%,$(dir $(wildcard workflow/profiles/*/config.yaml)))))
$(if $(filter 1-,$(words $(WORKFLOW))-$(filter-out $(WORKFLOWS),$(WORKFLOW))),,$(error WORKFLOW: found '$(WORKFLOW)'; allowed: $(WORKFLOWS)))
SNAKEMAKE := $(BIN)/snakemake --config profile='$(PROFILE)' --workflow-profile 'workflow/profiles/$(WORKFLOW)'
REDRAW := $(BIN)/snakemake --config profile='$(PROFILE)' archived=yes --workflow-profile workflow/profiles/local
# The engine imports every plugin that it finds, at each start: what only a cluster needs has a folder of its own.
PLUGIN := .slurm/.installed
ifeq ($(WORKFLOW),slurm)
RUNS_ON := $(PLUGIN)
export PYTHONPATH := $(PYTHONPATH):$(CURDIR)/.slurm
endif
ANALYSIS := $(BIN)/python -m analysis
# One pipeline a profile at a time; what a killed one left locked is unlocked.
LOCKED := $(BIN)/python workflow/locked.py '.snakemake/$(subst /,-,$(PROFILE)).lock'

.PHONY: help
help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14
	@echo
	@echo "Variables: PROFILE=quick|laptop|paper  WORKFLOW=$(subst $() ,|,$(WORKFLOWS))  DATA_DIR=folder  FLAGS='more flags for snakemake'"

.PHONY: install
install: $(STAMP)  ## Create .venv with the locked dependencies

$(STAMP): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; found " + sys.version.split()[0] + ". Set PYTHON=…")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	@touch $@

.PHONY: slurm
slurm: $(PLUGIN)  ## Install what WORKFLOW=slurm needs, in .slurm (which it does by itself, too)

$(PLUGIN): requirements-slurm.lock | $(STAMP)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --no-deps --target .slurm -r requirements-slurm.lock
	@touch $@

.PHONY: reproduce
reproduce: $(STAMP) $(RUNS_ON)  ## Train, measure and draw everything of PROFILE
	@$(LOCKED) $(SNAKEMAKE) $(FLAGS)
	@echo "Report: $(CURDIR)/results/$(PROFILE)/report.html"
	@echo "Figures: $(CURDIR)/results/$(PROFILE)/figures"

.PHONY: dry-run
dry-run: $(STAMP) $(RUNS_ON)  ## Say what `reproduce` would do, and do nothing
	@$(SNAKEMAKE) --dry-run $(FLAGS)

.PHONY: claims
claims: $(STAMP) $(RUNS_ON)  ## Judge the claims (after what they need) and print the verdicts
	@$(LOCKED) $(SNAKEMAKE) $(FLAGS) claims
	@$(ANALYSIS) claims --profile '$(PROFILE)'

.PHONY: figures
figures: $(STAMP)  ## Redraw PROFILE's figures, tables, claims and report from its archive: no training
	@$(ANALYSIS) verify --profile '$(PROFILE)'
	@$(LOCKED) $(REDRAW) $(FLAGS)
	@$(ANALYSIS) compare --profile '$(PROFILE)'

.PHONY: verify
verify: $(STAMP)  ## Check PROFILE's archive against its manifest
	@$(ANALYSIS) verify --profile '$(PROFILE)'

.PHONY: archive
archive: $(STAMP)  ## Archive what PROFILE's figures are made from in results/reference, then redraw from there
	@$(ANALYSIS) archive --profile '$(PROFILE)'
	$(record)

.PHONY: record
record: $(STAMP)  ## Redraw from PROFILE's archive, and record the hashes of what is drawn
	$(record)

define record
	@$(ANALYSIS) verify --profile '$(PROFILE)'
	@$(LOCKED) $(REDRAW) $(FLAGS)
	@$(ANALYSIS) record --profile '$(PROFILE)'
endef

.PHONY: test
test: $(STAMP) $(if $(shell command -v slurmctld),$(PLUGIN))  ## Run every test (that of Slurm where Slurm is installed)
	$(BIN)/python -m pytest -n 2 --dist worksteal

.PHONY: test-fast
test-fast: $(STAMP)  ## Run the tests of functions that take no second each (90 s)
	$(BIN)/python -m pytest -n 2 --dist worksteal -m 'not slow' tests/unit tests/oracle

.PHONY: check
check: $(STAMP)  ## Check style, types, import layers and the workflow
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/snakefmt --check Snakefile workflow
	@# The environment of every rule is the locked .venv, so the linter's wish for containers is the one we leave.
	@! $(SNAKEMAKE) --lint 2>&1 | grep -E '^    \* |Error' | grep -v 'Specify a conda environment or container'

.PHONY: bench
bench: $(STAMP)  ## Measure the curvature engine beside other libraries (docs/benchmarks; needs DATA_DIR with MNIST)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --no-deps -r requirements-bench.lock
	$(BIN)/python benchmarks/curvature.py --data-dir $(DATA_DIR)

.PHONY: plan
plan: $(STAMP)  ## Say what PROFILE would take, by figure, without running it (GPU_TFLOPS=… for hours of such a GPU)
	@$(ANALYSIS) plan --profile '$(PROFILE)' $(if $(GPU_TFLOPS),--gpu-tflops '$(GPU_TFLOPS)')

.PHONY: tree
tree: $(STAMP)  ## Count PROFILE's segments and the steps that sharing them saves
	@$(ANALYSIS) tree --profile '$(PROFILE)'

.PHONY: stale
stale: $(STAMP)  ## List results that nothing of PROFILE refers to any more (REMOVE=yes removes them)
	@$(ANALYSIS) stale --profile '$(PROFILE)' $(if $(filter yes,$(REMOVE)),--remove)

.PHONY: lock
lock:  ## Resolve the dependencies anew (versions and hashes only)
	$(BIN)/uv pip compile pyproject.toml --extra pipeline --extra dev --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-annotate --no-header --quiet --output-file requirements.lock

.PHONY: wheel
wheel: $(STAMP)  ## Build the library's wheel in dist (`pip install .` does the same, without the pipeline)
	$(BIN)/uv build --quiet --python $(BIN)/python --wheel --no-build-isolation --out-dir dist

.PHONY: clean
clean:  ## Remove the results of PROFILE (not the archived ones)
	@# One that there is, and one alone: else this could remove other folders.
	@$(if $(filter 1-,$(words $(PROFILE))-$(filter-out $(PROFILES),$(PROFILE))),:,$(error PROFILE: found '$(PROFILE)'; allowed: $(PROFILES)))
	rm -rf results/$(PROFILE) results/redrawn/$(PROFILE)
