"""The measurements along a segment so far, and the datasets made from them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from analysis.specs import SegmentSpec
from analysis.store.words import STEP, Words, describe
from analysis.training.probes import BaseProbe, Variable

SCHEMA, SNAPSHOTS_SCHEMA = "trajectory-2", "snapshots-1"
REFRESH_STEP = "refresh_step"
REFRESHES = {
    "overlap": Variable(
        Words(
            "overlap with the subspace before",
            "|U^T U'|_F^2 / k of the filter's bases U and U' before and after this refresh; NaN: the first refresh",
        )
    ),
    "refresh_products": Variable(
        Words("Hessian products of the refresh", "used by this refresh of the filter's subspace"), dtype="int64"
    ),
    "refresh_converged": Variable(
        Words("refresh converged", "1: the refresh's eigensolver reached its tolerance; 0: it did not"), dtype="int64"
    ),
    "refresh_interval": Variable(
        Words(
            "steps since the refresh before", "updates between this refresh and the one before; 0: the first refresh"
        ),
        dtype="int64",
    ),
    "refresh_error": Variable(
        Words(
            "error of the subspace before",
            "relative error that this step's filtered update would have with the subspace before; NaN: the first "
            "refresh",
        )
    ),
    "refresh_kept": Variable(
        Words(
            "accuracy kept",
            "1: the steps before met the requested accuracy, or none was requested; 0: they missed it",
        ),
        dtype="int64",
    ),
}
TRAJECTORY = Words(
    "Measurements along a segment of training",
    "One update rule, from the parent's last state. A run is a path of segments (attribute `specification`, in JSON: "
    "`parent`); analysis.open_runs puts runs together. Each kind of measurement has steps of its own for a dimension.",
)
SNAPSHOTS = Words("Parameters along a segment of training", "theta at chosen steps; see the segment's trajectory.nc")


@dataclass(frozen=True)
class Schedule:
    """When a probe measures: at multiples of its interval in global steps, and at the segment's first and last step."""

    first_step: int
    interval: int

    def due(self, step: int, last: bool) -> bool:
        return last or step == self.first_step or step % self.interval == 0


class Records:
    """Rows by variable. The rows of a dimension itself are its steps."""

    def __init__(self, rows: dict[str, list[Any]] | None = None) -> None:
        self.rows: dict[str, list[Any]] = rows if rows is not None else {}

    def add(self, dimension: str, step: int, **values: Any) -> None:
        """Adds one row of the variables along `dimension`, measured at `step`."""
        self.rows.setdefault(dimension, []).append(step)
        for name, value in values.items():
            self.rows.setdefault(name, []).append(value)

    def amend(self, name: str, value: Any) -> None:
        """Replaces the last row of a variable."""
        self.rows[name][-1] = value


def to_trajectory(
    records: Records,
    spec: SegmentSpec,
    probes: Mapping[str, BaseProbe],
    attributes: Mapping[str, Any],
) -> xr.Dataset:
    """The measurements of the probes, each along its own dimension, and the refreshes of the filter if there is one.

    Args:
        records: the rows. A variable without rows is empty.
        spec: becomes the attribute `specification` (JSON).
        probes: the probes by kind. Those with a separate file are left out.
        attributes: id, status and so on. The number `parameters` determines lengths.
    """
    dataset = xr.Dataset(attrs=_attributes(SCHEMA, TRAJECTORY, spec, attributes))
    for kind, probe in probes.items():
        if not spec.probes[kind].apart:
            lengths = probe.lengths(spec.problem.k, attributes["parameters"])
            _enter(dataset, records, probe.dimension, probe.variables, lengths, spec.problem.dtype)
            describe(dataset, probe.coordinates)
    if spec.filter is not None:
        _enter(dataset, records, REFRESH_STEP, REFRESHES, {}, spec.problem.dtype)
    return dataset


def to_snapshots(
    records: Records,
    spec: SegmentSpec,
    probes: Mapping[str, BaseProbe],
    attributes: Mapping[str, Any],
) -> xr.Dataset | None:
    """θ at the snapshots' steps, `theta` (snapshot_step, parameter) in the problem's dtype; None without snapshots."""
    apart = [probe for kind, probe in probes.items() if spec.probes[kind].apart]
    if not apart:
        return None
    dataset = xr.Dataset(attrs=_attributes(SNAPSHOTS_SCHEMA, SNAPSHOTS, spec, attributes))
    for probe in apart:
        lengths = probe.lengths(spec.problem.k, attributes["parameters"])
        _enter(dataset, records, probe.dimension, probe.variables, lengths, spec.problem.dtype, numbered=False)
    return dataset


def _attributes(schema: str, words: Words, spec: SegmentSpec, attributes: Mapping[str, Any]) -> dict[str, Any]:
    specification = json.dumps(spec.model_dump(), sort_keys=True)
    return {**words.of_dataset(), "schema": schema, "specification": specification, **attributes}


def _enter(
    dataset: xr.Dataset,
    records: Records,
    dimension: str,
    variables: Mapping[str, Variable],
    lengths: Mapping[str, int],
    dtype: str,
    numbered: bool = True,
) -> None:
    """Adds the rows of variables. If `numbered`, their other dimensions are numbered from 1, as in λ_1."""
    steps = np.asarray(records.rows.get(dimension, []), dtype=np.int64)
    dataset.coords[dimension] = dimension, steps, STEP.attributes()
    for name in lengths if numbered else ():
        dataset.coords[name] = np.arange(1, lengths[name] + 1)
    for name, variable in variables.items():
        rows = np.asarray(records.rows.get(name, []), dtype=variable.dtype or dtype)
        shape = (len(steps), *(lengths[inner] for inner in variable.dimensions))
        dataset[name] = ((dimension, *variable.dimensions), rows.reshape(shape), variable.words.attributes())
