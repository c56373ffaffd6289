"""The run command: what the workflow would train and measure, without it, and what the workflow makes of that."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

import psutil
import pytest
import torch
import xarray as xr

from analysis.execution.locks import only_pipeline
from analysis.measurement.energies import energies_along
from analysis.plan.join import load_plan
from analysis.plan.part import chosen
from analysis.store.netcdf import PROVENANCE, read_dataset
from analysis.training.problem import make_problem
from sharpflat.errors import InputError
from tests.covering import some
from tests.workflow.project import CHEAP, CONFIG, STOPPED, Project, assert_same_results, assert_whole
from tests.workflow.test_interruption import PATIENCE, says, wait_until

# What only the workflow needs, or a machine for training may lack
WITHOUT = """
import sys
class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("snakemake", "psutil", "matplotlib", "seaborn", "jinja2", "torchvision"):
            raise ImportError(f"{name} is not to be imported")
sys.meta_path.insert(0, Refused())
from analysis.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project.of_sources(tmp_path)


def command(*options: str, profile: str = "tiny") -> list[str]:
    return [sys.executable, "-m", "analysis", "run", "--profile", profile, *options]


def run(project: Project, *options: str, start: list[str] | None = None) -> subprocess.CompletedProcess[str]:
    """The run command to its end; standard error is in `stdout` too."""
    return subprocess.run(
        [*(start or command()), *options],
        cwd=project.path,
        env=project.environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=300,
        check=False,
    )


def test_what_it_leaves_is_what_the_workflow_leaves(project: Project, finished: Project) -> None:
    part = run(project, "--only", "apart", start=[sys.executable, "-c", WITHOUT, "run", "--profile", "tiny"])
    assert part.returncode == 0, part.stdout
    left = project.named(project.would_run())
    assert left == {"dom-sgd", "bulk-sgd", "late-gd", *CHEAP}, "the figure's segments, data and distances are there"
    rest = run(project, "--jobs", "2")
    assert rest.returncode == 0, rest.stdout
    assert_whole(project.results())
    assert project.dry_run() == CHEAP
    assert_same_results(project, finished, "data", "distances", "segments")
    again = run(project)
    assert (again.returncode, again.stdout) == (0, "Everything is there.\n")


def test_energies_and_a_family_in_several_processes(project: Project) -> None:
    """Two workers, whose tasks wait for each other's files."""
    done = run(project, "--jobs", "2", "--only", "curvature", start=command(profile="families"))
    assert done.returncode == 0, done.stdout
    plan = project.plan("families")
    assert not [job for job in project.would_run("families") if job.startswith("energies")]
    assert plan.energies
    assert len(plan.energies) > 1, "in one job"
    results, threads = project.results("families"), torch.get_num_threads()
    torch.set_num_threads(1)  # as a job has: another number rounds otherwise
    for trajectory in results.glob("segments/*/trajectory.nc"):
        assert '"device": "cpu"' in read_dataset(trajectory).attrs[PROVENANCE]
    for energies in plan.energies.values():
        found = read_dataset(results / energies.file)
        assert '"device": "cpu"' in found.attrs[PROVENANCE]
        assert found.attrs["id"] == energies.id
        train, test = (read_dataset(results / "data" / f"{subset}.nc") for subset in energies.subsets)
        problem = make_problem(energies.spec.problem, train, test, energies.spec.seed, "cpu")
        expected = energies_along(energies.spec, problem, read_dataset(results / energies.input))
        xr.testing.assert_equal(found, expected)
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("jobs", "way"),  # Ctrl-C goes to all processes, SIGTERM to the one that may have workers
    some([("1", "SIGTERM"), ("2", "Ctrl-C")], product("12", ["SIGTERM", "Ctrl-C"])),
)
def test_asked_to_stop_it_ends_soon_and_continues(project: Project, tmp_path: Path, jobs: str, way: str) -> None:
    (segment,) = project.plan("long").segments.values()
    results = project.results("long")
    log = results / "logs" / "segments" / f"{segment.id}.log"
    output = tmp_path / "output.txt"
    running = start(project, output, jobs)
    wait_until(lambda: says(log, "begins at"), running, output)
    time.sleep(0.2)
    begun = time.monotonic()
    if way == "Ctrl-C":
        os.killpg(running.pid, signal.SIGINT)
    else:
        running.terminate()
    assert running.wait(PATIENCE) == 130
    seconds = time.monotonic() - begun
    print(f"{way}, {jobs} jobs: {seconds:.1f} s")
    assert seconds < 5
    said = output.read_text()
    assert f"{segment.id}: interrupted at step " in said
    assert STOPPED in said
    assert "Traceback" not in said
    assert (results / "checkpoints" / f"{segment.id}.safetensors").exists()
    again = start(project, output, jobs)
    assert again.wait(PATIENCE) == 0
    assert "continues from its checkpoint at step " in log.read_text()
    assert segment.id not in project.would_run("long")


