"""Numbers that figures, tables and claims share: effective learning rates, growth rates, last values."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from analysis.runs.measures import final, growth_rate, mean_effective_rates
from sharpflat.errors import InputError

NAN = math.nan


# ---------------------------------------------------------------- effective learning rates
def run(steps: list[int], dom: list[float], bulk: list[float]) -> xr.Dataset:
    return xr.Dataset(
        {"dom_lr": ("rate_step", dom), "bulk_lr": ("rate_step", bulk)},
        coords={"rate_step": steps},
        attrs={"id": "gd-1"},
    )


def test_means_and_population_deviations():
    dom, bulk = [0.1, -0.2, 0.4], [1.0, 2.0, 6.0]
    found = mean_effective_rates(run([7, 8, 9], dom, bulk))
    assert found.dom_mean == pytest.approx(statistics.fmean(dom))
    assert found.dom_std == pytest.approx(statistics.pstdev(dom))
    assert found.bulk_mean == 3
    assert found.bulk_std == pytest.approx(math.sqrt(14 / 3))  # statistics.stdev would be √7
    assert found.count == 3


@pytest.mark.parametrize(
    ("steps", "weights"), [(1000, [250.5, 499.5, 250]), (999, [250.5, 250.5]), (1, [1])], ids=["all", "two", "one"]
)
def test_only_updates_of_the_first_steps_count(steps, weights):
    found = mean_effective_rates(run([0, 500, 999, 1000], [1, 2, 3, 90], [1, 2, 3, 90]), steps)
    mean = np.average([1, 2, 3][: len(weights)], weights=weights)
    assert (found.count, found.bulk_mean) == (len(weights), pytest.approx(mean))


def test_steps_between_two_measurements_count_as_both():
    """Momentum's Bulk-LR begins at η and ends at 10 η. Measured rarely, the first step must not stand for many."""
    steps = np.arange(1001)
    rates = 0.1 * (1 - 0.9 ** (steps + 1.0))
    every = mean_effective_rates(run(list(steps), rates, rates), 1001)
    assert (every.bulk_mean, every.bulk_std) == (pytest.approx(rates.mean()), pytest.approx(rates.std()))
    line = mean_effective_rates(run(list(steps[::20]), steps[::20], steps[::20]), 1001)
    assert line.bulk_mean == 500, "exact for a line"
    for n in (20, 50):
        found = mean_effective_rates(run(list(steps[::n]), rates[::n], rates[::n]), 1001)
        assert abs(found.bulk_mean - every.bulk_mean) < 0.6 * abs(rates[::n].mean() - every.bulk_mean)


def test_steps_without_an_update_are_left_out():
    found = mean_effective_rates(run([0, 5, 10], [0.1, 0.3, NAN], [0.1, 0.1, NAN]))
    rates = [found.dom_mean, found.dom_std, found.bulk_mean, found.bulk_std]
    assert rates == pytest.approx([0.2, 0.1, 0.1, 0])
    assert found.count == 2


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


# ---------------------------------------------------------------- growth rates
def noise(count: int, autocorrelation: float, generator: np.random.Generator) -> np.ndarray:
    """AR(1) noise of innovations N(0, 0.05²), from its stationary distribution."""
    drawn = 0.05 * generator.standard_normal(count)
    drawn[0] /= math.sqrt(1 - autocorrelation**2)
    for i in range(1, count):
        drawn[i] += autocorrelation * drawn[i - 1]
    return drawn


def newey_west(x: np.ndarray, y: np.ndarray, lag: int) -> float:
    """The slope's standard error, transcribed from the matrix form: (X'X)⁻¹ S (X'X)⁻¹, S in loops."""
    n = len(x)
    design = np.column_stack([np.ones(n), x])
    inverse = np.linalg.inv(design.T @ design)
    residuals = y - design @ inverse @ design.T @ y
    s = np.zeros((2, 2))
    for i in range(n):
        for j in range(n):
            if abs(i - j) <= lag:
                weight = 1 - abs(i - j) / (lag + 1)
                s += weight * residuals[i] * residuals[j] * np.outer(design[i], design[j])
    covariance = n / (n - 2) * inverse @ s @ inverse
    return math.sqrt(covariance[1, 1])


def test_slope_and_r_squared_are_those_of_least_squares():
    generator = np.random.default_rng(1)
    steps = np.sort(generator.choice(5000, 80, replace=False))
    values = 3 * np.exp(4e-4 * steps + noise(80, 0.0, generator))
    found, expected = growth_rate(steps, values), stats.linregress(steps, np.log(values))
    assert found.rate == pytest.approx(expected.slope, rel=1e-10)
    assert found.r_squared == pytest.approx(expected.rvalue**2, rel=1e-10)
    assert (found.count, found.first, found.last) == (80, steps[0], steps[-1])
    assert found.low < found.rate < found.high


# Lags ⌊4 (n/100)^(2/9)⌋, worked out by hand.
@pytest.mark.parametrize(("count", "lag"), [(5, 2), (27, 2), (28, 3), (99, 3), (100, 4), (273, 5)])
@pytest.mark.parametrize("confidence", [0.99, 0.8])
def test_the_interval_is_newey_and_wests(count: int, lag: int, confidence: float):
    generator = np.random.default_rng(count)
    steps = 50.0 + 7 * np.arange(count) + (np.arange(count) > 3)
    values = np.exp(1e-3 * steps + noise(count, 0.6, generator) * np.linspace(0.2, 2, count))
    found = growth_rate(steps, values, confidence)
    half = stats.t.ppf((1 + confidence) / 2, count - 2) * newey_west(steps, np.log(values), lag)
    assert found.high - found.rate == pytest.approx(half, rel=1e-6)
    assert found.rate - found.low == pytest.approx(half, rel=1e-6)


