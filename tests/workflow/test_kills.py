"""Killed again and again at random moments, the same command ends with what an undisturbed run makes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.covering import EXHAUSTIVE
from tests.workflow.project import Project, assert_same_results, assert_whole

# How many kills, and from when on: the stages in their order ("": before any job), by the names of their scripts.
# Three that write in different ways, each once; with EXHAUSTIVE=1 twenty kills in all of them, in some six minutes.
ROUNDS = 2 if EXHAUSTIVE else 1
KILLS = {"": 1, "segments": 1, "figures": 1}
KILLS |= {"data": 1, "segments": 3, "distances": 1, "figures": 2, "claims": 1, "report": 1} if EXHAUSTIVE else {}
MADE = {
    "": "segments/*/trajectory.nc",
    "data": "data/*",
    "segments": "segments/*/trajectory.nc",  # what is not needed with it would not be made again
    "distances": "distances/*",
    "figures": "figures/*",
    "claims": "claims.*",
    "report": "report.html",
}
TRIES = 5  # for each kill to find its stage running
WHOM = {"all": 6 if EXHAUSTIVE else 3, "engine": 2, "jobs": 2}  # whom SIGKILL takes, and how often
PATIENCE = 120.0


def running_jobs(process: subprocess.Popen[bytes]) -> dict[psutil.Process, str]:
    """The job processes of the pipeline, each with its stage (the name of its script)."""
    found = {}
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                script = "".join(child.cmdline()[-1:])  # none of one that has just ended
                if ".snakemake/scripts/" in script:
                    found[child] = Path(script).stem.rpartition(".")[2]
    return found


def kill(process: subprocess.Popen[bytes], whom: str) -> None:
    """SIGKILL to all of the pipeline, to its engine alone or to its jobs alone."""
    jobs = running_jobs(process)
    if whom == "jobs" and jobs:
        for job in jobs:
            with suppress(psutil.NoSuchProcess):
                job.kill()
    elif whom == "engine":
        for engine in psutil.Process(process.pid).children():
            engine.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(PATIENCE)
    psutil.wait_procs(list(jobs), timeout=PATIENCE)  # without their engine they end soon, or finish what they write


def remove_some(project: Project, chance: random.Random, stage: str) -> None:
    """Removes half of what a stage made (of any, for none), so that it has something to do, and to be killed at."""
    files = [p for p in project.results().rglob("*") if p.is_file() and p.match(MADE[stage])]
    for path in chance.sample(files, k=(len(files) + 1) // 2):
        path.unlink()


@pytest.fixture
def undisturbed(finished: Project) -> Project:
    return finished


def wait_for(stage: str, process: subprocess.Popen[bytes]) -> None:
    """Until a job of that stage runs, or the pipeline has ended; "" is before any."""
    while process.poll() is None and stage not in (set(running_jobs(process).values()) or {""}):
        time.sleep(0.02)


def wait_in(stage: str, process: subprocess.Popen[bytes], seconds: float) -> None:
    """So long, or until no job of the stage is left; before any job, until the first."""
    until = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < until:
        if stage not in (set(running_jobs(process).values()) or {""}):
            return
        time.sleep(0.02)


def seconds_of(undisturbed: Project, stage: str) -> float:
    """What the shortest job of that stage took, as the engine measured it; of the engine's own start, a guess."""
    files = (undisturbed.results() / "benchmarks" / stage).glob("*.tsv")
    return min((float(p.read_text().splitlines()[1].split("\t")[0]) for p in files), default=3.0)


def test_kills_at_random_moments(undisturbed: Project, tmp_path: Path) -> None:
    project, chance, output = undisturbed.copy(tmp_path), random.Random(1), tmp_path / "output.txt"
    turns = [stage for stage, times in KILLS.items() for _ in range(ROUNDS * times)]
    whom = chance.sample([name for name, times in WHOM.items() for _ in range(ROUNDS * times)], k=len(turns))
    hit: Counter[str] = Counter()
    killed = 0
    for stage, victim in zip(turns, whom, strict=True):
        for _ in range(TRIES):
            remove_some(project, chance, stage)
            process = project.start("tiny", output)
            wait_for(stage, process)
            wait_in(stage, process, chance.uniform(0.0, 1.0) * seconds_of(undisturbed, stage))
            if process.poll() is not None:  # it was quicker
                assert process.returncode == 0, output.read_text()
                continue
            running = set(running_jobs(process).values()) or {""}
            kill(process, victim)
            killed += 1
            assert_whole(project.results())
            if stage in running:
                hit[stage] += 1
                break
    print(f"{killed} kills; those that found their stage running:", dict(hit))
    missed = Counter(turns) - hit
    assert missed.total() <= ROUNDS, f"kills that never found their stage: {dict(missed)}"

    (project.results() / "figures/.loss.pdf.1.tmp").write_bytes(b"half")  # as of one killed while it wrote
    (project.results() / "report.html").unlink(missing_ok=True)
    project.reproduce()
    assert_same_results(undisturbed, project)
    assert [p for p in project.results().rglob(".*") if p.is_file()] == [], "temporary files are left"
    assert list((project.results() / "checkpoints").iterdir()) == []
    assert list((project.path / ".snakemake/locks").glob("*")) == []
