"""The true workflow on a true Slurm of one node (tests/workflow/slurm.py)."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from analysis.plan.missing import batches
from tests.workflow.project import ROOT, STOPPED, Project, assert_same_results
from tests.workflow.slurm import CannotStart, Slurm, slurm

# Training should use the CPU. Only the request in `gres` is passed to Slurm.
STAGES = """
stages:
  segments: {mem_mb: 1100, runtime: 5, gpu: 0, gres: "gpu:1"}
  energies: {mem_mb: 1200, runtime: 5, gpu: 0}
"""
FLAGS = "--slurm-status-command squeue --slurm-init-seconds-before-status-checks 1 --latency-wait 10"
PATIENCE = 200.0  # the engine checks its jobs less and less often: after 1, 12, 33, 64 seconds…
needs_plugin = pytest.mark.skipif(
    not (ROOT / ".slurm/.installed").exists(), reason="the plugin for Slurm is not installed: make slurm"
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Slurm]:
    try:
        with slurm() as started:
            yield started
    except CannotStart as error:
        pytest.skip(str(error))


def project_of(parent: Path) -> Project:
    """The sources; the tiny profile has the setting of the profile `long` too."""
    project = Project.of_sources(parent)
    (project.path / ".slurm").symlink_to(ROOT / ".slurm")
    (project.path / "workflow/profiles/slurm/stages.yaml").write_text(STAGES)
    tiny, long = (project.path / "workflow/config" / f"{name}.yaml" for name in ("tiny", "long"))
    tiny.write_text(tiny.read_text() + long.read_text().partition("settings:\n")[2])
    return project


def command(project: Project) -> list[str]:
    return [*project.command(flags=FLAGS), "-o", ".slurm/.installed", "WORKFLOW=slurm"]


def start(project: Project, cluster: Slurm, output: Path) -> subprocess.Popen[bytes]:
    with output.open("wb") as file:
        return subprocess.Popen(
            command(project),
            cwd=project.path,
            env=project.environment | cluster.environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def wait_until(happened: Callable[[], object], engine: subprocess.Popen[bytes], output: Path) -> None:
    end = time.monotonic() + PATIENCE
    while not happened():
        assert engine.poll() is None, f"ended too early:\n{output.read_text()}"
        assert time.monotonic() < end, f"waited too long:\n{output.read_text()}"
        time.sleep(0.05)


@needs_plugin
def test_cancelled_and_resumed_on_a_cluster_ends_as_an_undisturbed_local_run(cluster: Slurm, tmp_path: Path) -> None:
    project = project_of(tmp_path / "cluster")
    (batch,) = batches(project.plan(), project.plan().segments)  # small siblings, then a long one
    long = batch.segments[-1]
    log = project.results() / "logs/segments" / f"{batch.name}.log"
    checkpoint = project.results() / "checkpoints" / f"{long.id}.safetensors"

    def says(text: str) -> bool:
        return log.exists() and text in log.read_text()

    def jobs_of(output: Path) -> list[str]:
        """Slurm's ids of the jobs, in the order in which they were submitted."""
        return re.findall(r"SLURM jobid (\d+) ", output.read_text())

    # Stopped: its jobs are cancelled, and leave their checkpoints.
    output = tmp_path / "stopped.txt"
    engine = start(project, cluster, output)
    try:
        wait_until(lambda: says(f"{long.id}: begins at"), engine, output)
        first = cluster.details(jobs_of(output)[0])
        engine.terminate()
        assert engine.wait(PATIENCE) != 0
    finally:
        engine.kill()
    assert STOPPED in output.read_text()
    end = time.monotonic() + 30
    while cluster.jobs() and time.monotonic() < end:
        time.sleep(0.1)
    assert cluster.jobs() == []
    assert says(f"{long.id}: interrupted at step ")
    assert checkpoint.exists()
    assert not (project.results() / "segments" / long.id / "trajectory.nc").exists()
    assert first["MinMemoryNode"] == "1100M"
    assert first["TimeLimit"] == "00:05:00"
    assert "gpu:1" in first["TresPerNode"]

    undisturbed, local_output = project_of(tmp_path / "local"), tmp_path / "local.txt"
    local = undisturbed.start("tiny", local_output)

    # The same command continues. One job is cancelled in the middle, and the engine submits it again with more
    # resources.
    output = tmp_path / "resumed.txt"
    log.unlink()
    engine = start(project, cluster, output)
    try:
        wait_until(lambda: says(f"{long.id}: continues from its checkpoint"), engine, output)
        cluster.ask("scancel", jobs_of(output)[0])
        wait_until(lambda: len(jobs_of(output)) == 2, engine, output)
        second = cluster.details(jobs_of(output)[1])
        assert engine.wait(PATIENCE) == 0, output.read_text()
    finally:
        engine.kill()
    assert second["MinMemoryNode"] == "2200M"
    assert second["TimeLimit"] == "00:10:00"
    assert says(f"{long.id}: continues from its checkpoint")
    assert " at step 0" not in log.read_text()
    assert len(jobs_of(output)) == 2, "everything except training runs on the engine's node"

    assert local.wait(PATIENCE) == 0, local_output.read_text()
    assert_same_results(undisturbed, project)


