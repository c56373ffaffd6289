"""Training and measuring without the workflow engine: the same functions, files and checkpoints.

What is left here, the workflow finds done; it draws and judges. Where it stopped, both continue.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from analysis.execution.gpus import share
from analysis.execution.jobs import Stop, logged, remove_temporary_files, stop_without_parent
from analysis.execution.locks import only_pipeline
from analysis.execution.stopped import STOPPED
from analysis.plan.outputs import datasets_of
from analysis.plan.plan import Plan
from sharpflat.errors import InputError

THREADS = 1  # of torch, as in the workflow's rules
LOOK = 0.2  # seconds between looks at whether to stop
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """What one job of the workflow does: a function from files to files, with that job's log.

    Attributes:
        says: its message.
        work: the function; called with `given`, and with `interrupted` and `device` where it takes them.
        given: keyword arguments: names, parameters and paths.
        inputs: files that other tasks may have to make first.
        outputs: files that it makes.
        log: file.
        priority: the work that waits for it.
        asks: whether it stops by itself when asked.
        on_device: whether it works on a device.
    """

    says: str
    work: Callable[..., None]
    given: dict[str, Any]
    inputs: tuple[Path, ...]
    outputs: tuple[Path, ...]
    log: Path
    priority: int = 0
    asks: bool = False
    on_device: bool = False


def run(plan: Plan, results: Path, *, only: Sequence[str] = (), jobs: int = 1, device: str = "cpu") -> int:
    """Make what is missing of a plan's data sets, segments, energies and distances.

    Args:
        plan: of a profile.
        results: its folder; the one above holds those of all profiles.
        only: figures, claims or segments (see `chosen`); none is everything.
        jobs: tasks at once; with more than one, each in a process of its own.
        device: "cpu", "cuda:1", or "cuda": of the GPUs the one with the fewest jobs.

    Returns:
        The exit status: 0, 1 after an error that was told, 130 if it was asked to stop.

    Raises:
        InputError: if a name of `only` is unknown, or another pipeline runs in this folder.
    """
    if jobs < 1:
        raise InputError(f"--jobs: found {jobs}; allowed: 1 or more")
    part = chosen(plan, only)
    held = only_pipeline(results.parents[1] / ".snakemake" / f"{plan.profile}.lock")
    stop = Stop(asks=True)
    try:
        remove_temporary_files(results)
        waiting = tasks(part, results)
        if not waiting:
            print("Everything is there.")
            return 0
        status = _alone(waiting, device, stop) if jobs == 1 else _together(waiting, device, stop, jobs)
    finally:
        os.close(held)
    if status:
        print(f"\n{STOPPED}", file=sys.stderr)
    return status


# ---------------------------------------------------------------- what is asked for
def chosen(plan: Plan, names: Sequence[str]) -> Plan:
    """The plan with just the segments that these need, and their data sets, energies and distances.

    Args:
        plan: of a profile.
        names: figures or claims, or the end of such a name if it is of one alone ("fig01"); segments by their ids, as
            <setting>.<segment> or <segment> of `experiments.yaml`. None is everything.

    Raises:
        InputError: for a name that is unknown or not clear.
    """
    if not names:
        return plan
    inputs = [file for name in names for file in _inputs(plan, name)]
    energies = {i: e for i, e in plan.energies.items() if e.file in inputs}
    distances = {i: d for i, d in plan.distances.items() if d.file in inputs}
    inputs += [energy.input for energy in energies.values()]
    inputs += [file for pair in distances.values() for run in pair.inputs for file in run]
    ids = {file.split("/")[1] for file in inputs if file.startswith("segments/")}
    for segment in reversed(plan.segments.values()):  # children before their parents
        if segment.id in ids and segment.spec.parent is not None:
            ids.add(segment.spec.parent)
    segments = {i: segment for i, segment in plan.segments.items() if i in ids}
    return replace(plan, segments=segments, energies=energies, distances=distances)


def _inputs(plan: Plan, name: str) -> list[str]:
    """The datasets that a figure, a claim or segments are made from or end in."""
    drawn: dict[str, Iterable[str]] = {figure.name: figure.inputs for figure in plan.figures.values()}
    for claim in json.loads(plan.claims.params)["claims"]:
        if inputs := datasets_of(claim["panels"]):
            drawn[claim["name"]] = inputs
    trained: dict[str, list[str]] = {i: [i] for i in plan.segments}
    runs = {key: [path] for key, path in plan.runs.items()}
    runs |= {key: [member.path for member in family] for key, family in plan.families.items()}
    for (setting, segment), paths in runs.items():
        for known in (f"{setting}.{segment}", segment):
            trained.setdefault(known, []).extend(path[-1] for path in paths)
    ended = [known for known in drawn if known.endswith(f"-{name}")]
    if name in drawn:
        return list(drawn[name])
    if name in trained:
        return [plan.segments[i].trajectory for i in trained[name]]
    if len(ended) > 1:
        raise InputError(f"--only: {name!r} may be {' or '.join(ended)}")
    if ended:
        return list(drawn[ended[0]])
    short = (known.partition("-")[2] for known in drawn)
    close = get_close_matches(name, [*drawn, *short, *(known for known in trained if known not in plan.segments)], n=1)
    hint = f'; did you mean "{close[0]}"?' if close else ";"
    raise InputError(
        f"--only: profile {plan.profile} has no figure, claim or segment {name!r}{hint} allowed: a segment of "
        f"experiments.yaml, {', '.join(drawn)}"
    )


# ---------------------------------------------------------------- what is to do
def tasks(plan: Plan, results: Path) -> list[Task]:
    """What is missing of the plan, in the jobs of the workflow."""

    def there(file: str) -> bool:
        return (results / file).exists()

    def paths(files: Iterable[str]) -> list[Path]:
        return [results / file for file in files]

    def data(subsets: Iterable[str]) -> list[Path]:
        return [results / "data" / f"{subset}.nc" for subset in subsets]

    logs = results / "logs"
    found = []
    missing = [path for path in data(plan.subsets) if not path.exists()]
    if missing:
        says = f"Data sets {', '.join(path.stem for path in missing)}"
        found.append(Task(says, _data, {"outputs": missing}, (), tuple(missing), logs / "data.log", sys.maxsize))
    untrained = plan.untrained(there, plan.figures.values())
    for batch in plan.batches(lambda segment: segment.id not in untrained):
        given: dict[str, Any] = {
            "segments": [s.params for s in batch.segments],
            "data": data(batch.segments[0].subsets),
            "parents": paths(plan.segments[parent].state for parent in batch.parents),
            "trajectories": paths(s.trajectory for s in batch.segments),
            "states": paths(s.state for s in batch.segments),
            "snapshots": paths(s.snapshots for s in batch.segments if s.snapshots),
        }
        found.append(
            Task(
                f"Training {', '.join(s.id for s in batch.segments)}",
                _train,
                given,
                (*given["data"], *given["parents"]),
                tuple(paths(file for s in batch.segments for file in s.files)),
                logs / "train" / f"{batch.name}.log",
                batch.priority,
                asks=True,
                on_device=True,
            )
        )
    for energies in plan.energies_missing(lambda energies: there(energies.file)):
        given = {
            "params": [e.params for e in energies],
            "data": data(energies[0].subsets),
            "snapshots": paths(e.input for e in energies),
            "outputs": paths(e.file for e in energies),
        }
        found.append(
            Task(
                f"Energies {', '.join(e.id for e in energies)}",
                _energies,
                given,
                (*given["data"], *given["snapshots"]),
                tuple(given["outputs"]),
                logs / "curvature" / f"{energies[0].id}.log",
                on_device=True,
            )
        )
    apart = [distances for distances in plan.distances.values() if not there(distances.file)]
    if apart:
        inputs = paths(dict.fromkeys(file for d in apart for run in d.inputs for file in run))
        given = {"params": [d.params for d in apart], "snapshots": inputs, "outputs": paths(d.file for d in apart)}
        says = f"Distances {', '.join(d.id for d in apart)}"
        found.append(Task(says, _distances, given, tuple(inputs), tuple(given["outputs"]), logs / "distances.log"))
    return found


def _data(outputs: Sequence[Path]) -> None:
    from analysis.data.subsets import write_subsets

    write_subsets(outputs)


def _train(**given: Any) -> None:
    from analysis.training.batch import train_batch

    train_batch(**given, threads=THREADS)


def _energies(**given: Any) -> None:
    from analysis.measurement.energies import measure_energies

    measure_energies(**given, threads=THREADS)


def _distances(**given: Any) -> None:
    from analysis.measurement.distances import write_distances

    write_distances(**given)


# ---------------------------------------------------------------- doing it
def _perform(task: Task, device: str, stop: Stop) -> int:
    """Do a task in this process; its exit status as that of the workflow's job."""
    task.log.parent.mkdir(parents=True, exist_ok=True)
    try:
        with logged(task.log):
            stop.asks = task.asks
            if stop.asked():
                raise KeyboardInterrupt
            given = dict(task.given)
            if task.asks:
                given["interrupted"] = stop.asked
            if not task.on_device:
                task.work(**given)
            else:
                with share(device) as place:
                    task.work(**given, device=place)
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        stop.asks = True
    return 0


