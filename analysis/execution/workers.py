"""Performs tasks in this process, or in several processes that each perform one task after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from analysis.execution.gpus import share
from analysis.execution.signals import Stop, logged, stop_without_parent
from analysis.execution.tasks import Files, Task

STOP_SECONDS = 0.2  # between checks whether to stop
INTERRUPTED = 130  # exit status of a process that was requested to stop


@dataclass(frozen=True)
class Place:
    """The place where tasks are performed: the folder of the results, and the device."""

    results: Path
    device: str


class Waiting:
    """Tasks that have not begun, and the files for which they wait."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._tasks = list(tasks)
        self._to_come = {file for task in tasks for file in _files(task.outputs)}
        self.count = len(tasks)

    def next(self) -> Task | None:
        """Of the tasks that can begin, the one for which most work waits; None if all wait for other tasks."""
        ready = [task for task in self._tasks if self._to_come.isdisjoint(_files(task.inputs))]
        if not ready:
            return None
        task = max(ready, key=lambda task: task.priority)
        self._tasks.remove(task)
        print(f"{self.count - len(self._tasks)} of {self.count}: {task.message}", flush=True)
        return task

    def done(self, task: Task) -> None:
        self._to_come.difference_update(_files(task.outputs))


def _files(named: Files) -> list[str]:
    return [file for files in named.values() for file in files]


def alone(waiting: Waiting, place: Place, stop: Stop) -> int:
    """Performs all tasks in this process and returns the exit status."""
    while (task := waiting.next()) is not None:
        if stop.asked():
            return INTERRUPTED
        if status := perform(task, place, stop):
            return status
        waiting.done(task)
    return 0


def together(waiting: Waiting, place: Place, stop: Stop, jobs: int) -> int:
    """Performs tasks in this many processes and returns the exit status."""
    workers = [_Worker(place) for _ in range(min(jobs, waiting.count))]
    passed_on, status = False, 0
    try:
        while True:
            for worker in workers:
                if worker.task is None and not status and not stop.asked() and (task := waiting.next()) is not None:
                    worker.begin(task)
            busy = [worker for worker in workers if worker.task is not None]
            if not busy:
                return INTERRUPTED if stop.asked() else status
            if stop.asked() and not passed_on:
                passed_on = True
                for worker in workers:
                    worker.process.terminate()  # this requests it to stop
            ended = wait([worker.connection for worker in busy], timeout=STOP_SECONDS)
            for worker in busy:
                if worker.connection in ended:
                    task, code = worker.end()
                    status = status or code
                    waiting.done(task)
    finally:
        for worker in workers:
            worker.connection.close()  # ends it, once it is done
        for worker in workers:
            worker.process.join()


def perform(task: Task, place: Place, stop: Stop) -> int:
    """Performs a task in this process and returns the exit status that the workflow's job would have."""
    from analysis.execution import functions

    log = place.results / task.log
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        with logged(log):
            stop.cooperative = task.cooperative
            if stop.asked():
                raise KeyboardInterrupt
            inputs, outputs = (
                {name: [str(place.results / file) for file in files] for name, files in named.items()}
                for named in (task.inputs, task.outputs)
            )
            options: dict[str, Any] = {"interrupted": stop.asked} if task.cooperative else {}
            function = getattr(functions, task.rule)
            if not task.on_device:
                function(task.arguments, inputs, outputs, **options)
            else:
                with share(place.device) as device:
                    function(task.arguments, inputs, outputs, **options, threads=task.threads, device=device)
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        stop.cooperative = True
    return 0


class _Worker:
    """A process that performs one task after the other."""

    def __init__(self, place: Place) -> None:
        context = get_context("spawn")  # a fork would not copy threads and CUDA completely
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, place))
        self.process.start()
        theirs.close()
        self.task: Task | None = None

    def begin(self, task: Task) -> None:
        self.task = task
        self.connection.send(task)

    def end(self) -> tuple[Task, int]:
        """Its task and the exit status, which is 1 if the process no longer exists."""
        assert self.task is not None
        task, self.task = self.task, None
        try:
            return task, self.connection.recv()
        except EOFError:
            return task, 1


def _work(connection: Connection, place: Place) -> None:
    stop = Stop(cooperative=True)
    stop_without_parent()
    try:
        while True:
            task = connection.recv()
            connection.send(perform(task, place, stop))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        return  # it is no longer needed
