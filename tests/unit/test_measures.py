"""Effective learning rates: the mean and deviation of exactly the steps that were measured."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
import xarray as xr

from analysis.errors import InputError
from analysis.measures import EffectiveRates, mean_effective_rates

NAN = math.nan


def run(steps: list[int], dom: list[float], bulk: list[float]) -> xr.Dataset:
    return xr.Dataset(
        {"dom_lr": ("rate_step", dom), "bulk_lr": ("rate_step", bulk)},
        coords={"rate_step": steps},
        attrs={"id": "gd-1"},
    )


def test_means_and_population_deviations():
    dom, bulk = [0.1, -0.2, 0.4], [1.0, 2.0, 6.0]
    found = mean_effective_rates(run([0, 25, 50], dom, bulk))
    assert found.dom_mean == pytest.approx(statistics.fmean(dom))
    assert found.dom_std == pytest.approx(statistics.pstdev(dom))
    assert found.bulk_mean == 3
    assert found.bulk_std == pytest.approx(math.sqrt(14 / 3))  # statistics.stdev would be √7
    assert found.count == 3


@pytest.mark.parametrize(("steps", "count"), [(1000, 3), (999, 2), (1, 1)])
def test_only_updates_of_the_first_steps_count(steps, count):
    found = mean_effective_rates(run([0, 500, 999, 1000], [1, 2, 3, 90], [1, 2, 3, 90]), steps)
    assert (found.count, found.bulk_mean) == (count, np.mean([1, 2, 3][:count]))


def test_steps_without_an_update_are_left_out():
    found = mean_effective_rates(run([0, 5, 10], [0.1, 0.3, NAN], [0.1, 0.1, NAN]))
    assert found == EffectiveRates(pytest.approx(0.2), pytest.approx(0.1), 0.1, 0.0, 2)


@pytest.mark.parametrize(
    "unmeasured",
    [run([], [], []), run([0, 1], [NAN, NAN], [1.0, NAN]), run([1000], [1.0], [1.0]), xr.Dataset(attrs={"id": "gd-1"})],
    ids=["empty", "NaN", "too late", "absent"],
)
def test_nothing_measured_is_told(unmeasured):
    message = r"^gd-1: found no effective learning rates \(dom_lr, bulk_lr\) in the first 1,000 steps; its probes must"
    with pytest.raises(InputError, match=message):
        mean_effective_rates(unmeasured)


def test_an_infinite_rate_is_not_left_out():
    found = mean_effective_rates(run([0, 1], [math.inf, 1.0], [0.5, 0.5]))
    assert (found.dom_mean, found.bulk_mean) == (math.inf, 0.5)
    assert math.isnan(found.dom_std)
