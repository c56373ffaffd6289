"""The progress of a run, from the logs of its jobs and from rough costs of the planned work.

Nothing extra is written for this. A segment's log gives its step every few seconds, and its total time at the end.
"""

from __future__ import annotations

import os
import re
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from analysis.costs.workload import energies_work
from analysis.execution.records import missing
from analysis.execution.tasks import RULES, Planned, Task, read_at_start, tasks
from analysis.plan.missing import expected_refreshes
from analysis.plan.plan import Drawn, Plan, PlannedDistances, PlannedSegment
from analysis.plan.problems import parameter_count

# A first estimate on one core for a fully connected network. The first number comes from the archived quick profile,
# whose settings need 0.02 to 0.6. The second is for each parameter and example, from the archived laptop profile.
SECONDS_A_REFRESH, SECONDS_AN_EXAMPLE = 0.15, 5e-10
# Approximate seconds of one piece of a rule that is not training or measuring along a segment.
SECONDS = {"data": 5.0, "distances": 5.0, "figures": 2.0, "claims": 8.0, "report": 10.0}
USUAL_PACE = 30.0  # seconds of a run that weigh as much as the prior that the estimate is right
BAR = 20  # characters
TRUST = 3.0  # estimated seconds of one setting's measured work that weigh as much as the average of all settings

_LINE = re.compile(r"^\d\d:\d\d:\d\d (\S+): (.*)$")
_BEGUN = re.compile(r"(?:begins|continues from its checkpoint) at step (\d+)$")
_STEP = re.compile(r"step (\d+) of (\d+).*, at most (\d+):(\d\d) left$")
_DONE = re.compile(r".*, ([\d.]+) s$")


@dataclass(frozen=True)
class Piece:
    """One result that a plan makes.

    Attributes:
        rule: the rule that makes it.
        id: its id, or the name of a figure.
        file: a file relative to the results, which exists if the piece is done.
        seconds: a first estimate of its time.
    """

    rule: str
    id: str
    file: str
    seconds: float

    @property
    def setting(self) -> str:
        return self.id.partition(".")[0]


