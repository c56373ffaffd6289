"""How far a run is: what jobs say in their logs, what is left, and the lines of `make status` and of a run's end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest
from _pytest.capture import CaptureFixture

from analysis.__main__ import main
from analysis.execution import progress
from analysis.execution.locks import held_since
from analysis.execution.progress import At, Logs, Piece, Run, clock, left, pieces, status
from analysis.execution.signals import logged
from analysis.execution.tasks import RULES, tasks, write_at_start
from analysis.plan.plan import Plan
from analysis.training import segment
from tests.unit.test_determinism import batch, data_in
from tests.unit.test_tasks import PROFILE_OF_ALL, everything, id_of, plan_of

LOG = "logs/segments/a.log"


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return plan_of(tmp_path_factory.mktemp("config"), PROFILE_OF_ALL)


def write(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@pytest.mark.slow
def test_what_a_job_says_is_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads the lines that training writes, while training continues."""
    monkeypatch.setattr(segment, "PROGRESS_SECONDS", 0.0)
    (tmp_path / LOG).parent.mkdir(parents=True)
    logs, calls, seen = Logs(tmp_path), count(), []

    def interrupted() -> bool:
        logs.look([LOG, "logs/segments/not-begun.log"])
        seen.append(logs.at[LOG])
        return next(calls) == 2

    with pytest.raises(SystemExit), logged(tmp_path / LOG):
        batch(data_in(tmp_path), "a", interrupted=interrupted)
    steps = seen[2].last
    assert [(at.id, at.first, at.step, at.last) for at in seen] == [
        ("a", 0, 0, 0),
        ("a", 0, 1, steps),
        ("a", 0, 2, steps),
    ]
    assert str(seen[0]) == "a"
    assert str(seen[2]) == f"a step 2 of {steps}"
    assert seen[2].fraction == 2 / steps
    assert logs.took == {}

    logs = Logs(tmp_path)
    with logged(tmp_path / LOG):
        batch(tmp_path, "a")
    assert logs.all() == [LOG]
    logs.look(logs.all())
    assert set(logs.took) == {"a"}
    assert logs.at == {}


def test_half_a_line_waits_for_its_other_half(tmp_path: Path) -> None:
    logs, log = Logs(tmp_path), "logs/energies/x.log"
    write(tmp_path / log, "12:00:00 x: 5 snapshots, 3")
    logs.look([log])
    assert logs.took == {}
    write(tmp_path / log, "12:00:00 x: 5 snapshots, 31.5 s\n")
    logs.look([log])
    assert logs.took == {"x": 31.5}


def test_what_is_left_goes_by_what_was_measured() -> None:
    todo = [Piece("segments", f"{name}-{i}", f"{name}-{i}", 150.0) for name in ("one.", "other.") for i in range(3)]
    assert left(todo, [], {}, [], 2) == (pytest.approx(0), pytest.approx(450), 0)
    # One of "one" is done and took twenty times the guess, another is half done; "other" then counts for more, too.
    took, at = {"one.-0": 3000.0}, [At("one.-1", 100, 150, 200, left=750.0)]
    found = left(todo, ["one.-0"], took, at, 1)
    assert found.work == pytest.approx(3000 + 750)
    assert found.seconds == pytest.approx(750 + 2250 + 3 * 2250, rel=0.02)
    assert found.fraction == pytest.approx(3750 / 13_500, rel=0.02)
    assert left(todo, [piece.file for piece in todo], {}, [], 2)[:2] == (1, 0)


def test_times_are_said_as_a_clock_does() -> None:
    assert [clock(seconds) for seconds in (0.4, 7, 754, 3600 * 3 + 301)] == ["0:00", "0:07", "12:34", "3:05:01"]


