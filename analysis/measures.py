"""Numbers that figures, tables and claims share, from trajectories."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

import numpy as np
import xarray as xr


@dataclass(frozen=True)
class EffectiveRates:
    """Mean and (population) standard deviation of Dom-LR and Bulk-LR over `count` measured steps; NaN over none."""

    dom_mean: float
    dom_std: float
    bulk_mean: float
    bulk_std: float
    count: int


def effective_learning_rates(run: xr.Dataset, steps: int = 1000) -> EffectiveRates:
    """Effective learning rates over those of the first `steps` steps at which both were measured."""
    rates = np.stack([run.dom_lr.values, run.bulk_lr.values])[:, run.rate_step.values < steps]
    rates = rates[:, np.isfinite(rates).all(axis=0)]
    if rates.shape[1] == 0:
        return EffectiveRates(nan, nan, nan, nan, 0)
    (dom_mean, bulk_mean), (dom_std, bulk_std) = rates.mean(axis=1), rates.std(axis=1)
    return EffectiveRates(float(dom_mean), float(dom_std), float(bulk_mean), float(bulk_std), rates.shape[1])
