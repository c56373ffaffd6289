"""What the papers say about their figures and tables (`workflow/report/papers.yaml`). It imports no heavy libraries."""

from __future__ import annotations

from pathlib import Path

from analysis.plan.yaml import read
from analysis.specs import Frozen
from analysis.specs.panels import Paper
from sharpflat.errors import InputError


class _Papers(Frozen):
    papers: tuple[Paper, ...]


def read_papers(path: Path) -> tuple[Paper, ...]:
    """The papers, in order.

    Raises:
        InputError: the file has mistakes. Each has one line: file, path of the key, what was found, what is allowed.
    """
    papers = read(path, _Papers).papers
    seen: set[str] = set()
    for p, paper in enumerate(papers):
        for f, figure in enumerate(paper.figures):
            if figure.id in seen:
                raise InputError(f"{path}: papers.{p}.figures.{f}.id: found {figure.id!r} again; list each id once")
            seen.add(figure.id)
    return papers
