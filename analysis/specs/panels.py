"""Specifications of figures, claims and the report. They are frozen values, and archives store them as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from analysis.specs import Frozen


def one_line(text: str) -> str:
    """The text, if it is one line; for validation."""
    if not text.isprintable() or text != text.strip():
        raise PydanticCustomError("text", "input should be one line of printable characters, no space around it")
    return text


def _in_order(values: dict[str, float]) -> dict[str, float]:
    return dict(sorted(values.items()))


# Names become parts of paths, so they hold nothing that could leave a folder.
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=60)]
# Labels are drawn, and a dollar sign would begin a formula.
Label = Annotated[str, StringConstraints(pattern=r"^[^<>&\"'\\/$]+$", max_length=80), AfterValidator(one_line)]
Text = Annotated[str, StringConstraints(min_length=1)]
Ids = tuple[str, ...]  # of segments, parents first
# Both are sorted, because texts list them and JSON must not change their order.
Varied = Annotated[dict[str, int | float], AfterValidator(_in_order)]
Absent = Annotated[dict[str, str], AfterValidator(_in_order)]


class Run(NamedTuple):
    """One run of a panel: its label, the numbers in which it differs from others of that label, its segments."""

    label: str
    varied: dict[str, int | float]
    path: Ids


class PanelSpec(Frozen):
    """One setting of a figure or claim.

    Attributes:
        runs: by label, the single runs.
        families: by label, the runs that differ in a few numbers, each with these numbers.
        snapshots: whether θ is read.
        distances: id of the distances between the two runs, if they are read.
        energies: ids of the energies along each segment, if they are read.
        absent: labels of the single runs, and descriptions of the members of families, that were not run.
    """

    setting: Name
    title: Label
    runs: tuple[tuple[str, Ids], ...]
    families: tuple[tuple[str, tuple[tuple[Varied, Ids], ...]], ...]
    snapshots: bool | None = None
    distances: str | None = None
    energies: dict[str, str] | None = None
    absent: tuple[str, ...] | None = None

    def members(self) -> Iterator[Run]:
        """All runs: first the single runs, and then the members of the families."""
        for label, path in self.runs:
            yield Run(label, {}, path)
        for label, family in self.families:
            for varied, path in family:
                yield Run(label, varied, path)

    def paths(self) -> list[Ids]:
        """The segments of each run."""
        return [run.path for run in self.members()]

    def datasets(self) -> tuple[str, ...]:
        """The files from which the panel is made, relative to the results, each listed once."""
        ids = [segment for path in self.paths() for segment in path]
        files = [f"segments/{segment}/trajectory.nc" for segment in ids]
        if self.snapshots:
            files += [f"segments/{segment}/snapshots.nc" for segment in ids]
        if self.distances:
            files.append(f"distances/{self.distances}.nc")
        if self.energies:
            files += [f"energies/{self.energies[segment]}.nc" for segment in ids]
        return tuple(dict.fromkeys(files))


class ClaimSpec(Frozen):
    """A claim in several settings. `absent` lists the settings that it lacks, each with the reason."""

    name: Name
    panels: tuple[PanelSpec, ...]
    absent: Absent = Field(default_factory=dict)


class FigureSpec(ClaimSpec):
    """A figure or table. `module` is a module of `analysis.figures`, written with hyphens.

    `kinds` are the models and update rules whose descriptions appear in its titles ("models.mlp"). `partial` means that
    an archive may lack some of a panel's single runs.
    """

    module: Name
    caption: str
    kinds: tuple[str, ...] = ()
    partial: bool | None = None


class PaperFigure(Frozen):
    """A figure or table of a paper.

    Attributes:
        id: its name in `experiments.yaml`.
        number: its number in the paper ("Figure 1"), or its subject if it has no number.
        says: what it shows, according to the paper.
        claims: the claims that are judged next to it.
    """

    id: Name
    number: Text
    says: Text
    claims: tuple[Name, ...]


class Paper(Frozen):
    """A paper with its figures and tables in the paper's order.

    `note` applies to all of them. `speaks` names the author of the texts in `says`. A group of figures that belongs to
    no paper has no authors.
    """

    title: Text
    authors: Text | None = None
    year: int | None = None
    speaks: Text = "The paper"
    note: Text
    figures: tuple[PaperFigure, ...]


class ReportSpec(Frozen):
    """The report. `base` is the relative path from it to the folder of the datasets; it is "" or ends in "/"."""

    profile: Name
    title: Label
    figures: tuple[FigureSpec, ...]
    claims: tuple[ClaimSpec, ...]
    papers: tuple[Paper, ...]
    base: str


class DistancesSpec(Frozen):
    """The distances between two runs, from their segments' snapshots."""

    runs: tuple[Ids, Ids]


def datasets_of(panels: Iterable[PanelSpec]) -> tuple[str, ...]:
    """The files from which panels are made, relative to the results, each listed once."""
    return tuple(dict.fromkeys(file for panel in panels for file in panel.datasets()))
