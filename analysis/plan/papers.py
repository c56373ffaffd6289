"""What the papers say that their figures and tables show (`workflow/report/papers.yaml`). Free of heavy libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import StringConstraints

from analysis.plan import config
from analysis.plan.yaml import read
from analysis.specs import Frozen
from sharpflat.errors import InputError

Text = Annotated[str, StringConstraints(min_length=1)]


class PaperFigure(Frozen):
    """A figure or table of a paper.

    Attributes:
        id: as in `experiments.yaml`.
        number: as the paper numbers it ("Figure 1"), or what it shows where it has none.
        says: what the paper says that it shows.
        claims: judged beside it.
    """

    id: config.Name
    number: Text
    says: Text
    claims: tuple[config.Name, ...]


class Paper(Frozen):
    """A paper with its figures and tables, in its order; `note` is what holds for all of them."""

    title: Text
    authors: Text
    year: int
    note: Text
    figures: tuple[PaperFigure, ...]


class _Papers(Frozen):
    papers: tuple[Paper, ...]


def read_papers(path: Path) -> tuple[Paper, ...]:
    """The papers, in order.

    Raises:
        InputError: with a line per mistake: file, path of the key, what was found, what is allowed.
    """
    papers = read(path, _Papers).papers
    seen: set[str] = set()
    for p, paper in enumerate(papers):
        for f, figure in enumerate(paper.figures):
            if figure.id in seen:
                raise InputError(
                    f"{path}: papers.{p}.figures.{f}.id: found {figure.id!r} again; each stands there once"
                )
            seen.add(figure.id)
    return papers
