"""Finished runs that tests share: made once for all workers of pytest-xdist."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.workflow.project import Project


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], Project]], Project]:
    """Makes a project in a new folder of that name, or waits until another worker has made it."""
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root

    def made(name: str, make: Callable[[Path], Project]) -> Project:
        folder = root / name
        with (root / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / "made").exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                (folder / "made").write_text(str(make(folder).path), encoding="utf-8")
        return Project(Path((folder / "made").read_text(encoding="utf-8")))

    return made


@pytest.fixture(scope="session")
def tiny(once: Callable[[str, Callable[[Path], Project]], Project]) -> Project:
    """A finished run of the tiny profile, which no test changes. `ran.json` next to it lists what ran."""

    def make(folder: Path) -> Project:
        project = Project.of_sources(folder)
        (folder / "ran.json").write_text(json.dumps(project.reproduce()), encoding="utf-8")
        return project

    return once("finished", make)


@pytest.fixture(scope="session")
def finished(tiny: Project) -> Project:
    """The finished run that a module's tests begin with; some modules have another."""
    return tiny


@pytest.fixture(scope="session")
def rerun(once: Callable[[str, Callable[[Path], Project]], Project], tiny: Project) -> Project:
    """A copy of the finished run in which the last segment got another number and was run again, which no test changes.
    `ran.json` next to it lists what ran, and `before.json` when each result had been written before."""

    def make(folder: Path) -> Project:
        project = tiny.copy(folder)
        (folder / "before.json").write_text(json.dumps(project.times()), encoding="utf-8")
        project.edit("workflow/config/tiny.yaml", "late-gd: {steps: 4}", "late-gd: {steps: 4, learning_rate: 0.01}")
        # A script newer than the data is no reason to make them again (nor to forget what is missing).
        (project.path / "workflow/scripts/data.py").touch()
        (folder / "ran.json").write_text(json.dumps(project.reproduce()), encoding="utf-8")
        return project

    return once("rerun", make)


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Project:
    """A copy of the finished run, to be changed."""
    return finished.copy(tmp_path)
