"""The page: everything that the template shows, and the template filled with it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from analysis.report import overview, prose
from analysis.report.figures import Figure, figure_of
from analysis.report.runs import Datasets, labels_of
from analysis.report.verdicts import (
    ELSEWHERE,
    KEY,
    Summary,
    Verdict,
    answer,
    by_claim,
    placed,
    read_verdicts,
    summarise,
)
from analysis.specs.panels import FigureSpec, Paper, ReportSpec
from sharpflat.errors import InputError

CLAIMS = "claims.json"
PAPER = "paper"  # the profile that has the papers' own sizes
FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Part:
    """A paper, or what no paper lists."""

    anchor: str
    title: str
    cited: str
    speaks: str
    note: str
    figures: list[Figure]
    missing: list[str]


def page(
    report: ReportSpec,
    datasets: Mapping[str, Path],
    files: Mapping[str, Path],
    deviations: Path,
    agreement: object,
) -> str:
    """The report as HTML; see `analysis.report.write_report`."""
    read = Datasets(datasets, report.base)
    papers, planned = report.papers, {figure.name: figure for figure in report.figures}
    judged = [panel for claim in report.claims for panel in claim.panels]
    panels = [panel for figure in report.figures for panel in figure.panels]
    labels = labels_of([*panels, *judged], read)
    listed = {figure.id: figure for paper in papers for figure in paper.figures}
    further = [name for name in planned if name not in listed]
    order = [name for name in listed if name in planned]
    verdicts = _verdicts(files) if judged else []
    of_papers = {claim for paper in papers if paper.authors for figure in paper.figures for claim in figure.claims}
    own = [verdict for verdict in verdicts if verdict.claim in of_papers]
    further_verdicts = [verdict for verdict in verdicts if verdict.claim not in of_papers]
    beside = placed(verdicts, {n: (listed[n].claims, _settings(planned[n])) for n in order})

    def shown(name: str) -> Figure:
        return figure_of(planned[name], listed.get(name), beside.get(name, []), labels, read, files)

    parts = [
        Part(
            f"Paper-{place}",
            paper.title,
            f"{paper.authors}, {paper.year}" if paper.authors else "",
            paper.speaks,
            paper.note,
            [shown(figure.id) for figure in paper.figures if figure.id in planned],
            [f"{figure.number} ({figure.id})" for figure in paper.figures if figure.id not in planned],
        )
        for place, paper in enumerate(papers, 1)
    ]
    if further:
        parts.append(Part("Further", "Further figures", "", "", "", [shown(name) for name in further], []))
    script = _text("report.js")
    return _template().render(
        profile=report.profile,
        title=report.title,
        own_sizes=report.profile == PAPER,
        labels=labels,
        headline=next((figure for part in parts for figure in part.figures), None),
        verdicts=verdicts,
        answer=answer(own or verdicts),
        answer_further=answer(further_verdicts) if own and further_verdicts else "",
        key=KEY,
        summaries=_summaries(papers, verdicts, beside),
        settings=overview.settings_of([*panels, *judged], labels, read),
        subsets=overview.subsets_of(read),
        environment=overview.environment_of(read),
        totals=overview.totals_of(read),
        parts=parts,
        elsewhere=by_claim(beside[ELSEWHERE]),
        ELSEWHERE=ELSEWHERE,
        deviations=prose.rendered(deviations),
        agreement=agreement,
        style=Markup(_text("report.css")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _text(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def _template() -> Any:
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["thousands"] = "{:,}".format
    return environment.get_template("report.html.j2")


def _verdicts(files: Mapping[str, Path]) -> list[Verdict]:
    if CLAIMS not in files:
        raise InputError(f"{CLAIMS}: the report shows it, but it is not among the report's files")
    return read_verdicts(files[CLAIMS])


def _settings(figure: FigureSpec) -> set[str]:
    return {panel.setting for panel in figure.panels} | set(figure.absent)


def _summaries(
    papers: Sequence[Paper], verdicts: Sequence[Verdict], beside: Mapping[str, Sequence[Verdict]]
) -> list[Summary]:
    """A map of verdicts for each paper, and one for claims of no paper."""
    owner = {claim: paper.title for paper in papers for figure in paper.figures for claim in figure.claims}
    titles = [*(paper.title for paper in papers), "Further claims"]
    own = {title: [v for v in verdicts if owner.get(v.claim, titles[-1]) == title] for title in titles}
    return [summarise(title, those, beside) for title, those in own.items() if those]
