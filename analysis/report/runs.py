"""What the figures' panels were made from: their runs, in rows, with links to the datasets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any
from urllib.parse import quote

import xarray as xr

from analysis.report import words
from analysis.runs.panels import specification
from analysis.runs.words import how_it_was_run, what_was_run
from analysis.specs.panels import Ids, PanelSpec
from analysis.store.netcdf import read_dataset
from sharpflat.errors import InputError

SNAPSHOTS = "/snapshots"


class Datasets:
    """The datasets of all figures, each read once; snapshots are only linked."""

    def __init__(self, files: Mapping[str, Path], base: str) -> None:
        self.base = base
        self.files = files
        self.read = {name: read_dataset(path) for name, path in files.items() if not name.endswith(SNAPSHOTS)}

    def __getitem__(self, name: str) -> xr.Dataset:
        self.check(name)
        return self.read[name]

    def check(self, name: str) -> None:
        """
        Raises:
            InputError: if there is no such dataset.
        """
        if name not in self.files:
            raise InputError(f"{name}: a figure is made from it, but it is not among the report's datasets")
        if not self.files[name].is_file():
            raise InputError(f"{self.files[name]}: there is no such file")

    def of_kind(self, kind: str) -> dict[str, xr.Dataset]:
        """Those of one schema ("trajectory", "energies"), whatever its version."""
        return {n: d for n, d in self.read.items() if d.attrs.get("schema", "").rpartition("-")[0] == kind}

    def segment(self, name: str) -> Link:
        """To a segment's trajectory."""
        self.check(name)
        return Link(name, self._href(f"segments/{name}/trajectory.nc"))

    def snapshots(self, name: str) -> Link:
        self.check(name + SNAPSHOTS)
        return Link("snapshots", self._href(f"segments/{name}/snapshots.nc"))

    def other(self, folder: str, name: str) -> Link:
        """To energies or distances."""
        self.check(name)
        return Link(folder, self._href(f"{folder}/{name}.nc"))

    def _href(self, file: str) -> str:
        return self.base + quote(file)


@dataclass(frozen=True)
class Link:
    text: str
    href: str


@dataclass(frozen=True)
class Run:
    """A row: what was run, and what it ended with."""

    label: str
    varied: str
    how: str
    steps: int
    status: str
    loss: str
    sharpness: str
    alignment: str
    links: list[list[Link]]  # of each segment


@dataclass(frozen=True)
class Runs:
    """One panel's rows."""

    setting: str
    what: list[str]
    rows: list[Run]
    distances: Link | None


def runs_of(panel: PanelSpec, datasets: Datasets) -> Runs:
    """The rows of a planned panel.

    Raises:
        InputError: if a dataset is missing.
    """
    members = list(panel.members())
    rows = [_run(label, words.varied(varied), path, panel, datasets) for label, varied, path in members]
    what = what_was_run(datasets[members[0][2][-1]]).splitlines()
    if any("holdout" in varied for _, varied, _ in members):
        what = what[:2]  # the third line has one run's holdout
    distances = datasets.other("distances", panel.distances) if panel.distances else None
    return Runs(panel.setting, what, rows, distances)


def _run(label: str, varied: str, path: Ids, panel: PanelSpec, datasets: Datasets) -> Run:
    segments = [datasets[name] for name in path]
    last = segments[-1]
    rules = xr.Dataset(attrs={**last.attrs, "specifications": [s.attrs["specification"] for s in segments]})
    spectrum = last.sizes.get("spectrum_step", 0)
    return Run(
        label,
        varied,
        how_it_was_run(rules),
        last.attrs["last_step"],
        last.attrs["status"]
        if last.attrs["status"] != "diverged"
        else f"diverged at step {last.attrs['diverged_at']:,}",
        words.number(_last(last.loss) if "loss" in last and last.attrs["status"] != "diverged" else nan),
        words.number(_last(last.eigenvalues.sel(index=1)) if spectrum else nan),
        words.number(_last(last.alignment) if spectrum else nan, 3),
        [_links(name, panel, datasets) for name in path],
    )


def _links(name: str, panel: PanelSpec, datasets: Datasets) -> list[Link]:
    links = [datasets.segment(name)]
    if panel.snapshots:
        links.append(datasets.snapshots(name))
    if panel.energies:
        links.append(datasets.other("energies", panel.energies[name]))
    return links


def _last(values: xr.DataArray) -> float:
    return float(values[-1]) if values.size else nan


def labels_of(panels: list[PanelSpec], datasets: Datasets) -> dict[str, str]:
    """What people call each setting: its title, with the loss if that is cross-entropy."""
    labels: dict[str, str] = {}
    for panel in panels:
        known = [path[-1] for path in panel.paths() if path[-1] in datasets.read]
        crossed = any(specification(datasets[name])["problem"]["loss"] == "cross_entropy" for name in known)
        labels.setdefault(panel.setting, panel.title + (", cross-entropy" if crossed else ""))
    return labels


def provenance(name: str, dataset: xr.Dataset) -> dict[str, Any]:
    """
    Raises:
        InputError: if the dataset has none.
    """
    try:
        return json.loads(dataset.attrs["provenance"])
    except (KeyError, ValueError):
        raise InputError(f"{name}: has no provenance; it was not written by this pipeline") from None