def start(project: Project, output: Path, jobs: str) -> subprocess.Popen[bytes]:
    with output.open("wb") as file:
        return subprocess.Popen(
            command("--jobs", jobs, profile="long"),
            cwd=project.path,
            env=project.environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def test_killed_it_leaves_no_process_behind(project: Project, tmp_path: Path) -> None:
    (segment,) = project.plan("long").segments.values()
    log = project.results("long") / "logs" / "segments" / f"{segment.id}.log"
    output = tmp_path / "output.txt"
    running = start(project, output, "2")
    wait_until(lambda: says(log, "begins at"), running, output)
    workers = psutil.Process(running.pid).children(recursive=True)
    assert len(workers) >= 2, "working processes, an idle one, and those that multiprocessing starts in addition"
    running.kill()
    running.wait()
    assert psutil.wait_procs(workers, timeout=20)[1] == []
    assert f"{segment.id}: interrupted at step " in output.read_text()


def test_one_pipeline_at_a_time(project: Project) -> None:
    held = only_pipeline(project.path / ".snakemake" / "tiny.lock")
    try:
        for refused in (run(project), project.run()):
            assert refused.returncode != 0
            assert f"Error: another pipeline runs in this folder (process {os.getpid()})" in refused.stdout
    finally:
        os.close(held)


def test_a_job_that_fails_ends_it(project: Project) -> None:
    for jobs in ("1", "2"):
        done = run(project, "--device", "cuda:99", "--jobs", jobs)
        assert done.returncode == 1
        assert "Error: device: found 'cuda:99'; torch finds here: cpu" in done.stdout
        assert STOPPED in done.stdout
        assert "Traceback" not in done.stdout
        assert list(project.results().glob("segments/*/*")) == []


# ---------------------------------------------------------------- names
def test_what_can_be_asked_for() -> None:
    plan = load_plan("tiny", CONFIG)
    sgd, warm_up = plan.runs["mlp", "sgd"][::-1]
    for name in ("sgd", "mlp.sgd", sgd, "spectrum"):
        assert list(chosen(plan, [name]).segments) == [warm_up, sgd], name
    assert (
        chosen(plan, ["song-lowrank"]).segments == chosen(plan, ["lowrank"]).segments == chosen(plan, ["sgd"]).segments
    )
    both = chosen(plan, ["warm-up", "rates"])
    assert set(both.segments) == {warm_up, plan.runs["mlp", "adam"][-1]}
    assert not both.distances
    assert list(chosen(plan, ["apart"]).distances) == list(plan.distances)
    assert chosen(plan, []) is plan
    families = load_plan("families", CONFIG)
    assert set(chosen(families, ["held-start"]).segments) == {
        m.path[-1] for m in families.families["held", "held-start"]
    }


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("spectrun", "profile tiny has no figure, claim or segment 'spectrun'; did you mean \"spectrum\"\\? allowed: "),
        ("long-run", "profile tiny has no figure, claim or segment 'long-run'"),
        ("zs-grid-loss", "profile tiny has no figure, claim or segment 'zs-grid-loss'"),
    ],
)
def test_what_cannot(name: str, message: str) -> None:
    with pytest.raises(InputError, match=f"^--only: {message}"):
        chosen(load_plan("tiny", CONFIG), [name])


def test_short_names_of_the_papers_figures() -> None:
    plan = load_plan("quick")
    assert chosen(plan, ["fig01"]).segments == chosen(plan, ["song-fig01"]).segments
    with pytest.raises(InputError, match="--only: 'fig05' may be song-fig05 or zs-fig05"):
        chosen(plan, ["fig05"])


# ---------------------------------------------------------------- the workflow's profile for GPUs
def test_without_a_gpu_its_profile_says_so(project: Project) -> None:
    done = project.run(WORKFLOW="gpu", CUDA_VISIBLE_DEVICES="")
    assert done.returncode != 0
    assert "Error: no GPU: torch finds no CUDA device here; on this machine" in done.stdout
    assert "WORKFLOW=local" in done.stdout
    assert "Traceback" not in done.stdout
    assert list(project.results().glob("segments/*/*")) == []
