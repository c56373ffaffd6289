"""Estimates the cost of a plan from counted work, measured rates, and products per refresh of earlier runs.

The number of products of a refresh depends on how far θ moved since the last one, and on the spectrum. No short
measurement gives it, so it is read from existing trajectories of the nearest kind.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import xarray as xr

from analysis.costs.calibration import Cost, Rates, alike, measure
from analysis.costs.workload import Solve, Work, disk_bytes, energies_work, memory_bytes, training_work
from analysis.plan.plan import Plan
from analysis.runs.panels import probes_of
from analysis.specs import EnergiesSpec, ProblemSpec, RuleNumbers, SegmentSpec
from analysis.store.netcdf import PROVENANCE
from sharpflat.errors import InputError


@dataclass(frozen=True)
class Refreshes:
    """Products that refreshes of one kind used in one run."""

    run: str  # the id of its segment or energies
    use: str
    model: str
    every: int
    tolerance: float
    vectors: int  # number of requested eigenpairs in all refreshes
    products: int


class Experience:
    """Products per refresh, by the use of the refresh."""

    def __init__(self, found: Iterable[Refreshes]) -> None:
        self.found: dict[str, list[Refreshes]] = defaultdict(list)
        for refreshes in found:
            if refreshes.vectors and refreshes.products:
                self.found[refreshes.use].append(refreshes)

    def products(self, solve: Solve, model: str, run: str | None = None) -> float:
        """The products of all refreshes of this kind, with as many per eigenpair as in the nearest runs.

        If the run itself is known, only it counts, and a filter has as many refreshes as it had (an accuracy may have
        decided their number). Otherwise these are runs of the same model if there are any, and among them those with
        the nearest tolerance and interval (on a logarithmic scale). If no run has this kind, runs of any kind are used.

        Raises:
            InputError: there is no such run.
        """
        if not solve.count:
            return 0.0
        everything = [one for uses in self.found.values() for one in uses]
        if not (known := self.found.get(solve.use) or everything):
            raise InputError(f"no trajectory on disk shows how many products a refresh for {solve.use} takes")

        def distance(one: Refreshes) -> tuple[bool, float]:
            apart = abs(math.log(one.tolerance / solve.tolerance)) + abs(math.log(one.every / solve.every))
            return one.model != model, round(apart, 6)

        nearest = min(map(distance, known))
        same = [one for one in known if one.run == run]
        near = same or [one for one in known if distance(one) == nearest]
        each = sum(one.products for one in near) / sum(one.vectors for one in near)
        vectors = same[0].vectors if same and solve.use == "filter" else solve.count * solve.vectors
        return vectors * max(each, 1.0)


def experience(folders: Iterable[Path]) -> Experience:
    """The experience from all trajectories and energies in `folders` (of results or archives)."""
    return Experience(
        one
        for folder in folders
        for file in sorted([*folder.glob("segments/*/trajectory.nc"), *folder.glob("energies/*.nc")])
        for one in _refreshes(file)
    )


def _refreshes(file: Path) -> Iterable[Refreshes]:
    with xr.open_dataset(file, decode_cf=False, create_default_indexes=False) as dataset:
        attributes, sizes = dataset.attrs, dataset.sizes
        spec = json.loads(attributes["specification"])
        run, model, k = attributes["id"], spec["problem"]["model"]["kind"], spec["problem"]["k"]
        if "segment" in spec:
            count = sizes["snapshot_step"]
            steps = dataset.snapshot_step.values
            work = energies_work(EnergiesSpec.model_validate(spec), count, int(steps[1] - steps[0]) if count > 1 else 1)
            others = 3 * work.joint_products + work.separate_products
            (solve,) = work.solves
            products = int(dataset.energy_products.sum()) - others
            yield Refreshes(run, "energies", model, solve.every, solve.tolerance, count * solve.vectors, products)
            return
        spectra = sizes.get("spectrum_step", 0)
        rates, probes = sizes.get("rate_step", 0), probes_of(spec)
        width = min(2 * k, int(attributes["parameters"]))
        if spectra and not rates:
            yield Refreshes(
                run,
                "spectrum",
                model,
                probes["spectrum"]["every"],
                probes["spectrum"]["tolerance"],
                spectra * width,
                attributes["probe_products"],
            )
        if rates:
            yield Refreshes(
                run,
                "rates",
                model,
                probes["rates"]["every"],
                probes["rates"]["tolerance"],
                rates * k,
                attributes["probe_products"] - 2 * spectra * width,  # one of the spectrum's takes about two a pair
            )
        if spec["filter"] is not None:
            own, tolerance = spec["filter"]["k"] or k, spec["filter"]["tolerance"]
            every, count = spec["filter"]["refresh_every"], attributes["refreshes"]
            if every is None and count:  # as often as an accuracy needed
                every = max(1, (attributes["last_step"] - attributes["first_step"]) // count)
            yield Refreshes(run, "filter", model, every, tolerance, count * own, attributes["filter_products"])


# ---------------------------------------------------------------- the estimate


@dataclass(frozen=True)
class Item:
    """One segment, or the energies along one."""

    id: str
    work: Work
    products: float  # Hessian products; a joint product of three operators counts three
    cost: Cost
    disk: float  # bytes
    memory: float  # bytes


@dataclass(frozen=True)
class Estimate:
    """The estimates by id of segments and energies. `figures` has the ids of each figure and of the claims."""

    items: dict[str, Item]
    figures: dict[str, tuple[str, ...]]
    cost_alone: Cost  # if each run were trained from its initialisation
    seconds_found: dict[str, float] = field(default_factory=dict)  # what those that are there took

    def total(self, ids: Iterable[str]) -> Item:
        chosen = [self.items[i] for i in ids]
        return Item(
            "",
            sum((item.work for item in chosen), Work()),
            sum(item.products for item in chosen),
            sum((item.cost for item in chosen), Cost()),
            sum(item.disk for item in chosen),
            max((item.memory for item in chosen), default=0.0),
        )


def estimate(
    plan: Plan,
    results: Path,
    references: Path,
    tell: Callable[[str], None] = lambda text: None,
    measured: Callable[..., Rates] = measure,
) -> Estimate:
    """Estimates all training and measuring of a plan, but not the drawing, which takes minutes for any plan.

    Args:
        plan: the plan. Work that is already done counts too.
        results: the plan's results, for the time that their runs took.
        references: the folder of the archives.
        tell: function that is called with a line of progress.
        measured: a function like `measure`.

    Raises:
        InputError: there are no trajectories on which to base the estimate.
    """
    folders = [results, *sorted(path for path in references.glob("*") if path.is_dir())]
    known = experience(folders)
    rules: dict[ProblemSpec, set[RuleNumbers]] = {}
    for segment in plan.segments.values():
        rules.setdefault(segment.spec.problem, set()).add(segment.spec.rule)
    along = {energies.spec.problem for energies in plan.energies.values()}
    rates: dict[ProblemSpec, Rates] = {}
    for number, (problem, used) in enumerate(rules.items(), 1):
        tell(f"measuring {number} of {len(rules)}: {problem.model.kind} on {problem.data.train}")
        rates[problem] = measured(problem, used, energies=problem in along)
    items: dict[str, Item] = {}
    lengths = plan.lengths()
    for segment in plan.segments.values():
        work = training_work(segment.spec, lengths[segment.id])
        items[segment.id] = _item(segment.id, work, segment.spec, rates[segment.spec.problem], known)
    for energies in plan.energies.values():
        of = plan.segments[energies.spec.segment]
        every = of.spec.probes["snapshots"].every
        work = energies_work(energies.spec, items[of.id].work.snapshots, every)
        found = _cost(energies.id, work, of.spec, rates[of.spec.problem], known)
        items[energies.id] = Item(energies.id, work, found[0], found[1], 0.0, memory_bytes(energies.spec))
    figures = {figure.name: _ids(figure.inputs, items) for figure in (*plan.figures.values(), plan.claims)}
    alone = sum((items[i].cost for path in plan.run_paths() for i in path), Cost())
    return Estimate(items, figures, alone, _seconds(results, items))


def _ids(inputs: Iterable[str], items: Mapping[str, Item]) -> tuple[str, ...]:
    """Segments and energies among the datasets of a figure: segments/<id>/…, energies/<id>.nc."""
    parts = (file.split("/")[1].removesuffix(".nc") for file in inputs)
    return tuple(dict.fromkeys(part for part in parts if part in items))


def _item(name: str, work: Work, spec: SegmentSpec, rates: Rates, known: Experience) -> Item:
    products, cost = _cost(name, work, spec, rates, known)
    return Item(name, work, products, cost, disk_bytes(spec, work), memory_bytes(spec))


def _cost(name: str, work: Work, spec: SegmentSpec, rates: Rates, known: Experience) -> tuple[float, Cost]:
    solved = sum(known.products(solve, spec.problem.model.kind, name) for solve in work.solves)
    cost = (
        rates.updates[alike(spec.rule)] * work.updates
        + rates.evaluation * work.evaluations
        + rates.test * work.tests
        + rates.product * (solved + work.probe_products)
        + rates.joint_product * work.joint_products
        + rates.separate_product * work.separate_products
    )
    return solved + work.probe_products + 3 * work.joint_products + work.separate_products, cost


def _seconds(results: Path, ids: Iterable[str]) -> dict[str, float]:
    """The time that existing results took, from their provenance."""
    found = {}
    for name in ids:
        for file in (results / "segments" / name / "trajectory.nc", results / "energies" / f"{name}.nc"):
            if file.exists():
                with xr.open_dataset(file, decode_cf=False, create_default_indexes=False) as dataset:
                    found[name] = float(json.loads(dataset.attrs[PROVENANCE])["seconds"])
    return found
