"""What the documents say is so: targets exist, figures and claims are those that are configured, examples run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

import pytest
import yaml

import sharpflat
from analysis.claims import CLAIMS
from analysis.plan.config import Experiments
from analysis.plan.join import CONFIG_DIR, load_plan
from analysis.plan.yaml import read
from analysis.specs.kinds import PROBES, kinds
from analysis.training.records import REFRESHES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FIGURES = (ROOT / "docs" / "figures.md").read_text(encoding="utf-8")
EXPERIMENTS = read(CONFIG_DIR / "experiments.yaml", Experiments)
TOO_LONG_FOR_QUICK = {
    "open-schedule",
    "open-architectures",
    "open-architectures-energy",
    "open-batch-size",
    "open-momentum-branches",
    "open-regularisation-norm",
}


def test_targets_in_the_readme_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    named = set(re.findall(r"\bmake ([a-z-]+)", README))
    assert {"reproduce", "test"} <= named <= targets


def rows(text: str) -> dict[str, str]:
    """Rows of tables that begin with the id of a figure or table of a paper."""
    return dict(re.findall(r"^\| `((?:song|zs|open)-[a-z0-9-]+)` \|(.*)\|$", text, re.M))


def test_the_table_of_figures_is_complete():
    found = rows(FIGURES)
    assert list(found) == list(EXPERIMENTS.figures)
    claims = {c for row in found.values() for c in re.findall(r"(?:song|zs|open)-[a-z0-9-]+", row.rpartition("|")[2])}
    assert claims == set(CLAIMS)


def test_figures_in_the_readme_and_claims_in_the_results_exist():
    """Of the papers all of them; what the papers leave open is in docs/open-questions.md."""
    shown = README.partition("| in `results/quick/figures`")[2].partition("\n\n")[0]
    assert set(re.findall(r"`((?:song|zs)-[a-z0-9-]+)`", shown)) == papers_own(EXPERIMENTS.figures)
    results = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    assert papers_own(re.findall(r"^\*\*([a-z0-9-]+)\*\*:", results, re.M)) == papers_own(CLAIMS)
    questions = (ROOT / "docs/open-questions.md").read_text(encoding="utf-8")
    for name in {*EXPERIMENTS.figures, *CLAIMS} - papers_own(EXPERIMENTS.figures) - papers_own(CLAIMS):
        assert f"`{name}`" in questions


def papers_own(names: Iterable[str]) -> set[str]:
    return {name for name in names if not name.startswith("open-")}


def test_modules_in_the_table_are_the_configured_ones():
    for name, figure in EXPERIMENTS.figures.items():
        row = next(line for line in FIGURES.splitlines() if line.startswith(f"| `{name}`"))
        assert f"`{figure.module.replace('-', '_')}`" in row


def test_every_variable_of_a_trajectory_is_documented():
    for kind in kinds(PROBES):
        for name in import_module(f"analysis.{PROBES}.{kind}").Probe.variables:
            assert f"`{name}`" in FIGURES
    assert all(f"`{name}`" in FIGURES for name in REFRESHES)


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["quick", "laptop", "paper"])
def test_every_profile_has_every_figure_in_every_setting(profile):
    """But those that take too long for `quick`."""
    plan, here = load_plan(profile), dict(EXPERIMENTS.figures)
    if profile == "quick":
        here = {name: figure for name, figure in here.items() if name not in TOO_LONG_FOR_QUICK}
    assert set(plan.figures) == set(here)
    assert f"| `{profile}`" in README
    for name, figure in here.items():
        for setting in figure.settings:
            assert setting in [panel.setting for panel in plan.figures[name].panels]


def test_the_optimizers_page_shows_the_example():
    page = (ROOT / "docs" / "optimizer.md").read_text(encoding="utf-8")
    (optimizer,) = re.findall(r"```python\n(.*?)```", page, re.S)
    assert optimizer.strip() in (ROOT / "examples" / "subspace_sgd.py").read_text(encoding="utf-8"), "which is run too"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "printed"),
    [("library.md", "alignment of the gradient"), ("datasets.md", "weight of the dominant component")],
)
def test_the_examples_of_a_page_run(page, printed):
    """Those of the README and the optimizer's are run with an installed wheel, see `test_wheel`."""
    code = "\n".join(re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.S))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert printed in done.stdout


@pytest.mark.parametrize(
    "document",
    ["README.md", "CONTRIBUTING.md"]
    + [str(p.relative_to(ROOT)) for folder in ("docs", "docs/full-size") for p in sorted((ROOT / folder).glob("*.md"))],
)
def test_links_lead_somewhere(document):
    """In the repository; `make docs` checks the site's."""
    path = ROOT / document
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        assert (path.parent / link).exists(), f"{link}: it must exist in the repository, not only in the site"


@pytest.mark.slow
def test_the_tree_that_is_drawn_is_the_planned_one():
    drawn = subprocess.run(
        [sys.executable, "-c", "from tree import draw; print(draw(), end='')"],
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'docs/site'}", "PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert (ROOT / "docs/images/tree.svg").read_text(encoding="utf-8") == drawn, "run `python -m docs.site.tree`"


def test_a_site_with_dead_links_is_refused(tmp_path):
    (tmp_path / "index.html").write_text('<h1 id="top"></h1><a href="#top"></a><a href="other.html#here"></a>')
    (tmp_path / "other.html").write_text('<p id="here"><img src="no.png"><a href="index.html#no"></a>')
    (tmp_path / "far.html").write_text(
        '<script src="https://cdn.example/x.js"></script><a href="https://elsewhere.example">'
    )
    done = subprocess.run(
        [sys.executable, ROOT / "docs/site/check.py", tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert [line.partition(": ")[2] for line in done.stderr.splitlines()] == [
        "loads https://cdn.example/x.js",
        "index.html#no: no such anchor",
        "no.png leads nowhere",
    ]


def test_the_citation_has_the_version():
    assert f"\nversion: {sharpflat.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_hooks_run_what_make_check_runs():
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    entries = {hook["entry"].removeprefix(".venv/bin/") for hook in local["hooks"]}
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\ncheck:")[2].partition("\n\n")[0]
    tools = {entry for entry in entries if f"$(BIN)/{entry}" in recipe}
    assert tools == {"ruff check", "ruff format", "mypy", "lint-imports"}
    assert "make check" in entries, "for what is left, where the workflow changed"


NOTEBOOKS = [
    path for path in sorted((ROOT / "examples").glob("*.py")) if path.read_text().startswith("# %% [markdown]\n# # ")
]


def test_there_are_notebooks():
    assert len(NOTEBOOKS) == 3


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run_and_become_pages(notebook, tmp_path):
    code = "import sys; from pathlib import Path; from notebooks import render; render(*map(Path, sys.argv[1:]))"
    folders = [str(ROOT), str(ROOT / "docs/site")]
    done = subprocess.run(
        [sys.executable, "-c", code, notebook, tmp_path],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(folders), "PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "notebooks" / f"{notebook.stem}.md").read_text(encoding="utf-8")
    images = re.findall(r"!\[Figure \d\]\((.+)\)", page)
    assert images
    assert all((tmp_path / "notebooks" / image).stat().st_size > 10_000 for image in images)
    assert "<table" in page or "```text" in page, "something is printed or shown, too"
