# The plan of the chosen profile, the places of its files, and the tasks that make its missing parts.
import os
import shutil
import sys
import time
from pathlib import Path

from analysis.archive import REDRAWN, REFERENCE, read_archive
from analysis.execution import progress
from analysis.execution.locks import hold
from analysis.execution.options import ONLY_LOOKS, Options, wanted_again
from analysis.execution.records import missing
from analysis.execution.resources import Stages
from analysis.execution.tasks import RULES, read_at_start, tasks
from analysis.plan.join import CONFIG_DIR, load_plan
from analysis.plan.part import again, by_kind, jobs_files, part
from analysis.plan.plan import data_file
from analysis.plan.yaml import validate
from analysis.store.atomic import write_text
from sharpflat.errors import InputError
from snakemake.cli import get_argument_parser

# The engine's command line. The engine has read it, but does not pass it to the workflow.
BY_HAND = os.path.basename(sys.argv[0]) in ("snakemake", "__main__.py") and workflow.is_main_process
ENGINE = get_argument_parser().parse_args(sys.argv[1:] if BY_HAND else [])
FORCERUN, UNTIL = set(ENGINE.forcerun or ()), {*ENGINE.until, *ENGINE.omit_from, *ENGINE.prioritize}

try:
    OPTIONS = validate(dict(config), Options, "--config")
    PROFILE, WHERE = OPTIONS.profile, OPTIONS.results
    if OPTIONS.archived:  # everything is made from archived datasets, and nothing trained or measured
        RESULTS, DATASETS = f"{WHERE}/{REDRAWN}/{PROFILE}", f"{WHERE}/{REFERENCE}/{PROFILE}"
        PLAN = read_archive(Path(DATASETS)).plan()
    else:
        RESULTS = DATASETS = f"{WHERE}/{PROFILE}"
        PLAN = load_plan(PROFILE, Path(OPTIONS.config_dir or CONFIG_DIR))
    STAGES = validate(OPTIONS.stages, Stages, "stages")
    progress.LOOKS = any(getattr(ENGINE, word, None) for word in ONLY_LOOKS)
    # A live engine's own lock can be removed (--unlock, --nolock); this one cannot.
    if workflow.is_main_process and BY_HAND and not progress.LOOKS:
        hold(Path(f".snakemake/{PROFILE}.lock"))
    AGAIN = again(PLAN, wanted_again(PLAN, RESULTS, OPTIONS.force, ENGINE))
except InputError as error:
    sys.exit(f"Error: {error}")

# This check gives a one-line message. The engine would end in a traceback.
existing = next(folder for folder in (Path(RESULTS), *Path(RESULTS).parents) if folder.exists())
if not (existing.is_dir() and os.access(existing, os.W_OK)):
    sys.exit(f"Error: {existing}: is not a writable folder; the results go to {RESULTS}")

# The engine's plugin would report this only at its first job.
if "stages" in config and workflow.is_main_process and not shutil.which("sbatch"):
    sys.exit(
        "Error: there is no Slurm here (no sbatch in PATH). Run it on a login node, or with WORKFLOW=local."
    )


def result(file):
    return f"{RESULTS}/{file}"


def located(files):
    """The files of a task with their folders."""
    return {
        name: [f"{DATASETS if name == 'datasets' else RESULTS}/{file}" for file in those]
        for name, those in files.items()
    }


# There is a rule only for what is missing (docs/architecture.md explains why). A cluster's job reads these files again
# after other jobs have made more, and must find the rules that its engine made. So the engine writes what it found to a
# file.
if workflow.is_main_process:
    MISSING = missing(PLAN, Path(RESULTS)) | AGAIN
    # If only files were requested, by their paths, there are tasks only for what these need.
    PATHS = {os.path.relpath(word, RESULTS): word for word in {*ENGINE.targets, *FORCERUN, *UNTIL}}
    ASKED = NAMED = set(PATHS) & set(PLAN.files)
    if FORCERUN | UNTIL or {PATHS[file] for file in ASKED} != set(ENGINE.targets):
        ASKED = set()
else:
    PATHS, NAMED = {}, set()
    MISSING, ASKED, AGAIN = read_at_start(Path(RESULTS))

ALL = PLAN
# (A part of the plan never contains a data set that no segment needs.)
PLAN = part(PLAN, ASKED) if ASKED and not any(file.startswith("data/") for file in ASKED) else PLAN
TASKS = {name: [] for name in RULES}
FORCED_DATA = {file for file in AGAIN if file.startswith("data/")}  # no other task needs them
for task in tasks(PLAN, lambda file: file not in MISSING, ASKED | FORCED_DATA):
    TASKS[task.rule].append(task)

for kind in RULES if workflow.is_main_process else []:
    if kind in ENGINE.targets and not by_kind(ALL)[kind]:
        sys.exit(f"Error: {kind}: profile {PROFILE} has none.")

# A wrong record is removed at once. The engine sees missing files but not damaged ones, and would otherwise find nothing
# to make.
for drawn in PLAN.drawn if workflow.is_main_process else []:
    if drawn.record in MISSING - AGAIN:
        Path(result(drawn.record)).unlink(missing_ok=True)


# Results that are made again although they exist need this file, whose time and content are new in each run.
MARK = result("logs/again")
if AGAIN and workflow.is_main_process:
    write_text(f"{time.time_ns()}", Path(MARK))


def everything(*rules):
    """Everything that the rules make or have made. States and snapshots are made only for what starts from them."""
    made = by_kind(PLAN)
    data = {file for task in TASKS["data"] for file in task.outputs["files"]}
    made["data"] = [file for file in made["data"] if file not in MISSING or file in data]
    made["segments"] = [segment.trajectory for segment in PLAN.segments.values()]
    return [result(file) for name in rules for file in made[name]]


def needed(task):
    """The files that a task needs."""
    inputs = located(task.inputs)
    if any(file in AGAIN for files in task.outputs.values() for file in files):
        inputs["again"] = [MARK]
    return inputs


def with_record(file):
    """The file. For a figure, the claims or the report: all its files and its record."""
    return next(([*drawn.files, drawn.record] for drawn in PLAN.drawn if file in drawn.files), [file])