def pieces(plan: Plan, planned: Iterable[Planned] | None = None) -> list[Piece]:
    """The pieces that a plan makes, or some of them."""
    lengths = plan.lengths()

    def piece(one: Planned) -> Piece:
        if isinstance(one, Drawn):
            return Piece(one.rule, one.name, one.record, SECONDS[one.rule])
        if isinstance(one, PlannedDistances):
            return Piece("distances", one.id, one.file, SECONDS["distances"])
        problem = one.spec.problem
        size = parameter_count(problem) * (problem.data.holdout or problem.data.examples)
        guess = SECONDS_A_REFRESH + SECONDS_AN_EXAMPLE * size
        if isinstance(one, PlannedSegment):
            return Piece("segments", one.id, one.trajectory, expected_refreshes(one.spec) * guess)
        every = plan.segments[one.spec.segment].spec.probes["snapshots"].every
        work = energies_work(one.spec, lengths[one.spec.segment] // every + 1, every)
        products = 3 * work.joint_products + work.separate_products
        return Piece("energies", one.id, one.file, (work.refreshes + products / (3 * problem.k)) * guess)

    if planned is None:
        planned = [*plan.segments.values(), *plan.energies.values(), *plan.distances.values(), *plan.drawn]
    return [piece(one) for one in planned]


def pieces_of(plan: Plan, tasks: Iterable[Task]) -> list[Piece]:
    """The pieces that tasks make."""
    data = [Piece("data", task.id, task.outputs["files"][0], SECONDS["data"]) for task in tasks if task.rule == "data"]
    return data + pieces(plan, [one for task in tasks for one in task.arguments])


@dataclass(frozen=True)
class At:
    """The position of a job: in the segment `id`, which began at step `first`. `step` is 0 until the log gives one."""

    id: str
    first: int
    step: int = 0
    last: int = 0
    left: float = 0.0  # seconds, at most

    @property
    def fraction(self) -> float:
        return (self.step - self.first) / (self.last - self.first) if self.last > self.first else 0.0

    def __str__(self) -> str:
        return self.id + (f" step {self.step:,} of {self.last:,}" if self.last else "")


class Logs:
    """The logs of segments and energies in a folder of results. Each reading continues where the last one ended.

    Attributes:
        took: seconds of finished work, by id.
        at: the last position of each log's job.
    """

    def __init__(self, results: Path) -> None:
        self.took: dict[str, float] = {}
        self.at: dict[str, At] = {}
        self._results = results
        self._read: dict[str, int] = {}

    def all(self) -> list[str]:
        """All logs, relative to the results."""
        found = [path for rule in ("segments", "energies") for path in self._results.glob(f"logs/{rule}/*.log")]
        return sorted(path.relative_to(self._results).as_posix() for path in found)

    def look(self, logs: Iterable[str]) -> None:
        for log in logs:
            try:
                with (self._results / log).open("rb") as file:
                    file.seek(self._read.get(log, 0))
                    lines, whole, _ = file.read().rpartition(b"\n")
            except OSError:
                continue  # not begun
            self._read[log] = self._read.get(log, 0) + len(lines) + len(whole)
            for line in lines.decode(errors="replace").splitlines():
                if match := _LINE.match(line):
                    self._enter(log, *match.groups())

    def _enter(self, log: str, id_: str, text: str) -> None:
        if match := _BEGUN.match(text):
            self.at[log] = At(id_, int(match[1]))
        elif match := _STEP.match(text):
            step, last, minutes, seconds = map(int, match.groups())
            self.at[log] = At(id_, self.at[log].first if log in self.at else 0, step, last, 60 * minutes + seconds)
        elif match := _DONE.match(text):
            self.took[id_] = float(match[1])
            self.at.pop(log, None)


class Left(NamedTuple):
    """The remaining work of some pieces.

    Attributes:
        fraction: fraction of their work that is done.
        seconds: estimated seconds left, with work on all slots at once.
        work: seconds of work that is done.
    """

    fraction: float
    seconds: float
    work: float


def left(
    pieces: Collection[Piece], done: Collection[str], took: Mapping[str, float], running: Collection[At], slots: int
) -> Left:
    """The remaining work. Measured times determine the estimate for the rest of their setting.

    Args:
        pieces: everything that has to be done.
        done: the files of the finished pieces.
        took: seconds, by id.
        running: segments that are running.
        slots: number of jobs at once.
    """
    now = {at.id: at for at in running}
    known = dict(took) | {at.id: at.left / (1 - at.fraction) for at in running if 0 < at.fraction < 1}
    sums: dict[str, tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
    for piece in pieces:
        if piece.rule not in SECONDS and piece.id in known:
            for key in (piece.setting, ""):
                sums[key] = sums[key][0] + known[piece.id], sums[key][1] + piece.seconds

    def ratio(key: str, otherwise: float) -> float:
        """The ratio of measured to estimated time."""
        measured, guessed = sums[key]
        return (measured + TRUST * otherwise) / (guessed + TRUST)

    usual, whole, open_, longest = ratio("", 1.0), 0.0, 0.0, 0.0
    for piece in pieces:
        expected = piece.seconds * (1.0 if piece.rule in SECONDS else ratio(piece.setting, usual))
        seconds = known.get(piece.id, expected)
        whole += seconds
        if piece.file not in done:
            remains = seconds * (1 - now[piece.id].fraction if piece.id in now else 1)
            open_, longest = open_ + remains, max(longest, remains)
    return Left(1 - open_ / whole if whole else 1.0, max(open_ / slots, longest), whole - open_)


def clock(seconds: float) -> str:
    """A time, for example 0:07, 12:30 or 3:05:00."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


class Run:
    """The tasks that this process performs. The engine reports which tasks begin and end."""

    def __init__(self, plan: Plan, tasks: Sequence[Task], results: Path, slots: int) -> None:
        before = Logs(results)
        before.look(before.all())
        self._took = before.took
        for task in tasks:
            (results / task.log).unlink(
                missing_ok=True
            )  # the log of an earlier run must not be mistaken for this one's
        self._plan, self._slots, self._logs = plan, slots, Logs(results)
        self._running: dict[str, Task] = {}
        self._ended: set[str] = set()
        self._shown, self._begun = 0.0, time.monotonic()
        self.only(tasks)

    def only(self, tasks: Iterable[Task]) -> None:
        """Restricts the run to these tasks."""
        self.tasks = {task.name: task for task in tasks}
        self._pieces = pieces_of(self._plan, self.tasks.values())

    def begin(self, name: str) -> None:
        self._running[name] = self.tasks[name]

    def end(self, name: str, *, done: bool) -> None:
        task = self._running.pop(name)
        self._logs.look([task.log])
        if done:
            self._ended |= {file for files in task.outputs.values() for file in files}

    def far(self) -> str:
        """The progress, for example "34 %, 4:12 left"."""
        took, elapsed = self._logs.took, time.monotonic() - self._begun
        done = self._ended | {piece.file for piece in self._pieces if piece.id in took}
        found = left(self._pieces, done, self._took | took, self._logs.at.values(), self._slots)
        # The factor by which starting jobs, a busy machine and idle slots slow down the work.
        pace = (elapsed + USUAL_PACE) / (found.work / self._slots + USUAL_PACE)
        self._shown = max(self._shown, found.fraction)  # the shown progress never decreases, even if the estimate grows
        return f"{int(100 * self._shown)} %, {clock(found.seconds * pace)} left"

    def line(self) -> str:
        """The progress as in `far`, with the running jobs and their positions."""
        self._logs.look(task.log for task in self._running.values())
        far, at = self.far(), self._logs.at
        bar = "#" * round(BAR * self._shown)
        doing = [str(at.get(task.log) or _brief(task)) for task in self._running.values()]
        return f"[{bar:.<{BAR}}] {far}: {'; '.join(doing)}"


def _brief(task: Task) -> str:
    """What it does, by the first of the things that it makes."""
    first, *more = task.message.split(", ")
    return f"{first} and {len(more)} more" if more else first


RUN: Run | None = None  # the run of this process, once it has jobs
LOOKS = False  # whether this process only inspects, so that all messages of the engine are shown


def status(plan: Plan, results: Path, since: float | None) -> Iterator[str]:
    """Lines that say which parts of a plan exist, run or are missing, and about how long the rest will take.

    Args:
        since: start of the pipeline that runs now; None if none runs.
    """
    absent, whole, logs = missing(plan, results), pieces(plan), Logs(results)
    logs.look(logs.all())
    open_ = [piece for piece in whole if piece.file in absent]
    if not open_:
        yield f"{plan.profile}: everything is there."
        return
    jobs = [] if since is None else [job for job in _begun(plan, results) if _runs(job, results, since, absent)]
    running = {job.name: logs.at.get(job.log) for job in jobs}
    at = [one for one in running.values() if one is not None]
    done = {piece.file for piece in whole} - absent
    found = left(whole, done, logs.took, at, len(jobs) or os.cpu_count() or 1)
    guessed = "" if logs.took else " (a first guess; make plan measures)"
    far = f"{int(100 * found.fraction)} % of the work is done; about {clock(found.seconds)} left{guessed}."
    yield f"{plan.profile}: {far}"
    yield f"{'':<10} {'there':>8} {'running':>8} {'missing':>8}"
    for rule in RULES:
        if count := sum(piece.rule == rule for piece in whole):
            gone, now = sum(piece.rule == rule for piece in open_), sum(job.rule == rule for job in jobs)
            now = min(now if rule == "segments" else sum(len(job.arguments) for job in jobs if job.rule == rule), gone)
            yield f"{rule:<10} {count - gone:>8} {now:>8} {gone - now:>8}"
    for job in jobs:
        yield f"running: {running[job.name] or _brief(job)}"
    if since is None:
        yield f"Nothing runs. make reproduce PROFILE={plan.profile} continues from here."


def _begun(plan: Plan, results: Path) -> list[Task]:
    """The tasks of the last pipeline."""
    try:
        absent, asked, _ = read_at_start(results)
    except (OSError, ValueError):
        return []
    return tasks(plan, lambda file: file not in absent, asked)


def _runs(job: Task, results: Path, since: float, absent: Collection[str]) -> bool:
    """Whether a job has begun its log but has not made all its files."""
    log = results / job.log
    return (
        log.exists()
        and log.stat().st_mtime >= since
        and any(file in absent for files in job.outputs.values() for file in files)
    )
