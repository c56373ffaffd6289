"""The archives in the repository are whole, small, and what the documents say of them."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

import pytest

from analysis import archive
from analysis.__main__ import main
from analysis.archive.checks import SCHEMAS
from analysis.measurement.distances import SCHEMA as DISTANCES
from analysis.measurement.energies import SCHEMA as ENERGIES
from analysis.plan.join import load_plan
from analysis.training.records import SCHEMA as TRAJECTORY

ROOT = Path(__file__).parents[2]
ARCHIVES = sorted(path.parent for path in (ROOT / "results" / archive.REFERENCE).glob("*/manifest.json"))


def test_documented_archives_are_there():
    text = (ROOT / "docs/archive.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `([a-z]+)` \|", text, re.M) == ["quick", "laptop"]
    assert {path.name for path in ARCHIVES} == {"quick", "laptop"}


@pytest.mark.slow
@pytest.mark.parametrize("folder", ARCHIVES, ids=lambda path: path.name)
def test_archives_are_what_their_manifests_say(folder):
    manifest = archive.verify(folder)
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 30e6
    assert sorted(manifest.outputs) == sorted(archive.outputs_of(manifest))
    assert manifest.complete is (folder.name == "quick")


@pytest.mark.slow
def test_the_archive_of_quick_is_of_the_present_plan():
    """Else `make archive` was forgotten after a change."""
    manifest, plan = archive.read_archive(ROOT / "results" / archive.REFERENCE / "quick"), load_plan("quick")
    assert sorted(manifest.datasets) == sorted(plan.datasets)
    assert manifest.plan().figures == plan.figures


@pytest.mark.slow
def test_what_is_archived_stays_as_it_is_while_nothing_new_is_run(tmp_path, capsys):
    """Earlier code made the archive of laptop, where figures have one seed and claims of their name have three."""
    folder = tmp_path / archive.REFERENCE / "laptop"
    shutil.copytree(ROOT / "results" / archive.REFERENCE / "laptop", folder)
    before = archive.read_archive(folder)
    assert main(["archive", "--profile", "laptop", "--results", str(tmp_path)]) == 0
    after = archive.read_archive(folder)
    part = sum(bool(f.absent) or any(panel.absent for panel in f.panels) for f in after.figures)
    printed = capsys.readouterr().out
    assert f"; {len(after.figures) - part} of {len(load_plan('laptop').figures)} figures" in printed
    assert printed.endswith(f", and {part} in part\n")
    assert [(one.name, one.panels) for one in after.figures] == [(one.name, one.panels) for one in before.figures]
    assert [(one.name, one.panels) for one in after.claims] == [(one.name, one.panels) for one in before.claims]


def test_figures_in_the_documents_are_those_of_the_archive():
    manifest = archive.read_archive(ROOT / "results" / archive.REFERENCE / "laptop")
    shown = sorted((ROOT / "docs/full-size").glob("*.png"))
    assert len(shown) == 31
    for path in shown:
        recorded = manifest.outputs[f"figures/{path.name}"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == recorded, path.name


VERDICTS = {"quick": 67, "laptop": 67}  # of the papers' claims


@pytest.mark.parametrize("profile", VERDICTS)
def test_the_page_of_results_is_of_the_archived_claims(profile):
    page = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    own = page.partition(f"<!-- verdicts of {profile} -->")[2].partition(f"<!-- end of {profile} -->")[0]
    manifest = archive.read_archive(ROOT / "results" / archive.REFERENCE / profile)
    assert f"claims.json: `{manifest.outputs['claims.json']}`" in own
    papers = own.partition("**open-")[0]
    assert (
        sum(papers.count(f"| {verdict} |") for verdict in ("holds", "**does not hold**", "**not measured**"))
        == VERDICTS[profile]
    )
    if profile == "quick":
        readme = (ROOT / "README.md").read_text(encoding="utf-8")
        assert f"{papers.count('| holds |')} of {VERDICTS[profile]} verdicts on the papers' claims hold" in readme


def test_papers_claims_that_fail_at_full_size_are_on_the_page_of_their_setting():
    overview = (ROOT / "docs/full-size.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[[^]]*\]\(([^)]*)\) \| ([^|]*) \| [^|]* \| ([^|]*) \|$", overview, re.M)
    page = {setting: (row[0], row[2]) for row in rows for setting in re.findall(r"`([a-z0-9-]+)`", row[1])}
    results = (ROOT / "docs/results.md").read_text(encoding="utf-8").partition("<!-- verdicts of laptop -->")[2]
    failed = [
        (claim, setting)
        for claim, table in re.findall(r"^\*\*((?:song|zs)-[a-z0-9-]+)\*\*:(.*?)(?=^\*\*|\Z)", results, re.M | re.S)
        for setting in re.findall(r"^\| ([a-z0-9-]+) \| \*\*does not hold\*\*", table, re.M)
    ]
    assert len(failed) > 10
    for claim, setting in failed:
        link, named = page[setting]
        assert claim in named
        lines = (ROOT / "docs" / link).read_text(encoding="utf-8").splitlines()
        assert any(line.startswith(f"| {claim}") and "**does not hold**" in line for line in lines), (claim, setting)


def test_the_page_of_panels_is_of_the_archived_claims():
    page = (ROOT / "docs/panels.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith(("| `song-", "| `zs-"))]
    assert len(rows) == 64
    for profile, cell in (("quick", 2), ("laptop", 4)):
        manifest = archive.read_archive(ROOT / "results" / archive.REFERENCE / profile)
        assert f"claims.json of {profile}: `{manifest.outputs['claims.json']}`" in page
        ran = {(f.name, panel.setting) for f in manifest.figures for panel in f.panels if f.name[:5] != "open-"}
        assert {(row[0].strip("| `"), row[1].strip("`")) for row in rows if row[cell] != "not run"} == ran


def test_the_picture_in_the_readme_is_the_archived_one():
    manifest = archive.read_archive(ROOT / "results" / archive.REFERENCE / "quick")
    shown = (ROOT / "docs/images/song-fig01.png").read_bytes()
    assert hashlib.sha256(shown).hexdigest() == manifest.outputs["figures/song-fig01.png"]


def test_every_schema_that_is_written_can_be_read():
    assert {TRAJECTORY, ENERGIES, DISTANCES} < set(SCHEMAS)
