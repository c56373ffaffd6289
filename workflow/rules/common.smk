# The plan of the chosen profile, and where its files are.
import os
import sys
from pathlib import Path

from analysis.archive import REDRAWN, REFERENCE, read_archive
from analysis.errors import InputError
from analysis.plan import CONFIG_DIR, load_plan

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


def is_made(planned):
    """Figures and claims have plain names; the record's name hashes what they were made from. So without the right
    record there is a rule, and something for it to make, whatever the times of files."""
    return is_there(planned.record, *planned.files)


def everything():
    """All that the profile asks for."""
    yield from (file for segment in PLAN.segments.values() for file in segment.files)
    yield from (energies.file for energies in PLAN.energies.values())
    yield from (distances.file for distances in PLAN.distances.values())
    for figure in PLAN.figures.values():
        yield from (*figure.files, figure.record)
    if PLAN.claims.inputs:
        yield from (*PLAN.claims.files, PLAN.claims.record)
    if PLAN.report.inputs:
        yield from (*PLAN.report.files, PLAN.report.record)
