"""What was measured along a segment so far, and the datasets it becomes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from analysis.specs import SegmentSpec
from analysis.training.probes import BaseProbe, Variable

SCHEMA, SNAPSHOTS_SCHEMA = "trajectory-2", "snapshots-1"
REFRESH_STEP = "refresh_step"
REFRESHES = {
    "overlap": Variable("overlap of the filter's subspace with the one before this refresh (NaN: the first)"),
    "refresh_products": Variable("Hessian products that this refresh of the filter's subspace used", dtype="int64"),
    "refresh_converged": Variable("1 where the refresh's eigensolver reached its tolerance", dtype="int64"),
    "refresh_interval": Variable("steps since the refresh before (0: the first)", dtype="int64"),
    "refresh_error": Variable("relative error of the filtered update with the subspace before (NaN: the first)"),
    "refresh_kept": Variable("1 where the steps before kept to the accuracy asked for, if one is", dtype="int64"),
}


@dataclass(frozen=True)
class Schedule:
    """A probe runs at multiples of its interval in global steps, and at the segment's first and last step."""

    first_step: int
    interval: int

    def due(self, step: int, last: bool) -> bool:
        return last or step == self.first_step or step % self.interval == 0


class Records:
    """Rows by variable; a dimension's own rows are its steps."""

    def __init__(self, rows: dict[str, list[Any]] | None = None) -> None:
        self.rows: dict[str, list[Any]] = rows if rows is not None else {}

    def add(self, dimension: str, step: int, **values: Any) -> None:
        """One row of the variables along `dimension`, measured at `step`."""
        self.rows.setdefault(dimension, []).append(step)
        for name, value in values.items():
            self.rows.setdefault(name, []).append(value)

    def amend(self, name: str, value: Any) -> None:
        """Replace the last row of a variable."""
        self.rows[name][-1] = value


def to_trajectory(
    records: Records,
    spec: SegmentSpec,
    probes: Mapping[str, BaseProbe],
    attributes: Mapping[str, Any],
) -> xr.Dataset:
    """What the probes measured, each along its own dimension, and the filter's refreshes where there is a filter.

    Args:
        records: a variable without a row is there and empty.
        spec: kept as the attribute `specification` (JSON).
        probes: by kind; those that are kept apart are left out.
        attributes: id, status and the like; `parameters`, their number, decides lengths.
    """
    dataset = xr.Dataset(attrs=_attributes(SCHEMA, spec, attributes))
    for kind, probe in probes.items():
        if not spec.probes[kind].apart:
            lengths = probe.lengths(spec.problem.k, attributes["parameters"])
            _enter(dataset, records, probe.dimension, probe.variables, lengths, spec.problem.dtype)
    if spec.filter is not None:
        _enter(dataset, records, REFRESH_STEP, REFRESHES, {}, spec.problem.dtype)
    return dataset


def to_snapshots(
    records: Records,
    spec: SegmentSpec,
    probes: Mapping[str, BaseProbe],
    attributes: Mapping[str, Any],
) -> xr.Dataset | None:
    """θ at the snapshots' steps, `theta` (snapshot_step, parameter) in the problem's dtype; None if not asked for."""
    apart = [probe for kind, probe in probes.items() if spec.probes[kind].apart]
    if not apart:
        return None
    dataset = xr.Dataset(attrs=_attributes(SNAPSHOTS_SCHEMA, spec, attributes))
    for probe in apart:
        lengths = probe.lengths(spec.problem.k, attributes["parameters"])
        _enter(dataset, records, probe.dimension, probe.variables, lengths, spec.problem.dtype, numbered=False)
    return dataset


def _attributes(schema: str, spec: SegmentSpec, attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {"schema": schema, "specification": json.dumps(spec.model_dump(), sort_keys=True), **attributes}


def _enter(
    dataset: xr.Dataset,
    records: Records,
    dimension: str,
    variables: Mapping[str, Variable],
    lengths: Mapping[str, int],
    dtype: str,
    numbered: bool = True,
) -> None:
    """Enter the rows of variables; dimensions beyond `dimension` are numbered from 1, as in λ_1, if `numbered`."""
    steps = np.asarray(records.rows.get(dimension, []), dtype=np.int64)
    dataset.coords[dimension] = steps
    for name in lengths if numbered else ():
        dataset.coords[name] = np.arange(1, lengths[name] + 1)
    for name, variable in variables.items():
        rows = np.asarray(records.rows.get(name, []), dtype=variable.dtype or dtype)
        shape = (len(steps), *(lengths[inner] for inner in variable.dimensions))
        dataset[name] = ((dimension, *variable.dimensions), rows.reshape(shape), {"long_name": variable.meaning})
