"""Reads trajectories: a run from its segments, and the panels of a figure or claim from runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from analysis.specs import StoppedBy
from analysis.specs.kinds import PROBES, kinds, numbers_of
from analysis.specs.panels import PanelSpec

_OF_A_REFRESH = ("products", "converged", "interval", "error", "kept")
_REFRESHES = dict.fromkeys(("overlap", *(f"refresh_{name}" for name in _OF_A_REFRESH)), ("refresh_step",))


@dataclass(frozen=True)
class Member:
    """One run of a family of runs that differ in a few numbers.

    Attributes:
        varied: these numbers by name: seed, learning_rate, batch_size, holdout, k, refresh_every, step (where the
            segment before the switch ends), alpha_dom, beta_bulk.
        run: the dataset of the run from its first step.
        segments: the ids of its segments.
    """

    varied: dict[str, float]
    run: xr.Dataset
    segments: list[str]


@dataclass(frozen=True)
class Panel:
    """One setting of a figure or a claim: its runs by label, each from its first step.

    If the panel reads them, a run has `theta` along `snapshot_step` or the results of the curvature stage
    (`analysis.measurement.energies`), and `distances` are those between the two runs. A label whose segments vary is in
    `families`, in the order of the configuration, and not in `runs`. `absent` describes the runs that an archive lacks.
    """

    setting: str
    title: str
    runs: dict[str, xr.Dataset]
    segments: dict[str, list[str]]
    distances: xr.Dataset | None = None
    families: dict[str, list[Member]] = field(default_factory=dict)
    absent: tuple[str, ...] = ()

    def alike(self, *names: str) -> list[tuple[dict[str, float], Panel]]:
        """The panel once for each combination of the numbers in which its families vary, with one run for each label.

        Args:
            names: the numbers to separate ("seed"). Other numbers must not vary.

        Returns:
            (values of `names`, a panel without families), in order; only combinations that all families have.

        Raises:
            ValueError: a family varies in another number.
        """
        found: dict[tuple[float, ...], dict[str, Member]] = {}
        for label, members in self.families.items():
            for member in members:
                if set(member.varied) != set(names):
                    raise ValueError(f"{label} varies in {', '.join(member.varied)}, not in {', '.join(names)} alone")
                found.setdefault(tuple(member.varied[n] for n in names), {})[label] = member
        return [
            (
                dict(zip(names, values, strict=True)),
                replace(
                    self,
                    runs=self.runs | {label: m.run for label, m in members.items()},
                    segments=self.segments | {label: m.segments for label, m in members.items()},
                    families={},
                ),
            )
            for values, members in found.items()
            if len(members) == len(self.families)
        ]


def by_name(paths: Iterable[str]) -> dict[str, Path]:
    """Files of datasets by the names that plans use: the segment's id for its trajectory, `<id>/snapshots`, and the
    file name for distances."""
    names = {}
    for path in map(Path, paths):
        own = {"trajectory": path.parent.name, "snapshots": f"{path.parent.name}/snapshots"}
        names[own.get(path.stem, path.stem)] = path
    return names


def read_panels(panels: Iterable[PanelSpec], datasets: Mapping[str, xr.Dataset]) -> list[Panel]:
    """The panels of a figure or claim, with runs that are assembled from segments.

    Args:
        panels: their specifications.
        datasets: by the names that `by_name` gives.
    """
    return [
        Panel(
            panel.setting,
            panel.title,
            {label: _run(path, datasets, panel) for label, path in panel.runs},
            {label: list(path) for label, path in panel.runs},
            datasets[panel.distances] if panel.distances is not None else None,
            {
                label: [Member(varied, _run(path, datasets, panel), list(path)) for varied, path in members]
                for label, members in panel.families
            },
            panel.absent or (),
        )
        for panel in panels
    ]


def _run(path: Sequence[str], datasets: Mapping[str, xr.Dataset], panel: PanelSpec) -> xr.Dataset:
    run = concatenate([datasets[i] for i in path])
    if panel.snapshots:
        taken = _joined([datasets[f"{i}/snapshots"] for i in path], "snapshot_step")
        run = run.assign(theta=taken.theta)
    if panel.energies:
        measured = _joined([datasets[panel.energies[i]] for i in path], "snapshot_step")
        run = run.merge(measured, combine_attrs="override")
    return run


def concatenate(segments: Sequence[xr.Dataset]) -> xr.Dataset:
    """One trajectory from the segments of a path, parents first.

    A child's first measurement is at its parent's last step. The parent's row is dropped there, because the child's row
    also contains the update. Distances stay relative to the start of each segment. Variables that no segment measured
    are empty. Attributes are those of the last segment. `switches` lists the steps at which the later segments begin,
    and `specifications` lists the specifications of all segments. `late_switches` lists the switches that came by
    steps because the alignment had not passed its threshold.
    """
    # (`variables`: making a DataArray costs more than what is done here, and figures assemble hundreds of runs.)
    measured = dict.fromkeys(str(s.variables[name].dims[0]) for s in segments for name in s.data_vars)
    whole = xr.merge([_joined(segments, dimension) for dimension in measured])
    absent = {n: d for n, d in _known_variables().items() if n not in whole and not whole.sizes.get(d[0], 0)}
    sizes = {d: whole.sizes[d] if d in whole.coords else 0 for dimensions in absent.values() for d in dimensions}
    whole = whole.assign_coords({d: np.zeros(0, np.int64) for d in sizes if d not in whole.coords})
    whole = whole.assign({n: (own, np.zeros([sizes[d] for d in own])) for n, own in absent.items()})
    whole.attrs = dict(segments[-1].attrs)
    whole.attrs["switches"] = [int(s.attrs["first_step"]) for s in segments[1:]]
    whole.attrs["specifications"] = [s.attrs["specification"] for s in segments]
    late = [parent.attrs.get("stopped_by") == StoppedBy.STEPS and _may_stop_aligned(parent) for parent in segments[:-1]]
    whole.attrs["late_switches"] = [step for step, by in zip(whole.attrs["switches"], late, strict=True) if by]
    return whole


def _may_stop_aligned(segment: xr.Dataset) -> bool:
    return specification(segment)["stop"]["alignment_ema"] is not None


def _joined(segments: Sequence[xr.Dataset], dimension: str) -> xr.Dataset:
    """The variables along `dimension`. Where two segments meet, the values are those of the later one."""
    measured = [s for s in segments if dimension in s.dims]
    kept = []
    for segment, following in zip(measured, [*measured[1:], None], strict=True):
        if following is not None:
            ends_before = following.variables[dimension].values.min(initial=np.iinfo(np.int64).max)
            segment = segment.isel({dimension: np.flatnonzero(segment.variables[dimension].values < ends_before)})
        kept.append(segment[[n for n in segment.data_vars if dimension in segment.variables[n].dims]])
    return xr.concat(kept, dimension) if len(kept) > 1 else kept[0]


@cache
def _known_variables() -> dict[str, tuple[str, ...]]:
    """The dimensions of all variables that a trajectory can have."""
    known: dict[str, tuple[str, ...]] = {**_REFRESHES}
    for kind in kinds(PROBES):
        if not numbers_of(PROBES, kind).apart:
            probe = import_module(f"analysis.{PROBES}.{kind}").Probe
            known |= {name: (probe.dimension, *variable.dimensions) for name, variable in probe.variables.items()}
    return known


def probes_of(specification: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The numbers of the probes that measured along a segment, by kind, from its specification.

    Datasets that were archived before probes were kinds have the intervals as separate numbers (None: not measured).
    """
    probes = specification["probes"]
    if all(isinstance(numbers, Mapping) for numbers in probes.values()):
        return {kind: dict(numbers) for kind, numbers in probes.items()}
    own = {
        "spectrum": {"tolerance": probes["tolerance"], "ema_factor": probes["ema_factor"]},
        "rates": {"tolerance": probes.get("rates_tolerance")},
    }
    kinds = ("loss", "test", "spectrum", "rates", "snapshots")
    return {k: {"every": probes[k], **own.get(k, {})} for k in kinds if probes.get(k) is not None}


def specification(trajectory: xr.Dataset) -> dict[str, Any]:
    """The segment's specification (`analysis.specs.SegmentSpec` as plain values)."""
    return json.loads(trajectory.attrs["specification"])


def specifications(run: xr.Dataset) -> list[dict[str, Any]]:
    """Those of a run's segments, parents first, or that of a single segment."""
    return [json.loads(text) for text in run.attrs.get("specifications", [run.attrs["specification"]])]
