"""Files, disks and surroundings that are not as they should be: a clear error or a right result, never a wrong one.

Elsewhere: each damage of an archive (test_archive), files cut short or of another kind and every flipped bit
(tests/unit/test_store), data sets (tests/unit/test_data_files), two pipelines in a folder, an unwritable results folder
(test_interruption), times of finished results (test_workflow).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.covering import some
from tests.workflow.project import ASCII, STOPPED, Project, assert_same_results, assert_whole, jobs

AGAIN = "delete it and run again"


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-len(content) // 3] ^= 4
    path.write_bytes(content)


def assert_nothing_temporary(project: Project) -> None:
    assert [p for p in project.results().rglob(".*") if p.is_file()] == [], "temporary files are left"


def assert_recovered(project: Project, other: Project) -> None:
    assert_same_results(project, other)
    assert_nothing_temporary(project)


def refused(project: Project, *texts: str) -> None:
    done = project.run()
    assert done.returncode != 0, done.stdout
    for text in (*texts, STOPPED):
        assert text in done.stdout
    assert "Traceback" not in done.stdout


def test_a_flipped_bit_is_told_and_what_is_deleted_comes_back(finished: Project, project: Project) -> None:
    """In a parent's state, when something is to be made from it. (tests/unit/test_store has the other files.)"""
    plan, results = project.plan(), project.results()
    warm_up, sgd = plan.runs["mlp", "sgd"]
    state = plan.segments[warm_up].state
    (results / plan.segments[sgd].trajectory).unlink()
    flip_a_bit(results / state)
    refused(project, f"Error: results/tiny/{state}: is no readable safetensors file (its content does not have", AGAIN)
    for file in (state, *(f"data/{subset}.nc" for subset in plan.subsets)):
        (results / file).unlink()
    assert {warm_up, sgd} <= set(project.reproduce()), "also a parent whose state is missing"
    assert_recovered(project, finished)


def test_a_flipped_bit_in_what_is_drawn_or_judged_is_mended(finished: Project, project: Project) -> None:
    """In a figure, a table, the verdicts, the report and a record; and no other is made again."""
    files = {
        "figures/loss.pdf": "figure loss",
        "figures/travelled.png": "figure travelled",
        "figures/rates.csv": "figure rates",
        "claims.json": "claims",
        "report.html": "report",
        project.plan().figures["apart"].record: "figure apart",
    }
    for file in files:
        flip_a_bit(project.results() / file)
    shutil.rmtree(project.path / ".snakemake")
    before = project.times()
    assert project.dry_run() == sorted(files.values())
    assert project.times() == before, "a dry run changes nothing"
    assert jobs(project.run("claims").stdout) == ["claims"]
    assert project.reproduce() == sorted({*files.values()} - {"claims"})
    after, figures = project.times(), project.plan().figures
    written = {file for name in ("loss", "travelled", "rates", "apart") for file in figures[name].files}
    assert {n for n in after if after[n] != before[n]} == written | {"claims.json", "claims.csv", "report.html"}
    assert_recovered(project, finished)
    assert (project.results() / "report.html").read_bytes() == (finished.results() / "report.html").read_bytes()
    assert project.would_run() == []


@pytest.mark.parametrize("file", some(["claims.json"], ["figures/loss.png", "claims.json"]))
def test_no_report_shows_what_is_damaged(project: Project, file: str) -> None:
    """Also if it is damaged after the plan was made: here a job of the report meets it."""
    page = project.results() / "report.html"
    page.unlink()
    project.edit("workflow/scripts/report.py", "    report(planned", DAMAGING.format(file=file) + "    report(planned")
    refused(project, f"Error: results/tiny/{file}: has SHA-256", "which differs from its record", "run again")
    assert not page.exists()


DAMAGING = """    from pathlib import Path

    _path = Path("results/tiny/{file}")
    _path.write_bytes(_path.read_bytes()[:-20] + bytes(20))
"""


# ---------------------------------------------------------------- disks and locale
@pytest.fixture
def small_disk(finished: Project, tmp_path: Path) -> Iterator[tuple[Project, Path]]:
    """The sources, and results on a disk with room for the data sets and hardly more."""
    project = Project.of_sources(tmp_path / "a longer path")
    disk = project.path / "results"
    disk.mkdir()
    size = sum(p.stat().st_size for p in (finished.results() / "data").iterdir()) + 100_000
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield project, disk
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_full_disk_and_one_that_is_read_only(finished: Project, small_disk: tuple[Project, Path]) -> None:
    """In another clone and in a locale without Unicode, where the results are the same (test_archive has figures)."""
    project, disk = small_disk
    assert not str(project.path).isascii()
    done = project.run(**ASCII)
    assert done.returncode != 0
    assert "cannot be written (" in done.stdout
    assert "the folder must exist, be writable and have free space" in done.stdout
    assert STOPPED in done.stdout
    assert_whole(project.results())

    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    done = project.run()
    assert done.returncode != 0
    assert "is not a writable folder" in done.stdout
    assert "Traceback" not in done.stdout

    subprocess.run(["mount", "-o", "remount,rw,size=50m", disk], check=True)
    project.reproduce(flags="segments distances", **ASCII)
    assert_same_results(project, finished, "data", "segments", "distances")
    assert_nothing_temporary(project)


def test_a_file_where_a_folder_of_results_should_be(project: Project) -> None:
    shutil.rmtree(project.results() / "figures")
    (project.results() / "figures").write_text("no folder")
    done = project.run()
    assert done.returncode != 0
    assert "results/tiny/figures" in done.stdout
    assert (project.results() / "figures").read_text() == "no folder"


# ---------------------------------------------------------------- clock
@pytest.mark.parametrize("days", some([4000], [-4000, 4000]))  # the future is the harder one
def test_a_clock_that_jumps(finished: Project, project: Project, days: int) -> None:
    """What was made before has times of long ago, or of the future; then parts of it are made again, now."""
    for path in project.path.rglob("*"):
        found = path.stat().st_mtime + days * 86400
        os.utime(path, (found, found))
    late = project.plan().runs["mlp", "late-gd"][-1]
    shutil.rmtree(project.results() / "segments" / late)
    (project.results() / "figures/rates.pdf").unlink()
    ran = project.reproduce()
    assert {late, "figure rates"} <= set(ran)
    assert_recovered(project, finished)
    assert project.reproduce() == []
