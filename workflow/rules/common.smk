# The plan of the chosen profile, where its files are, and the tasks that make what is missing of it.
import json
import os
import shutil
import sys
from pathlib import Path

from analysis.archive import REDRAWN, REFERENCE, read_archive
from analysis.execution.records import missing
from analysis.execution.resources import Stages
from analysis.execution.tasks import RULES, tasks
from analysis.plan.join import CONFIG_DIR, load_plan
from analysis.plan.part import part
from analysis.plan.plan import data_file
from analysis.plan.yaml import validate
from analysis.store.atomic import write_text
from sharpflat.errors import InputError
from snakemake.cli import get_argument_parser

PROFILE, WHERE = config.get("profile", "quick"), config.get("results", "results")

try:
    if config.get("archived"):  # everything is made from archived datasets, and nothing trained or measured
        RESULTS, DATASETS = f"{WHERE}/{REDRAWN}/{PROFILE}", f"{WHERE}/{REFERENCE}/{PROFILE}"
        PLAN = read_archive(Path(DATASETS)).plan()
    else:
        RESULTS = DATASETS = f"{WHERE}/{PROFILE}"
        PLAN = load_plan(PROFILE, Path(config.get("config_dir", CONFIG_DIR)))
    STAGES = validate(config.get("stages", {}), Stages, "stages")
except InputError as error:
    sys.exit(f"Error: {error}")

# Said here, in one line: the engine would end in a traceback.
existing = next(folder for folder in (Path(RESULTS), *Path(RESULTS).parents) if folder.exists())
if not (existing.is_dir() and os.access(existing, os.W_OK)):
    sys.exit(f"Error: {existing}: is no folder that can be written to; the results go to {RESULTS}")

# The engine's plugin would say it late, at its first job.
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


# There is a rule only for what is missing (docs/architecture.md says why). A cluster's job reads these files again, when
# others have made more, and must find the rules that its engine made: the engine leaves what it found in a file.
AT_START = Path(result("logs/at-start.json"))

if workflow.is_main_process:
    MISSING = missing(PLAN, Path(RESULTS))
    # If files alone were asked for, by their paths, there are tasks for what these need and no others. The engine has
    # read its command line, but shows it to no workflow.
    PATHS = {os.path.relpath(word, RESULTS): word for word in sys.argv[1:]}
    ASKED = set(PATHS) & set(PLAN.files)
    if ASKED and {PATHS[file] for file in ASKED} != set(
        get_argument_parser().parse_args(sys.argv[1:]).targets
    ):
        ASKED = set()
else:
    MISSING, ASKED = (set(those) for those in json.loads(AT_START.read_text(encoding="utf-8")))

PLAN = part(PLAN, ASKED) if ASKED else PLAN
TASKS = {name: [] for name in RULES}
for task in tasks(PLAN, lambda file: file not in MISSING, ASKED):
    TASKS[task.rule].append(task)

# A wrong record goes at once, or the engine, which sees files that are missing but not damaged ones, would find nothing
# to make.
for drawn in PLAN.drawn if workflow.is_main_process else []:
    if drawn.record in MISSING:
        Path(result(drawn.record)).unlink(missing_ok=True)


def leave_what_was_found():
    """For a cluster's jobs."""
    write_text(json.dumps([sorted(MISSING), sorted(ASKED)]), AT_START)


def everything(*rules):
    """All that the rules make or have made; states and snapshots are made for what begins from them."""
    data = {file for task in TASKS["data"] for file in task.outputs["files"]}
    made = {
        "data": [file for file in map(data_file, PLAN.subsets) if file not in MISSING or file in data],
        "segments": [segment.trajectory for segment in PLAN.segments.values()],
        "energies": [energies.file for energies in PLAN.energies.values()],
        "distances": [distances.file for distances in PLAN.distances.values()],
    }
    for kind in ("figures", "claims", "report"):
        made[kind] = [f for drawn in PLAN.drawn if drawn.rule == kind for f in (*drawn.files, drawn.record)]
    return [result(file) for name in rules for file in made[name]]


def with_record(file):
    """The file; of a figure, the claims or the report, all its files and its record."""
    return next(([*drawn.files, drawn.record] for drawn in PLAN.drawn if file in drawn.files), [file])
