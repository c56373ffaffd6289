"""Numbers of a run that tables, figures and claims share, from its dataset alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from analysis.errors import InputError

RATE_STEPS = 1000  # of the papers' tables


@dataclass(frozen=True)
class EffectiveRates:
    """Effective learning rates (Song et al., Definition 4, with the sign that makes plain GD's +η) over `count`
    measured steps. Deviations are the population's: divided by `count`, not `count` − 1."""

    dom_mean: float
    dom_std: float
    bulk_mean: float
    bulk_std: float
    count: int


def mean_effective_rates(run: xr.Dataset, steps: int = RATE_STEPS) -> EffectiveRates:
    """Means and standard deviations of Dom-LR and Bulk-LR over the updates made at steps 0, …, `steps` − 1.

    Args:
        run: has `dom_lr` and `bulk_lr` along `rate_step`; where either is NaN, no update was measured.
        steps: how many.

    Raises:
        InputError: if none was measured.
    """
    measured = np.empty((0, 2))
    if {"dom_lr", "bulk_lr"} <= set(run.data_vars):
        early = run[["dom_lr", "bulk_lr"]].sel(rate_step=run.rate_step < steps)
        rates = np.stack([early.dom_lr.values, early.bulk_lr.values], axis=1)
        measured = rates[~np.isnan(rates).any(axis=1)]
    if not len(measured):
        raise InputError(
            f"{run.attrs.get('id', 'run')}: found no effective learning rates (dom_lr, bulk_lr) in the first {steps:,} "
            "steps; its probes must measure them there"
        )
    with np.errstate(invalid="ignore"):  # an infinite rate has an infinite mean, and NaN for a deviation
        (dom_mean, bulk_mean), (dom_std, bulk_std) = measured.mean(axis=0).tolist(), measured.std(axis=0).tolist()
    return EffectiveRates(dom_mean, dom_std, bulk_mean, bulk_std, len(measured))
