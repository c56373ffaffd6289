"""The plan: a profile's segments with their content-hashed names, and what is drawn and judged from them.

It does not import torch or xarray, because the workflow reads it at every start. The name of a segment hashes its
specification (by value), its parent's name and a fingerprint of the code that its function reaches. So what is stored
under a name is right by construction, and equal work has the same name. `analysis.plan.join` makes the plan, and
`analysis.plan.missing` compares it with what exists.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from analysis.plan.names import canonical, hash8, subset_id
from analysis.specs import DataSpec, EnergiesSpec, Frozen, SegmentSpec
from analysis.specs.panels import ClaimSpec, DistancesSpec, FigureSpec, PanelSpec, ReportSpec, datasets_of


class _Planned(Frozen):
    """The result of one function, with its specification and a fingerprint of the function's code.

    To change it, make a new object, because `model_copy` would keep the cached properties.
    """

    fingerprint: str

    @cached_property
    def params(self) -> str:
        """Sorted JSON for the workflow engine. `model_validate_json` reads it back."""
        return canonical(self.model_dump())


def data_file(subset: str) -> str:
    return f"data/{subset}.nc"


def _subsets(data: DataSpec) -> tuple[str, str]:
    return subset_id(data.train, data.train_sha256), subset_id(data.test, data.test_sha256)


class PlannedSegment(_Planned):
    id: str  # <setting>-<data>.<update rule>-<8 hex>
    spec: SegmentSpec

    @property
    def subsets(self) -> tuple[str, str]:
        """Names of the training and the test data, by which their files are found."""
        return _subsets(self.spec.problem.data)

    @property
    def trajectory(self) -> str:
        return f"segments/{self.id}/trajectory.nc"

    @property
    def state(self) -> str:
        return f"segments/{self.id}/state.safetensors"

    @property
    def snapshots(self) -> str | None:
        return None if "snapshots" not in self.spec.probes else f"segments/{self.id}/snapshots.nc"

    @property
    def files(self) -> tuple[str, ...]:
        """The files that the segment writes, relative to the results."""
        return tuple(f for f in (self.trajectory, self.state, self.snapshots) if f)


class PlannedDistances(_Planned):
    id: str
    spec: DistancesSpec

    @property
    def file(self) -> str:
        return f"distances/{self.id}.nc"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The snapshots of both runs, without repetitions."""
        return tuple(dict.fromkeys(f"segments/{i}/snapshots.nc" for run in self.spec.runs for i in run))


class PlannedEnergies(_Planned):
    """The energies measured at the snapshots of one segment."""

    id: str
    spec: EnergiesSpec

    @property
    def subsets(self) -> tuple[str, str]:
        """As the segment's."""
        return _subsets(self.spec.problem.data)

    @property
    def file(self) -> str:
        return f"energies/{self.id}.nc"

    @property
    def input(self) -> str:
        return f"segments/{self.spec.segment}/snapshots.nc"


class Drawn(_Planned):
    """A figure, a table, the claims or the report. Its name has no hash, so a record says what it was made from
    (`analysis.execution.records`). It is made again if this changes."""

    rule: ClassVar[str]  # that makes it

    @property
    def name(self) -> str:
        raise NotImplementedError

    @property
    def panels(self) -> list[PanelSpec]:
        raise NotImplementedError

    @property
    def files(self) -> tuple[str, ...]:
        """The files that are made, relative to the results."""
        raise NotImplementedError

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """The datasets from which it is made, relative to the results, without repetitions."""
        return datasets_of(self.panels)

    @cached_property
    def record(self) -> str:
        """The file that records that the result was made from exactly this."""
        return f"made-from/{self.name}-{hash8(self.params)}.json"


class PlannedFigure(Drawn):
    """A figure. With `table`, it is also a table."""

    rule: ClassVar[str] = "figures"
    spec: FigureSpec
    table: bool

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def panels(self) -> list[PanelSpec]:
        return list(self.spec.panels)

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(f"figures/{self.name}.{kind}" for kind in ("pdf", "png", *(["csv"] if self.table else [])))


class PlannedClaims(Drawn):
    rule: ClassVar[str] = "claims"
    claims: tuple[ClaimSpec, ...]

    @property
    def name(self) -> str:
        return "claims"

    @property
    def panels(self) -> list[PanelSpec]:
        return [panel for claim in self.claims for panel in claim.panels]

    @property
    def files(self) -> tuple[str, ...]:
        return "claims.json", "claims.csv"


