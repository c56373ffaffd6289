"""The quick profile's own archive: a clone elsewhere, in other surroundings, draws the recorded bytes."""

from __future__ import annotations

import shutil
from pathlib import Path

from analysis import archive
from tests.workflow.project import ROOT, Project, jobs

QUICK = Path("results/reference/quick")


def test_every_figure_of_quick_is_redrawn_byte_for_byte(tmp_path: Path) -> None:
    project = Project.of_sources(tmp_path)
    shutil.copytree(ROOT / QUICK, project.path / QUICK)
    own = tmp_path / "matplotlibrc"  # a user's own settings
    own.write_text("font.size: 20\naxes.labelpad: 30\nmathtext.fontset: stix\n")
    clock = {"TZ": "Pacific/Auckland", "SOURCE_DATE_EPOCH": "1000000000"}
    done = project.run("figures", profile="quick", LC_ALL="C", PYTHONHASHSEED="1", MATPLOTLIBRC=str(own), **clock)
    assert done.returncode == 0, done.stdout
    plan = archive.read_archive(ROOT / QUICK).plan()
    assert jobs(done.stdout) == sorted(["claims", "report", *(f"figure {name}" for name in plan.figures)])
    outputs = archive.outputs_of(archive.read_archive(ROOT / QUICK))
    assert f"{len(outputs)} of {len(outputs)} files are byte-identical to the recorded ones" in done.stdout
    assert {"figures/song-fig01.pdf", "figures/zs-fig07.png", "figures/song-table2.csv", "report.html"} <= set(outputs)
