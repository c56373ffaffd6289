"""What was run: settings, data, software and totals, from the datasets' specifications and provenance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import xarray as xr

from analysis.data.catalogue import describe
from analysis.report import words
from analysis.report.runs import Datasets, provenance
from analysis.runs.numbers import NOTHING
from analysis.runs.panels import specification
from analysis.runs.words import what_was_run
from analysis.specs.panels import PanelSpec

SOFTWARE = {"python": "Python", "torch": "torch", "numpy": "numpy", "xarray": "xarray", "netcdf4": "netCDF4"}
MACHINE = {"machine": "machine", "device": "device", "threads": "threads of each process"}
BEFORE_DEVICES = {"device": "cpu"}  # of datasets that do not say: there was no other then


@dataclass(frozen=True)
class Setting:
    """A row: model, data and loss in lines, and the numbers in which its segments differ."""

    name: str
    label: str
    what: list[str]
    k: str
    learning_rates: str
    batches: str
    holdouts: str
    seeds: str
    dtype: str
    segments: int
    steps: int


@dataclass(frozen=True)
class Subset:
    name: str
    title: str
    examples: str
    synthetic: bool
    sha256: str


def settings_of(panels: Iterable[PanelSpec], labels: Mapping[str, str], datasets: Datasets) -> list[Setting]:
    """A row for each setting whose runs were read."""
    segments: dict[str, dict[str, xr.Dataset]] = {}
    for panel in panels:
        ids = [name for path in panel.paths() for name in path if name in datasets.read]
        segments.setdefault(panel.setting, {}).update({name: datasets[name] for name in ids})
    return [_setting(name, labels[name], list(read.values())) for name, read in segments.items() if read]


def _setting(name: str, label: str, segments: list[xr.Dataset]) -> Setting:
    specs = [specification(segment) for segment in segments]
    problems, rules = [s["problem"] for s in specs], [s["rule"] for s in specs]
    ks = {p["k"] for p in problems}
    filters = {s["filter"]["k"] for s in specs if s["filter"] and s["filter"]["k"]} - ks
    batches = {r["batch_size"] for r in rules}
    sizes = [*(["full"] if None in batches else []), *map(words.number, sorted(batches - {None}))]
    return Setting(
        name,
        label,
        what_was_run(segments[0]).splitlines()[:2],  # a third line has the holdout, which may vary
        words.numbers(ks) + (f"; filters also {words.numbers(filters)}" if filters else ""),
        words.numbers(r["learning_rate"] for r in rules),
        ", ".join(sizes),
        words.numbers(p["data"]["holdout"] for p in problems),
        words.numbers(s["seed"] for s in specs),
        ", ".join(sorted({p["dtype"] for p in problems})),
        len(segments),
        _steps(segments),
    )


def _steps(segments: Iterable[xr.Dataset]) -> int:
    return sum(int(s.attrs["last_step"] - s.attrs["first_step"]) for s in segments)


def subsets_of(datasets: Datasets) -> list[Subset]:
    """The data, those trained on first, with the numbers of examples that runs took."""
    used: dict[tuple[str, str], set[int]] = {}
    for part, count in (("train", "examples"), ("test", "test_examples")):
        for segment in datasets.of_kind("trajectory").values():
            data = specification(segment)["problem"]["data"]
            used.setdefault((data[part], data[f"{part}_sha256"]), set()).add(data[count])
    return [
        Subset(name, describe(name).title, words.numbers(counts), describe(name).synthetic, sha256)
        for (name, sha256), counts in used.items()
    ]


def environment_of(datasets: Datasets) -> list[tuple[str, str]]:
    """Software, machine, device and threads, each with all values that the datasets have."""
    made = [provenance(name, dataset) for name, dataset in datasets.read.items()]
    rows = []
    for key, title in (SOFTWARE | MACHINE).items():
        values = {str(p.get(key, BEFORE_DEVICES.get(key, ""))) for p in made} - {""}
        rows.append((title, ", ".join(sorted(values)) or NOTHING))
    return rows


def totals_of(datasets: Datasets) -> list[tuple[str, str]]:
    """How much was computed, and what did not go as it should."""
    segments, energies = datasets.of_kind("trajectory"), datasets.of_kind("energies")
    runs = segments.values()
    products = sum(int(s.attrs["probe_products"] + s.attrs["filter_products"]) for s in runs)
    products_energies = sum(int(e.energy_products.sum()) for e in energies.values())
    diverged = [name for name, s in segments.items() if s.attrs["status"] == "diverged"]
    halvings = sum(len(provenance(name, s).get("chunk_halvings", [])) for name, s in segments.items())
    spectra = [s.converged for s in runs if "converged" in s]
    rows = [
        ("segments of training", f"{len(segments):,}, {_steps(runs):,} steps, {_seconds(segments)} in all of them"),
        ("curvature along segments", f"{len(energies):,}, {_seconds(energies)}"),
        ("Hessian products", f"{products:,} in training, {products_energies:,} for energies"),
        ("diverged segments", f"{len(diverged)}" + (f": {', '.join(diverged)}" if diverged else "")),
        ("refreshes of the dominant subspace", _refreshes(runs)),
        ("measured spectra", _unconverged(sum(int((c == 0).sum()) for c in spectra), sum(c.size for c in spectra))),
        (
            "effective learning rates",
            f"{sum(int(s.attrs.get('unconverged_rates', 0)) for s in runs):,} of an unconverged "
            f"subspace, of {sum(s.sizes.get('rate_step', 0) for s in runs):,}",
        ),
    ]
    if halvings:
        rows.append(("memory ran out", f"{halvings:,} times; the chunk of examples was halved, to the same numbers"))
    return rows


def _refreshes(runs: Iterable[xr.Dataset]) -> str:
    names = ("unconverged_refreshes", "refreshes", "missed_refreshes")
    unconverged, refreshes, missed = (sum(int(s.attrs.get(name, 0)) for s in runs) for name in names)
    late = f", {missed:,} later than their accuracy needed" if missed else ""
    return _unconverged(unconverged, refreshes) + late


def _unconverged(part: int, whole: int) -> str:
    return f"{whole:,}, {part:,} of them unconverged"


def _seconds(made: Mapping[str, xr.Dataset]) -> str:
    return words.span(sum(float(provenance(name, dataset).get("seconds", 0)) for name, dataset in made.items()))
