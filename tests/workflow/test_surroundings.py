"""Copies, paths, locks and options: the workflow works, or one line names the cause and the remedy."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.covering import some
from tests.workflow.project import Project, jobs
from tests.workflow.test_interruption import wait_until

ENGINE = [sys.executable, "-m", "snakemake", "--workflow-profile", "workflow/profiles/local"]
LOUD = ("Traceback", "Exception", "snakemake/")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project.of_sources(tmp_path_factory.mktemp("sources"))


def engine(project: Project, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The engine by hand."""
    return subprocess.run(
        [*ENGINE, *words],
        cwd=project.path,
        env=project.environment | variables,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=300,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # as from a terminal
    )


def in_one_line(done: subprocess.CompletedProcess[str], *texts: str) -> None:
    """It failed, with one line of ours."""
    assert done.returncode != 0, done.stdout
    (line,) = [line for line in done.stdout.splitlines() if "Error" in line and not line.startswith("make: ")]
    for text in texts:
        assert text in line, done.stdout
    assert not any(loud in done.stdout for loud in LOUD), done.stdout


# ---------------------------------------------------------------- copies
def test_a_copy_plans_and_runs_its_own(project: Project, tmp_path: Path) -> None:
    """Also where PYTHONPATH names the project it was copied from, or a foreign package of the same name."""
    copy = project.copy(tmp_path / "copied")
    copy.edit("workflow/config/tiny.yaml", "late-gd: {steps: 4}", "late-gd: {steps: 5}")
    foreign = tmp_path / "foreign"
    (foreign / "analysis").mkdir(parents=True)
    (foreign / "analysis" / "__init__.py").touch()
    new = copy.plan().runs["mlp", "late-gd"][-1]
    for first, second in some([(project.path, foreign)], [(project.path, foreign), (foreign, project.path)]):
        done = engine(copy, "--dry-run", "--config", "profile=tiny", PYTHONPATH=f"{first}:{second}")
        assert new in jobs(done.stdout), done.stdout
    assert new in jobs(copy.run("dry-run", PYTHONPATH=f"{foreign}:{project.path}").stdout)


def test_by_hand_jobs_import_the_code_of_this_folder(sources: Project, tmp_path: Path) -> None:
    """Where what the environment leads to first is another package. (One job: data sets.)

    HDF5 takes no locks there. A job ignores Ctrl-C until it answers it by itself. What the engine found missing is left
    for a cluster's jobs.
    """
    project, foreign = sources.copy(tmp_path), tmp_path / "foreign"
    (foreign / "analysis").mkdir(parents=True)
    (foreign / "analysis" / "__init__.py").touch()
    script = project.path / "workflow" / "scripts" / "data.py"
    checks = "import os, signal\nassert signal.getsignal(signal.SIGINT) is signal.SIG_IGN\n"
    checks += 'assert os.environ["HDF5_USE_FILE_LOCKING"] == "FALSE"\n'
    script.write_text(checks + script.read_text())
    (file, *_) = (f"results/tiny/data/{subset}.nc" for subset in project.plan().subsets)
    done = engine(project, file, "--config", "profile=tiny", PYTHONPATH=f"{foreign}:{project.path}", PYTHONSAFEPATH="1")
    assert done.returncode == 0, done.stdout
    assert (project.path / file).is_file()
    assert file.removeprefix("results/tiny/") in (project.results() / "logs" / "at-start.json").read_text()


@pytest.mark.parametrize("package", ["analysis", "sharpflat"])
def test_a_package_that_comes_before_ours_is_refused(package: str, sources: Project, tmp_path: Path) -> None:
    """As the finder of an editable installation can."""
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").touch()
    (tmp_path / "sitecustomize.py").write_text(
        f"import sys, importlib.util\nclass First:\n    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {package!r}:\n            return importlib.util.spec_from_file_location(name, "
        f"{str(tmp_path / package / '__init__.py')!r})\nsys.meta_path.insert(0, First())\n"
    )
    done = engine(sources, "--dry-run", "--config", "profile=tiny", PYTHONPATH=str(tmp_path))
    in_one_line(done, f"{package}: would be imported from {tmp_path}/{package}/__init__.py", "unset PYTHONPATH")


