"""Runs the jobs of a plan without the workflow engine, with the same tasks, functions, files and checkpoints.

The workflow finds what was made here, and the reverse. Either can continue where the other stopped.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from analysis.execution.locks import only_pipeline
from analysis.execution.records import missing, remove_old_checkpoints
from analysis.execution.signals import STOPPED, Stop, remove_temporary_files
from analysis.execution.tasks import tasks, write_at_start
from analysis.execution.workers import Place, Waiting, alone, together
from analysis.plan.part import chosen
from analysis.plan.plan import Plan
from sharpflat.errors import InputError

DRAWING = ("figures", "claims", "report")  # rules whose libraries a training machine may lack


def run(
    plan: Plan,
    results: Path,
    *,
    only: Sequence[str] = (),
    jobs: int = 1,
    device: str = "cpu",
    draw: bool = False,
) -> int:
    """Makes the missing data sets, segments, energies and distances of a plan.

    Args:
        plan: the plan of a profile.
        results: the folder of its results. The folder above contains those of all profiles.
        only: figures, claims or segments (see `analysis.plan.part.chosen`). If it is empty, everything is made.
        jobs: number of tasks at once. With more than one, each runs in its own process.
        device: "cpu", "cuda:1", or "cuda" for the GPU with the fewest jobs.
        draw: also draw the figures, judge the claims and write the report.

    Returns:
        The exit status: 0, or 1 after a reported error, or 130 if it was interrupted.

    Raises:
        InputError: a name in `only` is unknown, or another pipeline runs in this folder.
    """
    if jobs < 1:
        raise InputError(f"--jobs: found {jobs}; allowed: 1 or more")
    part = chosen(plan, only)
    lock = only_pipeline(results.parents[1] / ".snakemake" / f"{plan.profile}.lock")
    stop = Stop(cooperative=True)
    try:
        remove_temporary_files(results)
        remove_old_checkpoints(plan, results)
        absent = missing(part, results)
        todo = tasks(part, lambda file: file not in absent)
        waiting = Waiting([task for task in todo if draw or task.rule not in DRAWING])
        if not waiting.count:
            print("Everything is there.")
            return 0
        write_at_start(results, absent, (), ())
        place = Place(results, device)
        status = alone(waiting, place, stop) if jobs == 1 else together(waiting, place, stop, jobs)
    finally:
        os.close(lock)
    if status:
        print(f"\n{STOPPED}", file=sys.stderr)
    return status