class _Todo:
    """Tasks that wait, and for what."""

    def __init__(self, waiting: Sequence[Task]) -> None:
        self.waiting = list(waiting)
        self.to_come = {file for task in waiting for file in task.outputs}
        self.count = len(waiting)

    def next(self) -> Task | None:
        """The one with the most work behind it of those that can begin; None if all wait for others."""
        ready = [task for task in self.waiting if not self.to_come.intersection(task.inputs)]
        if not ready:
            return None
        task = max(ready, key=lambda task: task.priority)
        self.waiting.remove(task)
        print(f"{self.count - len(self.waiting)} of {self.count}: {task.says}", flush=True)
        return task

    def done(self, task: Task) -> None:
        self.to_come.difference_update(task.outputs)


def _alone(waiting: Sequence[Task], device: str, stop: Stop) -> int:
    todo = _Todo(waiting)
    while (task := todo.next()) is not None:
        if stop.asked():
            return 130
        if status := _perform(task, device, stop):
            return status
        todo.done(task)
    return 0


class _Worker:
    """A process that does one task after the other."""

    def __init__(self, device: str) -> None:
        context = get_context("spawn")  # not forked: of threads and CUDA, a fork has half
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, device))
        self.process.start()
        theirs.close()
        self.task: Task | None = None

    def begin(self, task: Task) -> None:
        self.task = task
        self.connection.send(task)

    def end(self) -> tuple[Task, int]:
        """Its task and the exit status; 1 if the process is gone."""
        assert self.task is not None
        task, self.task = self.task, None
        try:
            return task, self.connection.recv()
        except EOFError:
            return task, 1


def _work(connection: Connection, device: str) -> None:
    stop = Stop(asks=True)
    stop_without_parent()
    try:
        while True:
            task = connection.recv()
            connection.send(_perform(task, device, stop))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        return  # it is no longer wanted


def _together(waiting: Sequence[Task], device: str, stop: Stop, jobs: int) -> int:
    todo = _Todo(waiting)
    workers = [_Worker(device) for _ in range(min(jobs, len(waiting)))]
    told, status = False, 0
    try:
        while True:
            for worker in workers:
                if worker.task is None and not status and not stop.asked() and (task := todo.next()) is not None:
                    worker.begin(task)
            busy = [worker for worker in workers if worker.task is not None]
            if not busy:
                return 130 if stop.asked() else status
            if stop.asked() and not told:
                told = True
                for worker in workers:
                    worker.process.terminate()  # which asks it
            ended = wait([worker.connection for worker in busy], timeout=LOOK)
            for worker in busy:
                if worker.connection in ended:
                    task, code = worker.end()
                    status = status or code
                    todo.done(task)
    finally:
        for worker in workers:
            worker.connection.close()  # ends it, once it is done
        for worker in workers:
            worker.process.join()
