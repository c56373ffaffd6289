"""What is drawn, judged and reported: frozen values, whose JSON is also that of an archive's manifest."""

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
# Labels are drawn: a dollar would begin a formula.
Label = Annotated[str, StringConstraints(pattern=r"^[^<>&\"'\\/$]+$", max_length=80), AfterValidator(one_line)]
Text = Annotated[str, StringConstraints(min_length=1)]
Ids = tuple[str, ...]  # of segments, parents first
# Both in one order, the one that they have after a way through JSON: texts list them.
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
        runs: by label, those that have it alone.
        families: by label, runs that differ in a few numbers, each with these numbers.
        snapshots: whether θ is read.
        distances: id of the distances between the two runs, if they are read.
        energies: ids of the energies along each segment, if they are read.
        absent: members of families that were not run, in words.
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
        """All runs: those that have their label alone, then the families'."""
        for label, path in self.runs:
            yield Run(label, {}, path)
        for label, family in self.families:
            for varied, path in family:
                yield Run(label, varied, path)

    def paths(self) -> list[Ids]:
        """The segments of each run."""
        return [run.path for run in self.members()]

    def datasets(self) -> tuple[str, ...]:
        """The files that the panel is made from, relative to the results, each once."""
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
    """A claim in several settings; `absent` are settings that it lacks, each with the reason."""

    name: Name
    panels: tuple[PanelSpec, ...]
    absent: Absent = Field(default_factory=dict)


class FigureSpec(ClaimSpec):
    """A figure or table; `module` is one of `analysis.figures`, with hyphens.

    `kinds` are the models and update rules that it says were run ("models.mlp"): their words are in its titles.
    """

    module: Name
    caption: str
    kinds: tuple[str, ...] = ()


class PaperFigure(Frozen):
    """A figure or table of a paper.

    Attributes:
        id: as in `experiments.yaml`.
        number: as the paper numbers it ("Figure 1"), or its subject where it has no number.
        says: what it shows, according to the paper.
        claims: judged next to it.
    """

    id: Name
    number: Text
    says: Text
    claims: tuple[Name, ...]


class Paper(Frozen):
    """A paper with its figures and tables, in its order; `note` applies to all of them. A group of figures that is no
    paper's has no authors. `speaks` is whose words `says` has."""

    title: Text
    authors: Text | None = None
    year: int | None = None
    speaks: Text = "The paper"
    note: Text
    figures: tuple[PaperFigure, ...]


class ReportSpec(Frozen):
    """The report; `base` is the relative path from it to the folder of the datasets, "" or ending in "/"."""

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
    """The files that panels are made from, relative to the results, each once."""
    return tuple(dict.fromkeys(file for panel in panels for file in panel.datasets()))
