"""docs/extending.md, followed word for word in a copy of the project: each recipe ends in a figure, and no segment that
was there before has another name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from analysis.store.netcdf import read_dataset
from tests.covering import EXHAUSTIVE
from tests.unit.test_words import undescribed
from tests.workflow.project import ROOT, Project

PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
IDS = """
import json, sys
from analysis.plan.join import load_plan
print(json.dumps([list(load_plan(profile).segments) for profile in {profiles!r}]))
assert not {{"torch", "xarray", "matplotlib"}} & set(sys.modules), "planning waits for no heavy library"
"""
FIGURES = {  # section -> what it draws
    "A profile": "small-loss",
    "A segment, and a figure of it": "small-switch",
    "A model": "straight-spectrum",
    "An update rule": "small-rules",
    "A probe": None,  # drawn by the next
    "A kind of figure": "small-trace",
    "A claim": None,
    "A data set": "striped-alignment",
}


def recipes() -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """Sections with their blocks: language, file and content."""
    for section in PAGE.split("\n## ")[1:]:
        title, _, text = section.partition("\n")
        yield title, re.findall(r"```(\w+)\n# (\S+)\n(.*?)```", text, re.DOTALL)


def follow(folder: Path, language: str, file: str, content: str) -> None:
    """Do what a block says: a new file, rows under keys that are there, or lines in place of others."""
    path = folder / file
    if language == "diff":
        path.write_text(changed(path.read_text(encoding="utf-8"), content), encoding="utf-8")
    elif language == "yaml" and path.exists():
        lines = path.read_text(encoding="utf-8").splitlines()
        enter(lines, 0, content.splitlines())
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    else:
        assert not path.exists(), f"{file} is there already"
        path.write_text(content, encoding="utf-8")


def changed(text: str, diff: str) -> str:
    """Lines with "-" go, those with "+" come after the line above them."""
    above = ""
    for line in diff.splitlines():
        mark, rest = line[0], f"{line[1:]}\n"
        if mark == "+":
            text = text.replace(above, above + rest, 1) if above else text
            above += rest
            continue
        assert text.count(rest) == 1, rest
        if mark == "-":
            text = text.replace(rest, "\0\n")
            above = "\0\n"
        else:
            above = rest
    return text.replace("\0\n", "")


def enter(lines: list[str], begin: int, rows: list[str]) -> None:
    """Insert rows of YAML (in blocks) into `lines` from `begin` on, under the same keys where these are there."""
    indent = len(rows[0]) - len(rows[0].lstrip())
    starts = [i for i, row in enumerate(rows) if row[indent : indent + 1] not in ("", " ")]
    for start, end in zip(starts, [*starts[1:], len(rows)], strict=True):
        end_of_block = next((i for i in range(begin, len(lines)) if outside(lines[i], indent)), len(lines))
        there = [i for i in range(begin, end_of_block) if lines[i] == rows[start]]
        if there and end > start + 1:
            enter(lines, there[0] + 1, rows[start + 1 : end])
        else:
            lines[begin:begin] = rows[start:end]


def outside(line: str, indent: int) -> bool:
    return bool(line.strip()) and len(line) - len(line.lstrip()) < indent


def ids(project: Project, *profiles: str) -> list[list[str]]:
    found: list[list[str]] = json.loads(project.python("-c", IDS.format(profiles=profiles)))
    return found


def test_the_page_has_these_recipes() -> None:
    assert [title for title, _ in recipes()] == list(FIGURES)


def test_each_recipe_ends_in_a_figure_and_renames_nothing(tmp_path: Path) -> None:
    project = Project.of_sources(tmp_path)
    before, mine = ids(project, "tiny", "families"), []
    for number, (title, blocks) in enumerate(recipes()):
        assert blocks, title
        for block in blocks:
            follow(project.path, *block)
        if EXHAUSTIVE or number in (0, len(FIGURES) - 1):
            *now, of_mine = ids(project, "tiny", "families", "mine")
            assert now == before, title
            assert set(mine) <= set(of_mine), title
            mine = of_mine
    project.reproduce(profile="mine")
    results = project.results("mine")
    for name in filter(None, FIGURES.values()):
        assert (results / "figures" / f"{name}.png").stat().st_size > 10_000, name
    for path in sorted(results.glob("**/*.nc")):
        assert undescribed(read_dataset(path)) == [], path.name
    (verdict,) = (v for v in json.loads((results / "claims.json").read_text()) if v["claim"] == "sign-descends")
    assert verdict["verdict"] in ("holds", "does not hold"), verdict
    planned = project.run("plan", profile="mine")
    assert planned.returncode == 0, planned.stdout
