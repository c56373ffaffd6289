"""The jobs that make the missing parts of a plan, described in one place. Each rule of the workflow is a loop over its
tasks, `python -m analysis run` performs them, and tests check which tasks follow from a change."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from analysis.costs.workload import memory_bytes
from analysis.plan.missing import Exists, batches, energies_missing, untrained
from analysis.plan.plan import Drawn, Plan, PlannedDistances, PlannedEnergies, PlannedSegment, data_file
from analysis.store.atomic import write_text

Rule = Literal["data", "segments", "energies", "distances", "figures", "claims", "report"]
RULES: tuple[Rule, ...] = get_args(Rule)
Planned = PlannedSegment | PlannedEnergies | PlannedDistances | Drawn
AT_START = "logs/at-start.json"
Files = Mapping[str, tuple[str, ...]]  # relative to the results, by the names that the rule's function gives them


@dataclass(frozen=True)
class Task:
    """One job.

    Attributes:
        rule: also the name of its script (`workflow/scripts`) and its function (`analysis.execution.functions`).
        id: the id of the first result that it makes, which is unique within the rule.
        message: a description for people.
        arguments: what the function makes.
        inputs: files that must exist. "datasets" are relative to the folder of the datasets (or of an archive).
        outputs: files that it makes.
        priority: the work that waits for it, in refreshes.
        refreshes: expected number of refreshes of the dominant subspace, or of work that costs as much.
        memory: estimated bytes; 0 if no one needs the estimate.
        cooperative: whether it stops by itself on request, so that it can continue later.
        on_device: whether it works on a device, and a cluster runs it.
    """

    rule: Rule
    id: str
    message: str
    arguments: tuple[Planned, ...]
    inputs: Files
    outputs: Files
    priority: int = 0
    refreshes: int = 0
    memory: float = 0.0
    cooperative: bool = False
    on_device: bool = False
    threads: int = field(default=1, init=False)  # another number would change the rounding

    @property
    def name(self) -> str:
        return f"{self.rule}-{self.id}"

    @property
    def log(self) -> str:
        return f"logs/{self.rule}/{self.id}.log"

    @property
    def benchmark(self) -> str:
        return f"benchmarks/{self.rule}/{self.id}.tsv"


def tasks(plan: Plan, there: Exists, asked: Collection[str] = ()) -> list[Task]:
    """The tasks to do, each after those whose files it needs.

    Args:
        plan: everything that is requested.
        there: whether a file, relative to the results, exists. For a record, whether it is right
            (`analysis.execution.records.missing`).
        asked: files that are requested although nothing needs them: states, snapshots, data.
    """
    todo = [drawn for drawn in plan.drawn if not there(drawn.record)]
    measured = [*_segments(plan, there, {*asked, *(f for d in todo for f in d.inputs)}), *_energies(plan, there)]
    needed = {*asked, *(file for task in measured for file in task.inputs["data"])}
    data = [file for file in map(data_file, plan.subsets) if file in needed and not there(file)]
    return [*_data(data), *measured, *_distances(plan, there), *_drawn(plan, todo)]


def write_at_start(results: Path, missing: Collection[str], asked: Collection[str], again: Collection[str]) -> None:
    """Writes what a pipeline found missing, what was requested and what it makes again, so that others can list its
    tasks."""
    write_text(json.dumps([sorted(missing), sorted(asked), sorted(again)]), results / AT_START)


def read_at_start(results: Path) -> tuple[set[str], set[str], set[str]]:
    """Reads what `write_at_start` wrote."""
    missing, asked, again = json.loads((results / AT_START).read_text(encoding="utf-8"))
    return set(missing), set(asked), set(again)


def _each_once(files: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(files))


def _data(files: Sequence[str]) -> Iterator[Task]:
    if files:
        ids = [file.removeprefix("data/").removesuffix(".nc") for file in files]
        message = f"Data sets {', '.join(ids)}"
        yield Task("data", ids[0], message, (), {}, {"files": tuple(files)}, priority=sys.maxsize)


def _segments(plan: Plan, there: Exists, needed: Iterable[str]) -> Iterator[Task]:
    for batch in batches(plan, untrained(plan, there, needed)):
        segments = batch.segments
        yield Task(
            rule="segments",
            id=batch.name,
            message=f"Training {', '.join(s.id for s in segments)}",
            arguments=segments,
            inputs={
                "data": tuple(map(data_file, segments[0].subsets)),
                "parents": tuple(plan.segments[parent].state for parent in batch.parents),
            },
            outputs={
                "trajectories": tuple(s.trajectory for s in segments),
                "states": tuple(s.state for s in segments),
                "snapshots": tuple(s.snapshots for s in segments if s.snapshots),
            },
            priority=batch.priority,
            refreshes=batch.refreshes,
            memory=max(memory_bytes(s.spec) for s in segments),
            cooperative=True,
            on_device=True,
        )


def _energies(plan: Plan, there: Exists) -> Iterator[Task]:
    for batch in energies_missing(plan, there):
        yield Task(
            rule="energies",
            id=batch[0].id,
            message=f"Energies {', '.join(e.id for e in batch)}",
            arguments=batch,
            inputs={
                "data": tuple(map(data_file, batch[0].subsets)),
                "snapshots": tuple(e.input for e in batch),
            },
            outputs={"files": tuple(e.file for e in batch)},
            memory=max(memory_bytes(e.spec) for e in batch),
            on_device=True,
        )


def _distances(plan: Plan, there: Exists) -> Iterator[Task]:
    missing = tuple(distances for distances in plan.distances.values() if not there(distances.file))
    if missing:
        yield Task(
            rule="distances",
            id=missing[0].id,
            message=f"Distances {', '.join(d.id for d in missing)}",
            arguments=missing,
            inputs={"snapshots": _each_once(file for d in missing for file in d.inputs)},
            outputs={"files": tuple(d.file for d in missing)},
        )


def _drawn(plan: Plan, todo: Sequence[Drawn]) -> Iterator[Task]:
    """Tasks for figures and tables, claims and the report. One process draws several figures, because its imports take
    longer than a figure."""
    figures = [figure for figure in plan.figures.values() if figure in todo]
    for i in range(0, len(figures), plan.batch_figures):
        batch = figures[i : i + plan.batch_figures]
        message = f"Figures {', '.join(figure.name for figure in batch)}"
        yield _drawing("figures", batch[0].name, message, batch)
    if plan.claims in todo:
        yield _drawing("claims", plan.profile, "Judging the claims", [plan.claims])
    if plan.report in todo:
        shown = [drawn for drawn in plan.drawn if drawn is not plan.report]
        inputs = {
            "files": tuple(file for drawn in shown for file in drawn.files),
            "records": tuple(drawn.record for drawn in shown),
        }
        yield _drawing("report", plan.profile, "Writing the report", [plan.report], inputs)


def _drawing(rule: Rule, id_: str, message: str, drawn: Sequence[Drawn], inputs: Files | None = None) -> Task:
    return Task(
        rule=rule,
        id=id_,
        message=message,
        arguments=tuple(drawn),
        inputs={"datasets": _each_once(file for one in drawn for file in one.inputs)} | dict(inputs or {}),
        outputs={
            "files": tuple(file for one in drawn for file in one.files),
            "records": tuple(one.record for one in drawn),
        },
    )