def test_a_job_finds_the_rules_of_its_engine_whatever_has_been_made_since(tmp_path: Path) -> None:
    project = Project.of_sources(tmp_path)
    plan = project.plan()
    files = [file for segment in plan.segments.values() for file in segment.files]
    (batch,) = batches(plan, plan.segments)
    for file in files:
        (project.results() / file).parent.mkdir(parents=True, exist_ok=True)
        (project.results() / file).touch()

    at_start = project.results() / "logs/at-start.json"
    at_start.parent.mkdir()
    at_start.write_text(json.dumps([files, [], []]))

    def trainers(mode: str) -> list[str]:
        listed = subprocess.run(
            [sys.executable, "-m", "snakemake", "--config", "profile=tiny", "--list-rules", "--mode", mode],
            cwd=project.path,
            env=project.environment,
            text=True,
            capture_output=True,
            timeout=PATIENCE,
            check=True,
        )
        return [rule for rule in listed.stdout.split() if rule.startswith("segments-")]

    assert trainers("default") == []
    assert trainers("remote") == [f"segments-{batch.name}"]


@needs_plugin
def test_a_machine_without_slurm_is_told_in_one_line(tmp_path: Path) -> None:
    project, path = project_of(tmp_path), tmp_path / "path"
    path.mkdir()
    for folder in os.environ["PATH"].split(os.pathsep):
        for file in Path(folder).glob("*"):
            if file.name != "sbatch" and not (path / file.name).is_symlink():
                (path / file.name).symlink_to(file)
    done = subprocess.run(
        command(project),
        cwd=project.path,
        env=project.environment | {"PATH": str(path)},
        text=True,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode != 0
    assert (
        "Error: there is no Slurm here (no sbatch in PATH). Run it on a login node, or with WORKFLOW=local."
    ) in done.stderr.splitlines()
    assert not (project.path / "results").exists()


@pytest.mark.parametrize("wrong", ["slrum", "", "local slurm", "."])
def test_an_unknown_workflow_is_told_in_one_line(tmp_path: Path, wrong: str) -> None:
    project = Project.of_sources(tmp_path)
    done = project.run("dry-run", before=["env", f"WORKFLOW={wrong}"])
    assert done.returncode != 0
    (line,) = done.stdout.splitlines()
    assert f"WORKFLOW: found '{wrong}'; allowed: " in line
    assert "local slurm" in line


def test_a_mistake_in_the_table_of_stages_stops_everything(tmp_path: Path) -> None:
    project = Project.of_sources(tmp_path)
    (project.path / "stages.yaml").write_text("stages: {segmnts: {mem_mb: 100}}")
    done = project.run(flags="--configfile stages.yaml")
    assert done.returncode != 0
    assert 'Error: stages: segmnts: unknown key; did you mean "segments"?' in done.stdout
    assert not (project.path / "results").exists()
