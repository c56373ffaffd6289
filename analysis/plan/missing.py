"""The missing parts of a plan, and the batches that make them, as functions of the plan and of what exists."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

from analysis.plan.plan import Plan, PlannedEnergies, PlannedSegment
from analysis.specs import SegmentSpec

Exists = Callable[[str], bool]  # whether a file, relative to the results, is there


@dataclass(frozen=True)
class Batch:
    """Missing segments that one process trains in sequence, parents before their children."""

    name: str
    segments: tuple[PlannedSegment, ...]
    refreshes: int  # expected, of the dominant subspace, or what costs as much
    priority: int  # those of all that waits for it, itself included

    @property
    def parents(self) -> tuple[str, ...]:
        """Ids of the parents that others have trained."""
        own = {segment.id for segment in self.segments}
        all_ = dict.fromkeys(s.spec.parent for s in self.segments if s.spec.parent)
        return tuple(parent for parent in all_ if parent not in own)


def energies_missing(plan: Plan, exists: Exists) -> tuple[tuple[PlannedEnergies, ...], ...]:
    """The missing energies, grouped by setting and data."""
    together: dict[str, list[PlannedEnergies]] = {}
    for energies in plan.energies.values():
        if not exists(energies.file):
            together.setdefault(energies.id.partition(".")[0], []).append(energies)
    return tuple(map(tuple, together.values()))


def untrained(plan: Plan, exists: Exists, needed: Iterable[str] = ()) -> set[str]:
    """Ids of the segments to train. Their trajectory is missing, or their state or snapshots are missing and something
    else that is to be made needs them.

    Args:
        plan: the plan with the segments.
        exists: whether a file, relative to the results, exists.
        needed: further files that must exist, such as the inputs of figures that are to be drawn.
    """
    files = set(needed)
    files |= {energies.input for energies in plan.energies.values() if not exists(energies.file)}
    files |= {file for apart in plan.distances.values() if not exists(apart.file) for file in apart.inputs}
    missing = set()
    for segment in reversed(plan.segments.values()):  # children before their parents
        files.add(segment.trajectory)
        if any(file in files and not exists(file) for file in segment.files):
            missing.add(segment.id)
            if segment.spec.parent is not None:
                files.add(plan.segments[segment.spec.parent].state)
    return missing


def batches(plan: Plan, ids: Collection[str]) -> tuple[Batch, ...]:
    """Batches of the segments with these ids.

    A segment shares a batch with all its descendants, if this is at most `batch_steps` refreshes of work (otherwise
    it is alone). It also shares a batch with segments that start from the same parent, or from the initialisation on
    the same data.
    """
    missing = {segment.id: segment for segment in plan.segments.values() if segment.id in ids}
    children: dict[str | None, list[PlannedSegment]] = {}
    for segment in missing.values():
        parent = segment.spec.parent
        children.setdefault(parent if parent in missing else None, []).append(segment)
    together: dict[tuple[str, ...], list[list[PlannedSegment]]] = {}
    parts: list[list[PlannedSegment]] = []
    todo = list(children.get(None, []))
    while todo:
        segment = todo.pop(0)
        family = [segment, *_descendants(segment, children)]
        if len(family) > 1 and _refreshes(family) > plan.batch_steps:
            parts.append([segment])  # alone, because others wait for it
            todo += children[segment.id]
        else:
            parent = segment.spec.parent
            together.setdefault((parent,) if parent else segment.subsets, []).append(family)
    for families in together.values():
        parts += _split(families, plan.batch_steps)
    return tuple(
        Batch(
            part[0].id,
            tuple(part),
            round(_refreshes(part)),
            round(_refreshes({d.id: d for s in part for d in (s, *_descendants(s, children))}.values())),
        )
        for part in parts
    )


def _split(families: list[list[PlannedSegment]], limit: int) -> Iterator[list[PlannedSegment]]:
    current: list[PlannedSegment] = []
    for family in families:
        current += family
        if _refreshes(current) >= limit:
            yield current
            current = []
    if current:
        yield current


def _descendants(segment: PlannedSegment, children: dict[str | None, list[PlannedSegment]]) -> Iterator[PlannedSegment]:
    todo = children.get(segment.id, [])[::-1]
    while todo:
        child = todo.pop()
        yield child
        todo += children.get(child.id, [])[::-1]


def _refreshes(segments: Iterable[PlannedSegment]) -> float:
    return sum(expected_refreshes(segment.spec) for segment in segments)


def expected_refreshes(spec: SegmentSpec) -> float:
    """Rough cost for packing, in refreshes of the dominant subspace. One refresh costs about as much as thirty plain
    steps, and a probe of the 2k largest eigenvalues costs as much as two refreshes."""
    steps = spec.stop.steps if spec.stop.steps is not None else spec.stop.step or 0
    refreshes = 0.0
    for numbers in spec.probes.values():
        refreshes += numbers.measurement().eigenpairs * steps / numbers.every
    if spec.filter is not None and spec.filter.alpha_dom != spec.filter.beta_bulk:
        refreshes += steps / spec.filter.expected_interval
    data = spec.problem.data
    if data.holdout:  # the Hessian uses only these examples, but a refresh has further costs
        refreshes *= max(data.holdout / data.examples, 0.2)
    cost = (steps / 30 + refreshes) * spec.problem.model.product_cost
    return cost / 50 if spec.problem.loss == "value" else cost  # a toy's cost is negligible compared with a network's
