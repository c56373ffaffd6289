"""Families and the curvature stage in the true workflow: one changed cell is one cell's work, and no other number of
random vectors ever trains."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.plan.plan import Plan
from tests.workflow.project import Project, assert_same_dataset

PROFILE = "families"
NUMBERS = f"workflow/config/{PROFILE}.yaml"


@pytest.fixture(scope="session")
def finished(once: Callable[[str, Callable[[Path], Project]], Project]) -> Project:
    """A finished run of this profile. Nobody changes it."""

    def make(folder: Path) -> Project:
        project = Project.of_sources(folder)
        plan = project.plan(PROFILE)
        data, energies = (f"data {s}" for s in plan.subsets), (f"energies {e}" for e in plan.energies)
        cheap = ["claims", "figure cells", "figure curvature", "report"]
        assert project.reproduce(profile=PROFILE) == sorted([*plan.segments, *data, *energies, *cheap])
        assert len(plan.segments) == 2 * (1 + 1 + 3)
        assert len(plan.energies) == 4
        return project

    return once("families", make)


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Project:
    """A copy of the finished run, to be changed."""
    return finished.copy(tmp_path)


def cells(plan: Plan, **varied: float) -> list[str]:
    """Ids of the grid's cells with these numbers."""
    members = plan.families["held", "held-grid"]
    return [m.path[-1] for m in members if varied.items() <= m.varied.items()]


def test_the_whole_grid_takes_one_process(finished: Project) -> None:
    """In batches of their own or together with the beginnings, for which others wait."""
    logs = list((finished.results(PROFILE) / "logs/segments").iterdir())
    assert len(logs) <= 2


def test_a_changed_cell_is_one_cells_work(project: Project) -> None:
    old = project.plan(PROFILE)
    project.edit(NUMBERS, "alpha_dom: [0, 1]", "alpha_dom: [0, 1.5]")
    new = project.plan(PROFILE)
    changed = cells(new, alpha_dom=1.5)
    assert len(changed) == 2 * 2
    assert set(new.segments) - set(old.segments) == set(changed)
    assert project.would_run(PROFILE) == sorted([*changed, "claims", "figure cells", "report"])


def test_a_lost_cell_is_one_cells_work_and_energies_come_from_files_alone(project: Project) -> None:
    plan, energies = project.plan(PROFILE), project.results(PROFILE) / "energies"
    kept_energies = shutil.copytree(energies, project.path / "kept energies")
    shutil.rmtree(energies)
    before = project.times(PROFILE)
    (lost,) = cells(plan, seed=1, alpha_dom=1.0, beta_bulk=0.5)
    kept = shutil.copytree(project.results(PROFILE) / "segments" / lost, project.path / "kept")
    shutil.rmtree(project.results(PROFILE) / "segments" / lost)
    assert [job for job in project.reproduce(profile=PROFILE) if job in plan.segments] == [lost]
    assert_same_dataset(kept / "trajectory.nc", project.results(PROFILE) / plan.segments[lost].trajectory)
    after = project.times(PROFILE)
    written = {n for n in after if n.startswith("segments") and after[n] != before[n]}
    assert written == set(plan.segments[lost].files)
    for made in plan.energies.values():
        assert_same_dataset(kept_energies / f"{made.id}.nc", project.results(PROFILE) / made.file)


@pytest.mark.parametrize(
    ("old", "new"), [("probes: 4,", "probes: 5,"), ("density_probes: 2", "density_probes: 3"), ("steps: 5", "steps: 6")]
)
def test_another_number_of_random_vectors_never_trains(project: Project, old: str, new: str) -> None:
    project.edit(NUMBERS, old, new)
    wanted = sorted(
        [*(f"energies {e}" for e in project.plan(PROFILE).energies), "claims", "figure curvature", "report"]
    )
    assert project.would_run(PROFILE) == wanted
    shutil.rmtree(project.results(PROFILE) / "data")  # needed again, and no reason to train
    data = [f"data {s}" for s in project.plan(PROFILE).subsets]
    assert project.would_run(PROFILE) == sorted([*wanted, *data])


def test_a_line_of_the_curvature_stage_never_trains(project: Project) -> None:
    project.edit("analysis/measurement/energies.py", "GRID = 400", "GRID = 401")
    ran = project.would_run(PROFILE)
    assert [job.split()[0] for job in ran] == ["claims", *["energies"] * 4, "figure", "report"]


def test_verdicts_name_the_segments_of_families(finished: Project) -> None:
    plan = finished.plan(PROFILE)
    verdicts = json.loads((finished.results(PROFILE) / "claims.json").read_text(encoding="utf-8"))
    runs = {v["claim"]: set(v["runs"].split()) for v in verdicts}
    assert set(cells(plan)) < runs["zs-grid-loss"]
    assert runs["zs-energy-ggn"] == {e.spec.segment for e in plan.energies.values()}