def test_the_interval_covers_about_as_often_as_it_says():
    generator, steps, rate = np.random.default_rng(2), np.arange(0, 4000, 20), -3e-4
    held = {0.99: 0, 0.9: 0}
    for _ in range(500):
        values = np.exp(rate * steps + noise(len(steps), 0.0, generator))
        for confidence in held:
            found = growth_rate(steps, values, confidence)
            held[confidence] += found.low <= rate <= found.high
    assert 0.965 <= held[0.99] / 500 <= 1
    assert 0.86 <= held[0.9] / 500 <= 0.93


def test_correlated_measurements_widen_the_interval():
    generator, steps = np.random.default_rng(3), np.arange(200)
    quantile = stats.t.ppf(0.995, 198)
    ratios, held = [], np.zeros(2)
    for _ in range(200):
        values = np.exp(noise(200, 0.8, generator))
        found, plain = growth_rate(steps, values), stats.linregress(steps, np.log(values))
        ratios.append((found.high - found.low) / (2 * quantile * plain.stderr))
        held += [found.low <= 0 <= found.high, abs(plain.slope) <= quantile * plain.stderr]
    assert np.mean(np.array(ratios) > 1) > 0.95
    assert 1.5 < np.median(ratios) < 2.2
    assert held[0] > held[1] + 20


def test_an_exact_exponential_and_a_constant():
    steps = np.arange(0, 100, 10)
    found = growth_rate(steps, 2 * np.exp(0.01 * steps))
    assert (found.low, found.rate, found.high) == pytest.approx((0.01, 0.01, 0.01), rel=1e-9)
    assert found.r_squared == pytest.approx(1)
    still = growth_rate(steps, np.full(10, 0.1))
    assert (still.low, still.rate, still.high) == pytest.approx((0, 0, 0), abs=1e-12)
    assert (still.r_squared, still.count, still.first, still.last) == (0, 10, 0, 90)


@pytest.mark.parametrize("bad", [0.0, -1.0, NAN, math.inf])
def test_what_has_no_logarithm_is_refused(bad: float):
    with pytest.raises(
        InputError, match=rf"^growth rate: found {bad:g} at step 30; values must be positive and finite"
    ):
        growth_rate(np.arange(0, 60, 10), np.array([1.0, 2, 3, bad, 5, 6]))


def test_too_few_values_are_refused():
    with pytest.raises(InputError, match=r"^growth rate: found 4 of at least 5 values$"):
        growth_rate(np.arange(4), np.ones(4))
    growth_rate(np.arange(5), np.ones(5))


@pytest.mark.parametrize("steps", [[0, 1, 1, 2, 3], [3, 3, 3, 3, 3], [4, 3, 2, 1, 0], [0, 1, 2, 3, NAN]])
def test_steps_that_do_not_increase_are_refused(steps: list[float]):
    with pytest.raises(InputError, match="steps that do not increase"):
        growth_rate(np.array(steps), np.ones(5))


# ---------------------------------------------------------------- last values
def ended(losses: list[float], accuracies: list[float], status: str = "completed") -> xr.Dataset:
    return xr.Dataset(
        {
            "loss": ("step", losses),
            "test_accuracy": ("test_step", accuracies),
            "eigenvalues": (("step", "index"), np.ones((len(losses), 2))),
        },
        coords={"step": np.arange(len(losses)), "test_step": np.arange(0, 5 * len(accuracies), 5)},
        attrs={"id": "sgd-1", "status": status},
    )


def test_the_last_value_along_a_variables_own_steps():
    run = ended([3.0, 2.0, 1.0], [0.5, 0.75])
    assert final(run, "loss") == 1.0
    assert final(run, "test_accuracy") == 0.75


def test_a_diverged_run_ends_with_nothing():
    assert math.isnan(final(ended([3.0, 2.0, 1e30], [0.5], "diverged"), "loss"))
    assert math.isnan(final(ended([], [], "diverged"), "loss"))


@pytest.mark.parametrize(
    ("losses", "found"), [([], "no"), ([1.0, NAN], "nan as the last"), ([1.0, math.inf], "inf as the last")]
)
def test_a_completed_run_without_a_last_value_is_told(losses: list[float], found: str):
    with pytest.raises(InputError, match=rf"^sgd-1: found {found} loss; a completed run must end with a finite one$"):
        final(ended(losses, [0.5]), "loss")


@pytest.mark.parametrize("status", ["completed", "diverged"])
def test_a_variable_that_is_not_there_is_told(status: str):
    with pytest.raises(InputError, match=r"^sgd-1: found no gradient_norm; its probes must measure it$"):
        final(ended([1.0], [0.5], status), "gradient_norm")


def test_a_variable_of_several_numbers_a_step_has_no_last_value():
    with pytest.raises(ValueError, match="not one"):
        final(ended([1.0], [0.5]), "eigenvalues")
