"""The estimate as text: by figure, in total, and compared with the time that existing results took."""

from __future__ import annotations

import os
from collections.abc import Iterator

from analysis.costs.estimate import Estimate, Item
from analysis.plan.plan import Plan

HOUR = 3600.0
NOTES = (
    "A job is a segment, or the energies along one. Figures share segments: the last column counts each once, with the",
    "first figure that needs it. Segments that stop by the alignment count with the longest they may last. Operations",
    "are floating-point ones of matrix products and convolutions; disk is of states and snapshots before compression.",
)


def lines(plan: Plan, estimate: Estimate, gpu_tflops: float | None = None) -> Iterator[str]:
    """The lines of `make plan`.

    Args:
        plan: the estimated plan.
        estimate: the estimate.
        gpu_tflops: assumed speed of a GPU in 10¹² floating-point operations per second; None leaves GPU hours out.
    """
    head = f"{'':<24} {'jobs':>5} {'steps':>9} {'refreshes':>9} {'products':>11} {'operations':>10} {'core hours':>10}"
    head += f" {'GPU hours':>9}" if gpu_tflops else ""
    yield head + f" {'GB on disk':>10} {'GB memory':>9}   new core hours"
    seen: set[str] = set()
    for name, ids in estimate.figures.items():
        new = estimate.total(i for i in ids if i not in seen)
        seen |= set(ids)
        yield f"{_row(name, len(ids), estimate.total(ids), gpu_tflops)}   {_hours(new):14.2f}"
    whole = estimate.total(estimate.items)
    yield _row("in all", len(estimate.items), whole, gpu_tflops)
    yield ""
    yield from NOTES
    shared, alone = plan.sharing(), estimate.cost_alone.seconds
    training = sum(estimate.items[i].cost.seconds for i in plan.segments)
    yield (
        f"The tree of segments: {shared.steps:,} steps for {shared.runs} runs, instead of {shared.steps_alone:,}; "
        f"{training / HOUR:.1f} core hours instead of {alone / HOUR:.1f} ({1 - training / max(alone, 1e-9):.0%} saved)."
    )
    cores = os.cpu_count() or 1
    yield f"On this machine's {cores} cores, one job each: about {_hours(whole) / cores:.1f} hours, if all are busy."
    if gpu_tflops:
        yield (
            f"GPU hours: operations at {gpu_tflops:g} · 10¹² a second, a floor: what beginning a kernel takes, most of "
            "a small minibatch's step, is not in it."
        )
    if estimate.seconds_found:
        took, said = sum(estimate.seconds_found.values()), estimate.total(estimate.seconds_found).cost.seconds
        there, ratio = (
            f"{len(estimate.seconds_found)} of these {len(estimate.items)} jobs are there",
            said / max(took, 1e-9),
        )
        yield f"{there}; they took {took / HOUR:.2f} core hours; their estimate: {said / HOUR:.2f} ({ratio:.2f} times)."


def _row(name: str, jobs: int, item: Item, gpu_tflops: float | None) -> str:
    row = f"{name:<24} {jobs:>5} {item.work.updates:>9,} {item.work.refreshes:>9,} {item.products:>11,.0f}"
    row += f" {item.cost.operations:>10.1e} {_hours(item):>10.2f}"
    row += f" {item.cost.operations / (gpu_tflops * 1e12) / HOUR:>9.3f}" if gpu_tflops else ""
    return row + f" {item.disk / 1e9:>10.2f} {item.memory / 1e9:>9.1f}"


def _hours(item: Item) -> float:
    return item.cost.seconds / HOUR
