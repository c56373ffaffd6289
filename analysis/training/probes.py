"""What is measured along a segment, when, and the dataset it becomes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from analysis.specs import SegmentSpec

SCHEMA = "trajectory-2"

# variable -> (dimensions, description, units)
VARIABLES: dict[str, tuple[tuple[str, ...], str]] = {
    "loss": (("step",), "training loss L on the full batch"),
    "gradient_norm": (("step",), "norm of the full-batch gradient"),
    "distance": (("step",), "distance of theta from the segment's start"),
    "test_loss": (("test_step",), "loss on the test split"),
    "test_accuracy": (("test_step",), "fraction of the test split classified correctly"),
    "eigenvalues": (("spectrum_step", "index"), "largest eigenvalues of the loss Hessian, descending"),
    "residual": (("spectrum_step",), "largest residual norm of these eigenpairs"),
    "converged": (("spectrum_step",), "1 where the eigensolver reached its tolerance"),
    "alignment": (("spectrum_step",), "chi_k of the full-batch gradient"),
    "alignment_ema": (("spectrum_step",), "exponential moving average of alignment over measurements"),
    "update_alignment": (("spectrum_step",), "chi_k of the update made at this step (NaN: none was made)"),
    "stability_threshold": (("spectrum_step",), "sharpness beyond which the update rule is unstable (NaN: not known)"),
    "probe_products": (("spectrum_step",), "Hessian products used by the probes so far"),
    "filter_products": (("spectrum_step",), "Hessian products used by the subspace filter so far"),
    "dom_lr": (("rate_step",), "effective learning rate of this step's update within the dominant subspace"),
    "bulk_lr": (("rate_step",), "effective learning rate of this step's update within the bulk subspace"),
    "overlap": (
        ("refresh_step",),
        "overlap of the filter's subspace with the one before this refresh (NaN: the first)",
    ),
    "refresh_products": (("refresh_step",), "Hessian products that this refresh of the filter's subspace used"),
    "refresh_converged": (("refresh_step",), "1 where the refresh's eigensolver reached its tolerance"),
}
DIMENSIONS = ("step", "test_step", "spectrum_step", "rate_step", "refresh_step")


@dataclass(frozen=True)
class Schedule:
    """A probe runs at multiples of its interval in global steps, and at the segment's first and last step.

    Without an interval it never runs.
    """

    first_step: int
    interval: int | None

    def due(self, step: int, last: bool) -> bool:
        if self.interval is None:
            return False
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


def to_dataset(records: Records, spec: SegmentSpec, count: int, attributes: dict[str, Any]) -> xr.Dataset:
    """The trajectory dataset: variables of `VARIABLES` along steps, `count` eigenvalues a row.

    Args:
        records: what was measured; variables without a row come out empty.
        spec: kept as the attribute `specification` (JSON).
        count: length of the dimension `index` (1-based, as in λ_1).
        attributes: id, status and the like.
    """
    dataset = xr.Dataset(
        coords={name: (name, np.asarray(records.rows.get(name, []), dtype=np.int64)) for name in DIMENSIONS}
        | {"index": np.arange(1, count + 1)},
        attrs={
            "schema": SCHEMA,
            "specification": json.dumps(spec.model_dump(), sort_keys=True),
            **attributes,
        },
    )
    for name, (dimensions, meaning) in VARIABLES.items():
        integer = name.endswith(("converged", "_products"))
        rows = np.asarray(records.rows.get(name, []), dtype=np.int64 if integer else np.float64)
        shape = tuple(dataset.sizes[d] for d in dimensions)
        dataset[name] = (dimensions, rows.reshape(shape), {"long_name": meaning})
    return dataset


def to_snapshots(records: Records, spec: SegmentSpec, attributes: dict[str, Any]) -> xr.Dataset | None:
    """θ at the snapshots' steps, `theta` (snapshot_step, parameter) in the problem's dtype; None if not asked for."""
    if spec.probes.snapshots is None:
        return None
    steps = records.rows.get("snapshot_step", [])
    shape = (len(steps), attributes["parameters"])
    rows = np.asarray(records.rows.get("theta", []), dtype=spec.problem.dtype).reshape(shape)
    return xr.Dataset(
        {"theta": (("snapshot_step", "parameter"), rows, {"long_name": "parameters"})},
        coords={"snapshot_step": np.asarray(steps, dtype=np.int64)},
        attrs={"schema": "snapshots-1", "specification": json.dumps(spec.model_dump(), sort_keys=True), **attributes},
    )
