# The plan of the chosen profile, where its files are, and what of them is there.
import base64
import os
import shutil
import sys
import zlib
from pathlib import Path

from analysis.archive import REDRAWN, REFERENCE, read_archive
from analysis.plan.yaml import validate
from analysis.costs.workload import memory_bytes
from sharpflat.errors import InputError
from analysis.plan.join import CONFIG_DIR, load_plan
from analysis.execution.records import is_made
from analysis.execution.resources import Stages

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

# Told here, in one line: the engine would end in a traceback.
existing = next(folder for folder in (Path(RESULTS), *Path(RESULTS).parents) if folder.exists())
if not (existing.is_dir() and os.access(existing, os.W_OK)):
    sys.exit(f"Error: {existing}: is no folder that can be written to; the results go to {RESULTS}")

# The engine's plugin would tell it late, at its first job.
if "stages" in config and workflow.is_main_process and not shutil.which("sbatch"):
    sys.exit(
        "Error: there is no Slurm here (no sbatch in PATH). Run it on a login node, or with WORKFLOW=local."
    )


def result(file):
    return f"{RESULTS}/{file}"


def dataset(file):
    """What figures and claims are made from."""
    return f"{DATASETS}/{file}"


def data(subset):
    return f"{RESULTS}/data/{subset}.nc"


def is_there(file):
    """What stands under a name that hashes all that decides it is right by construction: no rule makes it again."""
    return file not in MISSING


# Figures, claims and the report have plain names; their records say what they were made from, and their bytes.
NAMED = [*PLAN.figures.values(), *(made for made in (PLAN.claims, PLAN.report) if made.inputs)]

# There is a rule only for what is missing. A cluster's job reads these files anew, when others have made more, and must
# find the rules that its engine made.
if workflow.is_main_process:
    trained = (file for segment in PLAN.segments.values() for file in segment.files)
    measured = (planned.file for planned in (*PLAN.energies.values(), *PLAN.distances.values()))
    MISSING = {file for file in (*trained, *measured) if not Path(RESULTS, file).exists()}
    MISSING |= {made.record for made in NAMED if not is_made(made, Path(RESULTS))}
    os.environ["MISSING_AT_START"] = base64.b64encode(
        zlib.compress("\n".join(sorted(MISSING)).encode())
    ).decode()
else:
    MISSING = set(zlib.decompress(base64.b64decode(os.environ["MISSING_AT_START"])).decode().split("\n"))


envvars:
    "MISSING_AT_START",


WANTED = [made for made in NAMED if made.record in MISSING]

# A wrong record goes at once, or the engine, which sees files that are missing but not damaged ones, would find nothing
# to make.
for made in WANTED if workflow.is_main_process else []:
    Path(RESULTS, made.record).unlink(missing_ok=True)


def everything():
    """All that the profile asks for; states and snapshots are asked for by what begins from them."""
    yield from (segment.trajectory for segment in PLAN.segments.values())
    yield from (energies.file for energies in PLAN.energies.values())
    yield from (distances.file for distances in PLAN.distances.values())
    yield from (file for made in NAMED for file in (*made.files, made.record))
