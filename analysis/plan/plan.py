"""The plan: a profile's segments with their content-hashed names, and what is drawn and judged from them.

Free of torch and xarray: the workflow reads it at every start. The name of a segment hashes its specification
(by value), its parent's name and a fingerprint of the code that its function reaches, so what stands under a
name is right by construction, and equal work has one name, whoever asks for it. `analysis.plan.join` makes it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from analysis.plan.names import canonical, hash8, subset_id
from analysis.specs import EnergiesSpec, SegmentSpec


@dataclass(frozen=True)
class PlannedSegment:
    id: str  # <setting>.<update rule>-<8 hex>
    spec: SegmentSpec
    fingerprint: str

    @property
    def subsets(self) -> tuple[str, str]:
        """Names of the training and the test data, with which their files are found."""
        data = self.spec.problem.data
        return subset_id(data.train, data.train_sha256), subset_id(data.test, data.test_sha256)

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
        """What the segment leaves, relative to the results."""
        return tuple(f for f in (self.trajectory, self.state, self.snapshots) if f)

    @property
    def params(self) -> str:
        """What the training rule is given: sorted JSON, equal for equal work."""
        return canonical({"id": self.id, "spec": self.spec.model_dump(), "fingerprint": self.fingerprint})


@dataclass(frozen=True)
class PlannedDistances:
    """The distances between two runs, from their segments' snapshots."""

    id: str
    runs: tuple[tuple[str, ...], tuple[str, ...]]  # segment ids
    fingerprint: str

    @property
    def file(self) -> str:
        return f"distances/{self.id}.nc"

    @property
    def inputs(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        first, second = (tuple(f"segments/{i}/snapshots.nc" for i in run) for run in self.runs)
        return first, second

    @property
    def params(self) -> str:
        """What the rule is given: sorted JSON."""
        return canonical({"id": self.id, "spec": {"runs": self.runs}, "fingerprint": self.fingerprint})


@dataclass(frozen=True)
class PlannedEnergies:
    """What the curvature stage makes of one segment's snapshots."""

    id: str
    spec: EnergiesSpec
    fingerprint: str
    subsets: tuple[str, str]  # as the segment's

    @property
    def file(self) -> str:
        return f"energies/{self.id}.nc"

    @property
    def input(self) -> str:
        return f"segments/{self.spec.segment}/snapshots.nc"

    @property
    def params(self) -> str:
        """What the rule is given: sorted JSON."""
        return canonical({"id": self.id, "spec": self.spec.model_dump(), "fingerprint": self.fingerprint})


@dataclass(frozen=True)
class PlannedMember:
    """One run of a family: the numbers in which it differs, and its path of segment ids."""

    varied: dict[str, float]
    path: tuple[str, ...]


@dataclass(frozen=True)
class Planned:
    """A figure, a table or the claims: drawn or judged from datasets, and made anew when `params` differs from what
    it was made from."""

    name: str
    inputs: tuple[str, ...]  # datasets, relative to the results, each once
    files: tuple[str, ...]  # that are made, relative to the results
    params: str  # sorted JSON: module, caption, panels with runs as lists of ids, fingerprint

    @property
    def record(self) -> str:
        """The file that says that the result was made from just this (`analysis.execution.records`)."""
        return f"made-from/{self.name}-{hash8(self.params)}.json"


@dataclass(frozen=True)
class Batch:
    """Missing segments that one process trains one after the other, parents before their children."""

    name: str
    segments: tuple[PlannedSegment, ...]
    work: int  # expected refreshes of the dominant subspace, or as much
    priority: int  # work of all that waits for it, itself included

    @property
    def parents(self) -> tuple[str, ...]:
        """Ids of the parents that others have trained."""
        own = {segment.id for segment in self.segments}
        wanted = dict.fromkeys(s.spec.parent for s in self.segments if s.spec.parent)
        return tuple(parent for parent in wanted if parent not in own)


@dataclass(frozen=True)
class Sharing:
    """Counts of steps; segments that stop by the alignment count with the longest they may last."""

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
    figures: dict[str, Planned]
    claims: Planned
    report: Planned
    runs: dict[tuple[str, str], tuple[str, ...]]  # (setting, segment) of experiments.yaml -> path of ids
    families: dict[tuple[str, str], tuple[PlannedMember, ...]]  # likewise, of segments that vary

    @property
    def subsets(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(s for segment in self.segments.values() for s in segment.subsets))

    @property
    def datasets(self) -> tuple[str, ...]:
        """What figures and claims are made from, each once."""
        return tuple(dict.fromkeys(file for made in (*self.figures.values(), self.claims) for file in made.inputs))

    def lengths(self) -> dict[str, int]:
        """Steps of each segment; of one that stops by the alignment, the most it may last."""
        length: dict[str, int] = {}
        end: dict[str | None, int] = {None: 0}
        for segment in self.segments.values():
            begin, stop = end[segment.spec.parent], segment.spec.stop
            length[segment.id] = stop.steps if stop.steps is not None else max(0, (stop.step or 0) - begin)
            end[segment.id] = begin + length[segment.id]
        return length

    def sharing(self) -> Sharing:
        """What the tree of segments saves: beginnings that runs share are trained once."""
        length, runs = self.lengths(), self.run_paths()
        return Sharing(
            segments=len(self.segments),
            runs=len(runs),
            steps=sum(length.values()),
            steps_alone=sum(length[i] for path in runs for i in path),
        )

    def run_paths(self) -> set[tuple[str, ...]]:
        """The runs that figures and claims name, as paths of segment ids, each once."""
        ends = self._ends()
        members = [member.path for family in self.families.values() for member in family]
        return {path for path in (*self.runs.values(), *members) if path[-1] in ends}

    def _ends(self) -> set[str]:
        """Ids of the last segments of the runs that figures and claims name."""
        made = [json.loads(p.params) for p in (*self.figures.values(), self.claims)]
        panels = [q for m in made for q in m.get("panels", [r for c in m.get("claims", []) for r in c["panels"]])]
        return {path[-1] for panel in panels for path in panel_paths(panel)}

    def energies_missing(self, exists: Callable[[PlannedEnergies], bool]) -> tuple[tuple[PlannedEnergies, ...], ...]:
        """The energies for which `exists` is false, those of the same setting together."""
        together: dict[str, list[PlannedEnergies]] = {}
        for energies in self.energies.values():
            if not exists(energies):
                together.setdefault(energies.id.partition(".")[0], []).append(energies)
        return tuple(map(tuple, together.values()))

    def untrained(self, exists: Callable[[str], bool], wanted: Iterable[Planned] = ()) -> set[str]:
        """Ids of the segments that have to be trained: whose trajectory is missing, or whose state or snapshots are
        while something that has to be made begins from them.

        Args:
            exists: whether a file, relative to the results, is there.
            wanted: the figures, claims and report that have to be made.
        """
        needed = {file for made in wanted for file in made.inputs}
        needed |= {energies.input for energies in self.energies.values() if not exists(energies.file)}
        apart = [distances for distances in self.distances.values() if not exists(distances.file)]
        needed |= {file for distances in apart for run in distances.inputs for file in run}
        found = set()
        for segment in reversed(self.segments.values()):  # children before their parents
            needed.add(segment.trajectory)
            if any(file in needed and not exists(file) for file in segment.files):
                found.add(segment.id)
                if segment.spec.parent is not None:
                    needed.add(self.segments[segment.spec.parent].state)
        return found

    def batches(self, exists: Callable[[PlannedSegment], bool]) -> tuple[Batch, ...]:
        """Batches of the segments for which `exists` is false.

        A segment goes with all that descends from it, if that is no more than `batch_steps` refreshes' worth of work
        (else alone), and with others that begin from the same parent, or from the initialisation on the same data.
        """
        missing = {s.id: s for s in self.segments.values() if not exists(s)}
        children: dict[str | None, list[PlannedSegment]] = {}
        for segment in missing.values():
            parent = segment.spec.parent
            children.setdefault(parent if parent in missing else None, []).append(segment)
        together: dict[tuple[str, ...], list[list[PlannedSegment]]] = {}
        found: list[list[PlannedSegment]] = []
        todo = list(children.get(None, []))
        while todo:
            segment = todo.pop(0)
            family = [segment, *_descendants(segment, children)]
            if len(family) > 1 and _work(family) > self.batch_steps:
                found.append([segment])  # alone: others wait for it
                todo += children[segment.id]
            else:
                parent = segment.spec.parent
                together.setdefault((parent,) if parent else segment.subsets, []).append(family)
        for families in together.values():
            found += self._split(families)
        return tuple(
            Batch(
                batch[0].id,
                tuple(batch),
                round(_work(batch)),
                round(_work({d.id: d for s in batch for d in (s, *_descendants(s, children))}.values())),
            )
            for batch in found
        )

    def _split(self, families: list[list[PlannedSegment]]) -> Iterator[list[PlannedSegment]]:
        current: list[PlannedSegment] = []
        for family in families:
            current += family
            if _work(current) >= self.batch_steps:
                yield current
                current = []
        if current:
            yield current


def panel_paths(panel: Mapping[str, Any]) -> list[list[str]]:
    """The paths of ids of all runs of a planned panel."""
    return [path for _, path in panel["runs"]] + [path for _, family in panel["families"] for _, path in family]


def _descendants(segment: PlannedSegment, children: dict[str | None, list[PlannedSegment]]) -> Iterator[PlannedSegment]:
    todo = children.get(segment.id, [])[::-1]
    while todo:
        child = todo.pop()
        yield child
        todo += children.get(child.id, [])[::-1]


def _work(segments: Iterable[PlannedSegment]) -> float:
    return sum(expected_refreshes(segment.spec) for segment in segments)


def expected_refreshes(spec: SegmentSpec) -> float:
    """Rough cost for packing, in refreshes of the dominant subspace (of k eigenpairs): one costs as much as some thirty
    plain steps."""
    steps = spec.stop.steps if spec.stop.steps is not None else spec.stop.step or 0
    refreshes = 0.0
    for numbers in spec.probes.values():
        refreshes += numbers.measurement().eigenpairs * steps / numbers.every
    if spec.filter is not None and spec.filter.alpha_dom != spec.filter.beta_bulk:
        refreshes += steps / spec.filter.refresh_every
    data = spec.problem.data
    if data.holdout:  # the Hessian is of these examples alone, but a refresh has costs of its own
        refreshes *= max(data.holdout / data.examples, 0.2)
    cost = steps / 30 + refreshes
    return cost / 50 if spec.problem.loss == "value" else cost  # a toy's is nothing beside a network's
