"""Counts the work of a plan from specifications alone: steps, evaluations, Hessian products, memory, disk space.

Like all planning, it does not import torch. `analysis.costs.calibration` measures the cost of each kind of work.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from analysis.data.catalogue import describe
from analysis.plan.problems import parameter_count
from analysis.specs import EnergiesSpec, ProbeNumbers, ProblemSpec, SegmentSpec

GUARD = 2  # vectors that the eigensolver carries along beyond k, see sharpflat.curvature.eigensolver
PROCESS_BYTES = 600e6  # of Python with torch and xarray, before any data (resident, measured)
CHUNK_BYTES = 1.5e9  # an objective's memory budget on a CPU, and what products take beyond it
USUAL_TOLERANCE = 1e-2  # of a probe that does not say its own
ROUNDS = 4  # of blocks that a refresh takes into its search space, as a rule


@dataclass(frozen=True)
class Solve:
    """Refreshes of one kind: `count` times the `vectors` largest eigenpairs, `every` so many steps."""

    use: str  # filter, energies, or a probe's kind
    count: int
    vectors: int
    every: int
    tolerance: float


@dataclass(frozen=True)
class Work:
    """Counts of work.

    Attributes:
        updates: steps of the update rule, with their gradients.
        evaluations: values with gradients of the full batch, without those of the updates.
        tests: evaluations of the test data.
        joint_products: vectors multiplied by H, H_o and H_f at once.
        separate_products: vectors multiplied by one of the three, one after the other.
        snapshots: copies of θ that are written.
        probe_products: vectors multiplied by H in probes that know their number beforehand.
    """

    updates: int = 0
    evaluations: int = 0
    tests: int = 0
    joint_products: int = 0
    separate_products: int = 0
    snapshots: int = 0
    solves: tuple[Solve, ...] = ()
    probe_products: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def refreshes(self) -> int:
        """Number of eigenspaces computed for any purpose."""
        return sum(solve.count for solve in self.solves)


def training_work(spec: SegmentSpec, steps: int) -> Work:
    """The work of a segment with `steps` steps."""
    problem = spec.problem
    parameters = parameter_count(problem)
    solves = []
    if spec.filter is not None and spec.filter.alpha_dom != spec.filter.beta_bulk:
        k, every = spec.filter.k or problem.k, spec.filter.expected_interval
        solves.append(Solve("filter", math.ceil(steps / every), k, every, spec.filter.tolerance))
    counts = {"tests": 0, "products": 0, "stored": 0}
    for kind, numbers in spec.probes.items():
        times, takes = _times(steps, numbers), numbers.measurement()
        for name in counts:
            counts[name] += times * getattr(takes, name)
        if takes.eigenpairs:
            vectors = min(takes.eigenpairs * problem.k, parameters)
            solves.append(Solve(kind, times, vectors, numbers.every, getattr(numbers, "tolerance", USUAL_TOLERANCE)))
    return Work(
        updates=steps,
        evaluations=0 if spec.rule.batch_size is None else _evaluations(spec, steps),
        tests=counts["tests"],
        snapshots=counts["stored"],
        probe_products=counts["products"],
        solves=tuple(solves),
    )


def energies_work(spec: EnergiesSpec, snapshots: int, every: int) -> Work:
    """The work of the curvature stage for this number of snapshots."""
    k = min(spec.problem.k, parameter_count(spec.problem))
    steps = min(spec.density_steps, parameter_count(spec.problem))
    return Work(
        joint_products=snapshots * (k + spec.probes),
        separate_products=snapshots * 3 * spec.density_probes * steps,
        solves=(Solve("energies", snapshots, k, every, spec.tolerance),),
    )


def _times(steps: int, numbers: ProbeNumbers) -> int:
    """The number of a probe's measurements, including the first step and, unless it measures updates, the last step."""
    return math.ceil(steps / numbers.every) + (numbers.place != "update")


def _evaluations(spec: SegmentSpec, steps: int) -> int:
    """The number of steps at which a probe needs the full batch's loss or gradient."""
    needing = [numbers for numbers in spec.probes.values() if numbers.measurement().gradient]
    at = {step for numbers in needing for step in range(0, steps, numbers.every)}
    return len(at | {steps})


# ---------------------------------------------------------------- memory and disk


def memory_bytes(spec: SegmentSpec | EnergiesSpec) -> float:
    """Approximate memory of a process: libraries, data, one chunk's graph, the eigensolver's vectors with their
    images."""
    problem, k = spec.problem, spec.problem.k
    vector = _vector_bytes(problem)
    width = 2 * k if isinstance(spec, SegmentSpec) else k
    vectors = 2 * ROUNDS * (width + GUARD) + 4 * (k + GUARD)
    if isinstance(spec, EnergiesSpec):
        vectors = max(vectors, 4 * (k + spec.probes), spec.density_probes * spec.density_steps)
    return PROCESS_BYTES + 2 * _data_bytes(problem) + CHUNK_BYTES + vector * vectors


def disk_bytes(spec: SegmentSpec, work: Work) -> float:
    """Approximate size of a segment's files before compression: its state, with the starts of the next refreshes, and
    its snapshots."""
    k = spec.problem.k
    widths = [numbers.measurement().eigenpairs for numbers in spec.probes.values()] + [int(spec.filter is not None)]
    blocks = sum(width * k + GUARD for width in widths if width)
    return _vector_bytes(spec.problem) * (1 + spec.rule.remembered + blocks + work.snapshots)


def _vector_bytes(problem: ProblemSpec) -> float:
    return parameter_count(problem, describe(problem.data.train).words) * (8 if problem.dtype == "float64" else 4)


def _data_bytes(problem: ProblemSpec) -> float:
    data, info = problem.data, describe(problem.data.train)
    values = data.max_length * 2 if info.kind == "text" else math.prod(info.shape) / data.pooling**2
    return (data.examples + data.test_examples) * values * (8 if problem.dtype == "float64" else 4)