def test_an_old_engine_is_refused(sources: Project, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import snakemake.common\nsnakemake.common.__version__ = '9.26.0'\n")
    done = engine(sources, "--dry-run", "--config", "profile=tiny", PYTHONPATH=str(tmp_path))
    assert done.returncode != 0
    assert "Expecting Snakemake version 9.27 or higher (you are currently using 9.26.0)." in done.stdout


def test_code_that_is_edited_while_the_run_waits_is_not_run(sources: Project, tmp_path: Path) -> None:
    """Here a job edits what the next one would run."""
    project = sources.copy(tmp_path)
    script = project.path / "workflow" / "scripts" / "data.py"
    module = project.path / "analysis" / "training" / "batch.py"
    edit = f"\nfrom pathlib import Path\np = Path({str(module)!r})\n"
    edit += 'p.write_text(p.read_text() + "\\n\\ndef more():\\n    return 1\\n")\n'
    edit += 'p.write_text(p.read_text().replace("def train_batch(", "@lambda f: f\\ndef train_batch(", 1))\n'
    script.write_text(script.read_text() + edit)
    done = project.run()
    assert done.returncode != 0
    assert "is not the code with which this run was planned" in done.stdout
    assert not list(project.results().glob("segments/*/trajectory.nc"))


# ---------------------------------------------------------------- paths
def test_any_name_of_the_folder(sources: Project, tmp_path: Path) -> None:
    """With an interpreter in that folder: its path goes through a shell. (One job: data sets.)"""
    project = Project(tmp_path / """it's a "b" (c) & {d} $e #f;""")
    os.rename(sources.copy(tmp_path / "copy").path, project.path)
    (project.path / ".venv").symlink_to(Path(sys.executable).parents[1])
    (file, *_) = (f"results/tiny/data/{subset}.nc" for subset in project.plan().subsets)
    done = subprocess.run(
        ["make", "--no-print-directory", "-o", ".venv/.installed", "PROFILE=tiny", f"FLAGS={file}", "reproduce"],
        cwd=project.path,
        env=project.environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert (project.path / file).is_file()
    assert f"Report: {project.path}/results/tiny/report.html" in done.stdout


def test_a_colon_in_the_name_of_the_folder_is_refused(sources: Project, tmp_path: Path) -> None:
    project = Project(tmp_path / "a:b")
    os.rename(sources.copy(tmp_path / "copy").path, project.path)
    in_one_line(project.run("dry-run"), f"{project.path}: the path of this folder has a ':'; rename the folder")


def test_an_environment_that_was_made_elsewhere_is_made_anew(sources: Project, tmp_path: Path) -> None:
    """Moved or copied, or of another Python. What would be done is enough: nothing is installed here."""
    project = sources.copy(tmp_path)
    (project.path / "requirements.lock").touch()
    binaries = project.path / ".venv" / "bin"
    binaries.mkdir(parents=True)
    (binaries / "python").symlink_to(sys.executable)
    stamp = project.path / ".venv" / ".installed"

    def installs() -> bool:
        shown = subprocess.run(
            ["make", "-n", "install"], cwd=project.path, env=project.environment, capture_output=True, text=True
        )
        assert shown.returncode == 0, shown.stderr
        return "-m venv --clear .venv" in shown.stdout

    assert installs(), "there is no stamp"
    made = f"{project.path} {sys.version}"
    for content, expected in ((made, False), ("", True), (f"/elsewhere {sys.version}", True), (f"{made}x", True)):
        stamp.write_text(f"{content}\n")
        assert installs() is expected, content
    stamp.write_text(f"{made}\n")
    (binaries / "python").unlink()
    (binaries / "python").symlink_to("/nowhere/python")
    assert installs(), "its Python is gone"


def test_an_old_python_is_refused_before_anything_is_made(sources: Project, tmp_path: Path) -> None:
    project, old = sources.copy(tmp_path), tmp_path / "python"
    (project.path / "requirements.lock").touch()
    pretend = "import sys; sys.version_info = (3, 10, 9); sys.version = '3.10.9 (main)'; exec(sys.argv[1])"
    old.write_text(f'#!/bin/sh\n[ "$1" = -c ] && exec "{sys.executable}" -c "{pretend}" "$2"\necho went on; exit 1\n')
    old.chmod(0o755)
    words = ["make", "--no-print-directory", f"PYTHON={old}", "install"]
    done = subprocess.run(words, cwd=project.path, env=project.environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "Python 3.11 or newer is needed; found 3.10.9. Set PYTHON=" in done.stderr
    assert "went on" not in done.stdout


# ---------------------------------------------------------------- locks, caches
def test_no_pipeline_beside_one_that_was_started_by_hand(sources: Project, tmp_path: Path) -> None:
    """Neither `make` nor another by hand, nor with the engine's own lock taken away; looking is allowed."""
    project, output = sources.copy(tmp_path), tmp_path / "output.txt"
    with output.open("wb") as file:
        running = subprocess.Popen(
            [*ENGINE, "--config", "profile=long"],
            cwd=project.path,
            env=project.environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until((project.path / ".snakemake" / "long.lock").exists, running, output)
        time.sleep(0.5)
        refusal = f"another pipeline runs in this folder (process {running.pid})"
        in_one_line(project.run(profile="long"), refusal)
        in_one_line(engine(project, "--nolock", "--config", "profile=long"), refusal)
        assert engine(project, "--dry-run", "--nolock", "--config", "profile=long").returncode == 0
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()


def test_a_home_that_cannot_be_written(sources: Project) -> None:
    done = sources.run("dry-run", HOME="/proc/none", XDG_CACHE_HOME="/dev/null/x")
    assert done.returncode == 0, done.stdout
    assert (sources.path / ".snakemake" / "cache").is_dir()


# ---------------------------------------------------------------- options
OPTIONS = [
    (["--config", "profil=tiny"], '--config: profil: unknown key; did you mean "profile"?'),
    (["claims", "--config", "profile=long"], "claims: profile long has none"),
    (["--force", "--config", "profile=tiny"], "--force needs a target to make again"),
    (["--config", "profile=tiny", "seed=3"], "--config: seed: unknown key; allowed: profile, results"),
    (["distances", "--config", "profile=long"], "distances: profile long has none"),
    (["--config", "profile=tiny", "force=losss"], "FORCE: profile tiny has no figure, claim or segment 'losss'; d"),
]


@pytest.mark.parametrize(
    ("words", "said"),
    some(OPTIONS[:3], OPTIONS),
)
def test_options_that_would_count_for_nothing(words: list[str], said: str, sources: Project) -> None:
    in_one_line(engine(sources, "--dry-run", *words), said)


def test_variables_of_make_that_would_count_for_nothing(sources: Project) -> None:
    done = subprocess.run(["make", "PROFIL=laptop", "help"], cwd=sources.path, capture_output=True, text=True)
    assert done.returncode != 0
    assert "PROFIL: not a variable of this Makefile; allowed: PROFILE" in done.stderr


def test_without_a_profile_of_the_workflow_the_remedy_is_the_engines(project: Project) -> None:
    late = project.plan().runs["mlp", "late-gd"][-1]
    trajectory = f"results/tiny/segments/{late}/trajectory.nc"
    (project.path / trajectory).unlink()
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "-j1", trajectory, "--config", "profile=tiny"],
        cwd=project.path,
        env=project.environment | {"CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "torch finds no CUDA device here; on this machine, give snakemake --workflow-profile" in done.stderr


def test_what_is_there_by_name_and_made_again(project: Project) -> None:
    """By the names of rules, jobs and files; forced with the engine's words, or ours."""
    done = engine(project, "--dry-run", "--until", "claims", "results/tiny/report.html", "--config", "profile=tiny")
    assert "Nothing to be done" in done.stdout, done.stdout
    for words, made in (
        (["--forcerun", "report", "claims-tiny"], ["claims", "report"]),
        (["-f", "results/tiny/figures/loss.png"], ["figure loss"]),
    ):
        done = engine(project, "--dry-run", *words, "--config", "profile=tiny")
        assert jobs(done.stdout) == made, done.stdout
    done = engine(project, "--dry-run", "--config", "profile=tiny", "force=data loss")
    assert {name.split()[0] for name in jobs(done.stdout)} == {"data", "figure"}
    before, late = project.times(), project.plan().runs["mlp", "late-gd"][-1]
    done = project.run(FORCE="loss report late-gd")
    assert done.returncode == 0, done.stdout
    assert jobs(done.stdout) == sorted(["figure loss", "report", late])
    after = project.times()
    made = {name for name in after if after[name] != before[name]}
    assert made == {
        "figures/loss.pdf",
        "figures/loss.png",
        "report.html",
        *(f"segments/{late}/{name}" for name in ("trajectory.nc", "state.safetensors")),
    }
    assert project.would_run() == []
    again = engine(project, "--dry-run", "--config", "profile=tiny", "force=loss")
    assert jobs(again.stdout) == ["figure loss"], "as often as one likes"


# ---------------------------------------------------------------- file systems
SHIM = """
#include <errno.h>
int flock(int file, int operation) { errno = ENOLCK; return -1; }
"""


def test_a_file_system_without_locks(project: Project, tmp_path: Path) -> None:
    """`flock` says ENOLCK everywhere, to HDF5 too: every dataset is read, and no message says to delete one."""
    shim = tmp_path / "shim.so"
    (tmp_path / "shim.c").write_text(SHIM)
    compiled = subprocess.run(["cc", "-shared", "-fPIC", "-o", shim, tmp_path / "shim.c"], check=False)
    if compiled.returncode:
        pytest.skip("no compiler")
    page = project.results() / "figures" / "travelled.pdf"
    page.unlink()
    words = [sys.executable, "-m", "analysis", "verify", "--profile", "tiny"]
    done = subprocess.run(
        words, cwd=project.path, env=project.environment | {"LD_PRELOAD": str(shim)}, capture_output=True, text=True
    )
    assert "delete" not in done.stderr
    assert "figures/travelled.pdf: cannot be read" in done.stderr, "the one that is gone"
    assert done.stderr.count("Error") == 1


def test_verify_finds_a_trajectory_that_was_cut(project: Project) -> None:
    done = project.run("verify")
    assert done.returncode == 0, done.stdout
    path = project.results() / project.plan().segments[project.plan().runs["mlp", "sgd"][-1]].trajectory
    path.write_bytes(path.read_bytes()[:-200])
    done = project.run("verify")
    in_one_line(done, f"{path.relative_to(project.path)}: is no readable netCDF file", "delete it and run again")
