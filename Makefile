# All commands for users. `make` without a target lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PROFILE ?= quick
# Where jobs run: a folder of workflow/profiles.
WORKFLOW ?= local
PYTHON ?= python3
# The folder of the data sets. Missing ones are downloaded to it (the quick profile needs none).
DATA_DIR ?= data
export DATA_DIR
# File names and texts are UTF-8 in any locale.
export PYTHONUTF8 := 1
# Nothing of the project is installed. Everything imports the packages of this folder, whatever is installed elsewhere.
export PYTHONPATH := $(CURDIR)$(if $(PYTHONPATH),:$(PYTHONPATH))
# If HOME is not writable, the caches of the engine and of matplotlib are in this folder.
ifneq ($(shell h=~; d=$${XDG_CACHE_HOME:-$$h/.cache}/snakemake/snakemake/source-cache/snakemake-runtime-cache; \
  mkdir -p "$$d" 2>/dev/null && [ -w "$$d" ] && echo writable),writable)
export XDG_CACHE_HOME := $(CURDIR)/.snakemake/cache
export MPLCONFIGDIR := $(CURDIR)/.snakemake/cache/matplotlib
endif
# If PYTHONDONTWRITEBYTECODE is set, a short job would spend half of its time compiling libraries. So their bytecode is
# kept in this folder.
ifdef PYTHONDONTWRITEBYTECODE
unexport PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX := $(CURDIR)/.snakemake/bytecode
endif

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The stamp records the folder and the Python of the environment. It is invalid if either changes.
MADE = $(BIN)/python -ISc 'import os, sys; print(os.getcwd(), sys.version)'
OUTLIVED := $(if $(wildcard $(STAMP)),$(shell [ "$$($(MADE) 2>/dev/null)" = "$$(cat $(STAMP))" ] || echo outlived))
FLAGS ?=
# What to make again although it exists.
FORCE ?=
PROFILES := $(basename $(notdir $(wildcard workflow/config/*.yaml)))
WORKFLOWS := $(sort $(notdir $(patsubst %/,%,$(dir $(wildcard workflow/profiles/*/config.yaml)))))
# A misspelt variable would have no effect.
VARIABLES := PROFILE WORKFLOW PYTHON DATA_DIR FLAGS FORCE GPU_TFLOPS REMOVE VENV BIN SHELL
$(foreach v,$(.VARIABLES),$(if $(findstring command line,$(origin $v)),$(if $(filter $v,$(VARIABLES)),,\
  $(error $v: not a variable of this Makefile; allowed: $(VARIABLES). An environment variable goes first: $v=… make …))))
$(if $(filter 1-,$(words $(WORKFLOW))-$(filter-out $(WORKFLOWS),$(WORKFLOW))),,$(error WORKFLOW: found '$(WORKFLOW)'; allowed: $(WORKFLOWS)))
FORCED := $(if $(FORCE),force='$(FORCE)')
# The engine runs as a module, because a script's first line cannot name an interpreter in every folder.
ENGINE := snakemake --config profile='$(PROFILE)' $(FORCED) --workflow-profile 'workflow/profiles/$(WORKFLOW)'
SNAKEMAKE := $(BIN)/python -m $(ENGINE)
REDRAW = snakemake --config profile='$(PROFILE)' archived=yes $(FORCED) --workflow-profile workflow/profiles/local
# The engine imports every plugin that it finds at each start. So packages that only a cluster needs have their own folder.
PLUGIN := .slurm/.installed
ifeq ($(WORKFLOW),slurm)
RUNS_ON := $(PLUGIN)
export PYTHONPATH := $(PYTHONPATH):$(CURDIR)/.slurm
endif
ANALYSIS := $(BIN)/python -m analysis
# Only one pipeline for each profile runs at a time. The lock of a killed engine is removed.
LOCKED = $(BIN)/python workflow/locked.py '.snakemake/$(subst /,-,$(PROFILE)).lock'

.PHONY: help
help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14
	@echo
	@echo "Variables: PROFILE=quick|laptop|paper  WORKFLOW=$(subst $() ,|,$(WORKFLOWS))  DATA_DIR=folder  FLAGS='more flags for snakemake'"
	@echo "FORCE=song-fig01 makes a figure again although it exists; it also takes a segment, claims, report, or all figures, segments, …"

.PHONY: install
install: $(STAMP)  ## Create .venv with the locked dependencies

.PHONY: outlived
$(STAMP): requirements.lock $(OUTLIVED)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; found " + sys.version.split()[0] + ". Set PYTHON=…")'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	@$(MADE) > $@

.PHONY: slurm
slurm: $(PLUGIN)  ## Install what WORKFLOW=slurm needs in .slurm (WORKFLOW=slurm also does this itself)

$(PLUGIN): requirements-slurm.lock | $(STAMP)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --no-deps --target .slurm -r requirements-slurm.lock
	@touch $@

.PHONY: reproduce
reproduce: $(STAMP) $(RUNS_ON)  ## Train, measure and draw everything of PROFILE
	@$(LOCKED) $(ENGINE) $(FLAGS)
	@$(ANALYSIS) summary --profile '$(PROFILE)'

.PHONY: status
status: $(STAMP)  ## Show which parts of PROFILE exist, run or are missing, and about how long the rest will take
	@$(ANALYSIS) status --profile '$(PROFILE)'

.PHONY: agree
agree: $(STAMP)  ## Compare PROFILE's run with the archived one: verdicts, numbers, and where curves diverge
	@$(ANALYSIS) agree --profile '$(PROFILE)'

