# The plan of the chosen profile, where its files are, and what of them is there.
import os
import sys
from pathlib import Path

from analysis.archive import REDRAWN, REFERENCE, read_archive
from analysis.errors import InputError
from analysis.plan import CONFIG_DIR, load_plan
from analysis.records import is_made

PROFILE, WHERE = config.get("profile", "quick"), config.get("results", "results")

try:
    if config.get("archived"):  # everything is made from archived datasets, and nothing trained or measured
        RESULTS, DATASETS = f"{WHERE}/{REDRAWN}/{PROFILE}", f"{WHERE}/{REFERENCE}/{PROFILE}"
        PLAN = read_archive(Path(DATASETS)).plan()
    else:
        RESULTS = DATASETS = f"{WHERE}/{PROFILE}"
        PLAN = load_plan(PROFILE, Path(config.get("config_dir", CONFIG_DIR)))
except InputError as error:
    sys.exit(f"Error: {error}")

# Told here, in one line: the engine would end in a traceback.
existing = next(folder for folder in (Path(RESULTS), *Path(RESULTS).parents) if folder.exists())
if not (existing.is_dir() and os.access(existing, os.W_OK)):
    sys.exit(f"Error: {existing}: is no folder that can be written to; the results go to {RESULTS}")


def result(file):
    return f"{RESULTS}/{file}"


def dataset(file):
    """What figures and claims are made from."""
    return f"{DATASETS}/{file}"


def data(subset):
    return f"{RESULTS}/data/{subset}.nc"


def is_there(*files):
    """What stands under a name that hashes all that decides it is right by construction: no rule makes it again."""
    return all(Path(RESULTS, file).exists() for file in files)


# Figures, claims and the report have plain names; their records say what they were made from, and their bytes. There
# is a rule for those alone that have no right record. A wrong one goes at once, or the engine, which sees files that
# are missing but not damaged ones, would find nothing to make.
NAMED = [*PLAN.figures.values(), *(made for made in (PLAN.claims, PLAN.report) if made.inputs)]
WANTED = [made for made in NAMED if not is_made(made, Path(RESULTS))]

for made in WANTED:
    Path(RESULTS, made.record).unlink(missing_ok=True)


def everything():
    """All that the profile asks for; states and snapshots are asked for by what begins from them."""
    yield from (segment.trajectory for segment in PLAN.segments.values())
    yield from (energies.file for energies in PLAN.energies.values())
    yield from (distances.file for distances in PLAN.distances.values())
    yield from (file for made in NAMED for file in (*made.files, made.record))