def test_a_run_is_followed_by_its_tasks(plan: Plan, tmp_path: Path) -> None:
    todo = {task.name: task for task in tasks(plan, lambda file: False)}
    first = todo[f"segments-{id_of(plan, 'start')}"]
    stale = tmp_path / first.log
    write(stale, "".join(f"12:00:00 {one.id}: completed at step 9 by steps, 1.0 s\n" for one in first.arguments))
    run = Run(plan, list(todo.values()), tmp_path, slots=2)
    assert not stale.exists(), "what an earlier run did is not done in this one"
    run.begin(first.name)
    assert run.line().startswith("[....................] 0 %, ")
    assert run.line().endswith(f" left: Training {first.arguments[0].id} and {len(first.arguments) - 1} more")
    one = first.arguments[0].id
    write(stale, f"12:00:00 {one}: begins at step 0\n12:00:05 {one}: step 5 of 10, loss 1, at most 0:05 left\n")
    assert run.line().endswith(f" left: {one} step 5 of 10")
    run.end(first.name, done=True)
    assert not run.line().startswith("[....................] 0 %, ")
    for task in todo.values():
        if task is not first:
            run.begin(task.name)
            run.end(task.name, done=True)
    assert run.line() == "[####################] 100 %, 0:00 left: "


def test_the_status_counts_what_is_there_runs_and_is_missing(plan: Plan, tmp_path: Path) -> None:
    whole = everything(plan)
    lines = list(status(plan, tmp_path, None))
    assert lines[0].startswith("small: 0 % of the work is done; about ")
    assert lines[-1] == "Nothing runs. make reproduce PROFILE=small continues from here."

    # A run begins with the first segment there, and trains its siblings in one job.
    done, *_ = plan.segments.values()
    for file in done.files:
        write(tmp_path / file)
    absent = {file for file in whole if not (tmp_path / file).exists()}
    write_at_start(tmp_path, absent, (), ())
    job = next(task for task in tasks(plan, lambda file: file not in absent) if task.rule == "segments")
    write(tmp_path / job.log, f"12:00:00 {job.arguments[0].id}: begins at step 10\n")
    since = (tmp_path / job.log).stat().st_mtime - 1
    lines = list(status(plan, tmp_path, since))
    segments = len(plan.segments)
    assert lines[2].split() == ["segments", "1", "1", str(segments - 2)]
    assert lines[3].split() == ["energies", "0", "0", "1"]
    assert lines[-1] == f"running: {job.arguments[0].id}"
    # Later, or with no pipeline any more, that log is an old one.
    for then in (None, since + 2):
        assert list(status(plan, tmp_path, then))[2].split() == ["segments", "1", "0", str(segments - 1)]


def test_the_status_of_what_is_finished(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "missing", lambda plan, results: set())
    assert list(status(plan, tmp_path, None)) == ["small: everything is there."]
    assert {piece.rule for piece in pieces(plan)} == set(RULES) - {"data"}


def test_a_lock_is_held_by_a_process_that_wrote_it(tmp_path: Path) -> None:
    lock = tmp_path / "quick.lock"
    assert held_since(lock) is None
    lock.write_text(str(os.getpid()))
    assert held_since(lock) == lock.stat().st_mtime
    os.utime(lock, (1e9, 1e9))  # before this process began: it has the number of one that is gone
    assert held_since(lock) is None
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    lock.write_text(str(ended.pid))
    assert held_since(lock) is None


def test_the_end_says_what_was_made_what_holds_and_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    results = Path("results/small").resolve()
    write(tmp_path / ".snakemake" / "small.lock")
    figures = [f"figures/{file}" for file in ("x.pdf", "x.png", "y.pdf")]
    for file in ("segments/a/trajectory.nc", "segments/b/trajectory.nc", *figures, "report.html"):
        write(results / file)
    write(results / "claims.json", json.dumps([{"verdict": verdict} for verdict in ("holds", "holds", "not measured")]))
    os.utime(results / "segments/b/trajectory.nc", (1e9, 1e9))  # of an earlier run
    assert main(["summary", "--profile", "small"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "Made in 0:00: 1 segment, 2 figures and tables, claims, report",
        "Claims: 2 hold, 0 do not hold, 1 not measured (make claims)",
        f"Report: {results}/report.html; figures: {results}/figures",
    ]
    for path in results.rglob("*.*"):
        os.utime(path, (1e9, 1e9))
    assert main(["summary", "--profile", "small"]) == 0
    assert capsys.readouterr().out.splitlines() == ["Made: nothing new", *lines[1:]]
