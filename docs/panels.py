"""Write docs/panels.md: for each panel of the papers' figures and tables what was run at either size, and its verdicts.

    make figures PROFILE=quick && make figures PROFILE=laptop && python docs/panels.py

A test compares the hashes that the page notes with those that the archives record of their claims.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
PAGE = Path(__file__).with_name("panels.md")
SIZES = {"quick": "`quick`", "laptop": "`laptop`"}
HEAD = """# Panels

Each figure and table of the two papers has a panel for each setting. The table says how each panel was run in `quick`
and in `laptop`: the training examples, the steps of its longest run, and the seeds. The verdicts are those
of the claims that the figure bears on. `laptop` has the papers' sizes, except for figures 15 and 16 (500 of the 5,000
images; VGG11 of a quarter of the width), and fewer steps. [full-size.md](full-size.md) compares our numbers with the
published ones. `docs/panels.py` writes this page from the archives.

"""


def page() -> str:
    """The page, from the two archives."""
    from analysis.archive import read_archive
    from analysis.plan.join import load_plan
    from analysis.plan.papers import read_papers

    papers = [p for p in read_papers(ROOT / "workflow/report/papers.yaml") if p.authors]
    plan = load_plan("quick")
    sides = {}
    for profile in SIZES:
        folder = ROOT / "results/reference" / profile
        manifest = read_archive(folder)
        claims = (ROOT / "results/redrawn" / profile / "claims.json").read_bytes()
        panels = {(f.name, panel.setting): panel for f in manifest.figures for panel in f.panels}
        verdicts = {(row["claim"], row["setting"]): row["verdict"] for row in json.loads(claims)}
        sides[profile] = panels, verdicts, folder, hashlib.sha256(claims).hexdigest()
    lines = list(_rows(papers, plan, sides))
    planned = {(f.spec.name, panel.setting): _labels(panel) for f in plan.figures.values() for panel in f.spec.panels}
    whole = {
        profile: {key for key, panel in panels.items() if _labels(panel) >= planned.get(key, set())}
        for profile, (panels, *_) in sides.items()
    }
    numbers = {profile: sum(_key(line) in whole[profile] for line in lines) for profile in SIZES}
    counted = ", ".join(f"{numbers[profile]} in {name}" for profile, name in SIZES.items())
    table = ["| figure | setting | " + " | ".join(f"{s} | verdicts" for s in SIZES.values()) + " |", "|" + " --- |" * 6]
    hashes = "\n".join(f"claims.json of {profile}: `{sha256}`" for profile, (*_, sha256) in sides.items())
    return HEAD + f"Of {len(lines)} panels were run: {counted}.\n\n" + "\n".join([*table, *lines, "", hashes]) + "\n"


def _labels(panel) -> set[str]:
    return {run.label for run in panel.members()}


def _key(line: str) -> tuple[str, str]:
    figure, setting = line.split(" | ")[:2]
    return figure.removeprefix("| ").strip("`"), setting.strip("`")


def _rows(papers: list, plan, sides: Mapping) -> Iterator[str]:
    for paper in papers:
        for figure in paper.figures:
            for panel in plan.figures[figure.id].spec.panels:
                cells = [f"`{figure.id}`", f"`{panel.setting}`"]
                for panels, verdicts, folder, _ in sides.values():
                    ran = panels.get((figure.id, panel.setting))
                    cells.append(_what(ran, folder) + _lacks(panel, ran) if ran else "not run")
                    found = [
                        f"{claim} {verdict if verdict == 'holds' else f'**{verdict}**'}"
                        for claim in figure.claims
                        if (verdict := verdicts.get((claim, panel.setting), ""))
                    ]
                    cells.append("; ".join(found) if ran else "")
                yield "| " + " | ".join(cells) + " |"


def _lacks(planned, ran) -> str:
    labels = [label for label, _ in planned.runs if label not in _labels(ran)]
    return f"; not run: {', '.join(labels)}" if labels else ""


def _what(panel, folder: Path) -> str:
    import xarray as xr

    from analysis.runs.panels import specification

    examples, seeds, steps = set(), defaultdict(set), set()
    for run in panel.members():
        with xr.open_dataset(folder / "segments" / run.path[-1] / "trajectory.nc") as dataset:
            spec = specification(dataset)
            examples.add(spec["problem"]["data"]["examples"])
            seeds[run.label].add(spec["seed"])
            steps.add(int(dataset.attrs["last_step"]))
    fewest = min(map(len, seeds.values()))
    parts = [f"{max(examples):,} examples", f"{max(steps):,} steps", f"{fewest} seed" + "s" * (fewest > 1)]
    return ", ".join(parts if max(examples) > 2 else parts[1:])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
