"""Numbers of a run's branch, which is its last segment. They are NaN if it diverged or lacks the data."""

from __future__ import annotations

from math import log, nan

import numpy as np
import xarray as xr

LAST = 0.25  # of a branch's steps: its last quarter


def of_branch(run: xr.Dataset, variable: str) -> xr.DataArray:
    """The variable from the switch on."""
    values = run[variable]
    dimension = str(values.dims[0])
    return values.sel({dimension: values[dimension] >= max(run.attrs["switches"], default=0)})


def late(values: xr.DataArray, last: float = LAST) -> xr.DataArray:
    """The values over the last part of their steps."""
    dimension = str(values.dims[0])
    steps = values[dimension]
    return values.sel({dimension: steps >= int(steps[-1]) - last * int(steps[-1] - steps[0])}) if len(steps) else values


def drop(run: xr.Dataset) -> float:
    """ln of the loss at the switch minus the mean of ln loss over the branch's last quarter."""
    loss = of_branch(run, "loss")
    if not _whole(run, loss) or not bool((loss > 0).all()):
        return nan
    return float(np.log(loss[0]) - np.log(late(loss)).mean())


def late_sharpness(run: xr.Dataset) -> float:
    """Mean λ_1 over the branch's last quarter."""
    sharpness = of_branch(run, "eigenvalues").isel(index=0) if "index" in run.dims else of_branch(run, "loss")[:0]
    return float(late(sharpness).mean()) if _whole(run, sharpness) else nan


def growth(run: xr.Dataset) -> float:
    """ln of the ratio of the mean λ_1 over the branch's last quarter to λ_1 at the switch."""
    sharpness = late_sharpness(run)
    return log(sharpness / float(of_branch(run, "eigenvalues")[0, 0])) if sharpness > 0 else nan


def mean_overlap(run: xr.Dataset) -> float:
    """Mean overlap of the filter's subspace in use with the new one over the refreshes; NaN with only one refresh."""
    found = run.overlap.values[np.isfinite(run.overlap.values)]
    return float(found.mean()) if len(found) else nan


def _whole(run: xr.Dataset, values: xr.DataArray) -> bool:
    return run.attrs["status"] != "diverged" and len(values) > 1 and bool(np.isfinite(values).all())