class PlannedReport(Drawn):
    rule: ClassVar[str] = "report"
    spec: ReportSpec

    @property
    def name(self) -> str:
        return "report"

    @property
    def panels(self) -> list[PanelSpec]:
        return [panel for shown in (*self.spec.figures, *self.spec.claims) for panel in shown.panels]

    @property
    def files(self) -> tuple[str, ...]:
        return ("report.html",)


@dataclass(frozen=True)
class PlannedMember:
    """One run of a family, with the numbers in which it differs and its path of segment ids."""

    varied: dict[str, float]
    path: tuple[str, ...]


def of_seeds(members: Sequence[PlannedMember], seeds: str) -> tuple[PlannedMember, ...]:
    """All members of a family (`seeds` "all"), or those with its first seed ("first"), which then do not vary in the
    seed."""
    if seeds == "all" or not members or "seed" not in members[0].varied:
        return tuple(members)
    first = members[0].varied["seed"]
    kept = [member for member in members if member.varied["seed"] == first]
    return tuple(PlannedMember({n: v for n, v in one.varied.items() if n != "seed"}, one.path) for one in kept)


@dataclass(frozen=True)
class Sharing:
    """Counts of steps. Segments that stop by the alignment count with their maximum length."""

    segments: int
    runs: int  # that figures and claims name
    steps: int  # of all segments
    steps_alone: int  # if each run were trained from its initialisation


@dataclass(frozen=True)
class Plan:
    profile: str
    title: str
    batch_steps: int
    batch_figures: int
    segments: dict[str, PlannedSegment]  # by id, parents before children
    distances: dict[str, PlannedDistances]  # by id
    energies: dict[str, PlannedEnergies]  # by id
    figures: dict[str, PlannedFigure]
    claims: PlannedClaims
    report: PlannedReport
    runs: dict[tuple[str, str], tuple[str, ...]]  # (setting, segment) of experiments.yaml -> path of ids
    families: dict[tuple[str, str], tuple[PlannedMember, ...]]  # likewise, of segments that vary

    @property
    def subsets(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(s for segment in self.segments.values() for s in segment.subsets))

    @property
    def datasets(self) -> tuple[str, ...]:
        """The datasets from which figures and claims are made, without repetitions."""
        return tuple(dict.fromkeys(file for drawn in (*self.figures.values(), self.claims) for file in drawn.inputs))

    @property
    def files(self) -> tuple[str, ...]:
        """All files that can be made, relative to the results, without the records of drawn results."""
        return (
            *map(data_file, self.subsets),
            *(file for segment in self.segments.values() for file in segment.files),
            *(energies.file for energies in self.energies.values()),
            *(distances.file for distances in self.distances.values()),
            *(file for drawn in self.drawn for file in drawn.files),
        )

    @property
    def drawn(self) -> tuple[Drawn, ...]:
        """The figures, the claims and the report, if there are data for them."""
        return tuple(drawn for drawn in (*self.figures.values(), self.claims, self.report) if drawn.inputs)

    def lengths(self) -> dict[str, int]:
        """The number of steps of each segment. A segment that stops by the alignment counts with its maximum length."""
        length: dict[str, int] = {}
        end: dict[str | None, int] = {None: 0}
        for segment in self.segments.values():
            begin, stop = end[segment.spec.parent], segment.spec.stop
            length[segment.id] = stop.steps if stop.steps is not None else max(0, (stop.step or 0) - begin)
            end[segment.id] = begin + length[segment.id]
        return length

    def sharing(self) -> Sharing:
        """The steps that the tree of segments saves, because beginnings that runs share are trained once."""
        length, runs = self.lengths(), self.run_paths()
        return Sharing(
            segments=len(self.segments),
            runs=len(runs),
            steps=sum(length.values()),
            steps_alone=sum(length[i] for path in runs for i in path),
        )

    def run_paths(self) -> set[tuple[str, ...]]:
        """The runs that figures and claims use, as paths of segment ids, without repetitions."""
        panels = [panel for drawn in (*self.figures.values(), self.claims) for panel in drawn.panels]
        ends = {path[-1] for panel in panels for path in panel.paths()}
        members = [member.path for family in self.families.values() for member in family]
        return {path for path in (*self.runs.values(), *members) if path[-1] in ends}