.PHONY: dry-run
dry-run: $(STAMP) $(RUNS_ON)  ## Show what `reproduce` would do, without doing it
	@$(SNAKEMAKE) --dry-run $(FLAGS)

.PHONY: claims
claims: $(STAMP) $(RUNS_ON)  ## Judge the claims (after making what they need) and print the verdicts
	@$(LOCKED) $(ENGINE) $(FLAGS) claims
	@$(ANALYSIS) claims --profile '$(PROFILE)'

.PHONY: figures
figures: $(STAMP)  ## Redraw PROFILE's figures, tables, claims and report from its archive: no training
	@$(ANALYSIS) verify --only-archive --profile '$(PROFILE)'
	@$(LOCKED) $(REDRAW) $(FLAGS)
	@$(ANALYSIS) compare --profile '$(PROFILE)'

.PHONY: verify
verify: $(STAMP)  ## Check PROFILE's archive against its manifest, and every file of PROFILE's results
	@$(ANALYSIS) verify --profile '$(PROFILE)'

.PHONY: archive
archive: $(STAMP)  ## Archive what PROFILE's figures are made from in results/reference, then redraw from there
	@$(ANALYSIS) archive --profile '$(PROFILE)'
	$(record)

.PHONY: record
record: $(STAMP)  ## Redraw from PROFILE's archive, and record the hashes of the drawn files
	$(record)

define record
	@$(ANALYSIS) verify --only-archive --profile '$(PROFILE)'
	@$(LOCKED) $(REDRAW) $(FLAGS)
	@$(ANALYSIS) record --profile '$(PROFILE)'
endef

.PHONY: test
test: $(STAMP) $(if $(shell command -v slurmctld),$(PLUGIN))  ## Run every test (the Slurm test only if Slurm is installed)
	$(BIN)/python -m pytest -n 2 --dist worksteal

.PHONY: test-fast
test-fast: $(STAMP)  ## Run the fast unit tests
	$(BIN)/python -m pytest -n 2 --dist worksteal -m 'not slow' tests/unit tests/oracle

.PHONY: check
check: $(STAMP)  ## Check style, types, import layers and the workflow
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/snakefmt --check Snakefile workflow
	@# The environment of every rule is the locked .venv, so the linter's wish for containers is the one we leave. (PYTHONPATH is set by the Snakefile itself.)
	@! $(SNAKEMAKE) --lint 2>&1 | grep -E '^    \* |Error' | grep -vE 'Specify a conda environment or container|variable PYTHONPATH used'

.PHONY: bench
bench: $(STAMP)  ## Compare the curvature engine with other libraries (docs/benchmarks; needs DATA_DIR with MNIST)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --no-deps -r requirements-bench.lock
	$(BIN)/python benchmarks/curvature.py --data-dir $(DATA_DIR)
	$(BIN)/python benchmarks/tracking.py --data-dir $(DATA_DIR)

.PHONY: plan
plan: $(STAMP)  ## Estimate the cost of PROFILE, by figure, without running it (GPU_TFLOPS=… also estimates GPU hours)
	@$(ANALYSIS) plan --profile '$(PROFILE)' $(if $(GPU_TFLOPS),--gpu-tflops '$(GPU_TFLOPS)')

.PHONY: tree
tree: $(STAMP)  ## Count PROFILE's segments and the steps that sharing them saves
	@$(ANALYSIS) tree --profile '$(PROFILE)'

.PHONY: stale
stale: $(STAMP)  ## List results that PROFILE no longer uses (REMOVE=yes removes them)
	@$(ANALYSIS) stale --profile '$(PROFILE)' $(if $(filter yes,$(REMOVE)),--remove)

.PHONY: schema
schema: $(STAMP)  ## Write the JSON schemas with which editors check the configuration (after changing its models)
	@$(ANALYSIS) schema

# Pages are made by .venv, the site by an environment of its own.
.PHONY: docs
docs: $(STAMP) .docs/.installed  ## Build the documentation site in site (after drawing the archived figures)
	@$(foreach PROFILE,quick laptop,$(LOCKED) $(REDRAW) $(FLAGS) &&) true
	$(BIN)/python docs/site/pages.py .docs/pages
	.docs/venv/bin/zensical build --strict --clean
	$(BIN)/python docs/site/check.py site
	@echo "Open site/index.html"

.docs/.installed: requirements-docs.lock | $(STAMP)
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .docs/venv
	$(BIN)/uv pip install --quiet --python .docs/venv/bin/python --require-hashes -r requirements-docs.lock
	@touch $@

.PHONY: lock
lock:  ## Resolve the dependencies again (versions and hashes only)
	$(BIN)/uv pip compile pyproject.toml --extra pipeline --extra dev --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-annotate --no-header --quiet --output-file requirements.lock
	$(BIN)/uv pip compile --group docs --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-annotate --no-header --quiet --output-file requirements-docs.lock

.PHONY: wheel
wheel: $(STAMP)  ## Build the library's wheel in dist (`pip install .` does the same, without the pipeline)
	$(BIN)/uv build --quiet --python $(BIN)/python --wheel --no-build-isolation --out-dir dist

.PHONY: clean
clean:  ## Remove the results of PROFILE (not the archived ones)
	@# One that there is, and one alone: else this could remove other folders.
	@$(if $(filter 1-,$(words $(PROFILE))-$(filter-out $(PROFILES),$(PROFILE))),:,$(error PROFILE: found '$(PROFILE)'; allowed: $(PROFILES)))
	rm -rf results/$(PROFILE) results/redrawn/$(PROFILE)
