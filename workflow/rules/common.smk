# The plan of the chosen profile, and where its files are.
import base64
import os
import shutil
import signal
import sys
import threading
import time
import zlib
from contextlib import suppress
from pathlib import Path

import psutil

from analysis.archive import REDRAWN, REFERENCE, read_archive
from analysis.config import validate
from analysis.errors import InputError
from analysis.plan import CONFIG_DIR, load_plan
from analysis.stages import Stages

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

# Names say what is right, not times. But the engine deletes what it made from a file of the future, each time anew: a
# clock that was ahead when it was written must not stop everything.
for path in (*Path(RESULTS).rglob("*"), *Path(DATASETS).rglob("*"), Path("docs/deviations.md")):
    if not workflow.is_main_process:
        break
    with suppress(OSError):  # another's file; the engine then tells
        if path.stat().st_mtime > time.time():
            os.utime(path)

# A job's process is then the engine's own child, whatever the shell does: signals reach it, and it sees the engine's end.
shell.prefix("set -euo pipefail; exec ")


def remove_temporary_files():
    """What writers that were killed left; to be called while no other pipeline runs here."""
    for path in Path(RESULTS).rglob(".*.tmp"):
        path.unlink(missing_ok=True)


def pass_on(number):
    """Have a signal also stop the jobs. The engine itself would wait for their end, which may be hours away; a terminal
    sends Ctrl-C to all processes, `kill` to one."""
    before = signal.getsignal(number)
    if number == signal.SIGTERM and "stages" in config:
        # As Ctrl-C, which cancels a cluster's jobs: the engine would wait for them.
        before = signal.default_int_handler

    def stop_jobs():
        told = set()
        while True:  # until the engine ends: one may be starting just now
            for child in set(psutil.Process().children()) - told:
                with suppress(psutil.NoSuchProcess):
                    if ".snakemake/scripts/" in " ".join(
                        child.cmdline()
                    ):  # else one that cancels a cluster's job
                        child.terminate()
                        told.add(child)
            time.sleep(0.1)

    def handle(number, frame):
        threading.Thread(target=stop_jobs, daemon=True).start()
        before(number, frame)

    if callable(before):  # else it is ignored, as Ctrl-C by what a shell runs in the background
        signal.signal(number, handle)


def result(file):
    return f"{RESULTS}/{file}"


def dataset(file):
    """What figures and claims are made from."""
    return f"{DATASETS}/{file}"


def data(subset):
    return f"{RESULTS}/data/{subset}.nc"


def is_there(*files):
    """What stands under a name that hashes all that decides it is right by construction: no rule makes it again."""
    return MISSING.isdisjoint(files)


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


# A cluster's job reads these files anew, when others have made more, and must find the rules that its engine made.
if workflow.is_main_process:
    MISSING = {file for file in everything() if not Path(RESULTS, file).exists()}
    os.environ["MISSING_AT_START"] = base64.b64encode(
        zlib.compress("\n".join(sorted(MISSING)).encode())
    ).decode()
else:
    MISSING = set(zlib.decompress(base64.b64decode(os.environ["MISSING_AT_START"])).decode().split("\n"))


envvars:
    "MISSING_AT_START",
