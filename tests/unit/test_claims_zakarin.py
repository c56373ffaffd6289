"""Claims of Zakarin, Singh: made-up families of runs on either side of each threshold, diverged and incomplete ones."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from analysis import claims
from analysis.claims import CLAIMS, judge, song, zakarin_singh
from analysis.claims.families import mean_with_interval, standard_error
from analysis.runs.measures import GrowthRate
from analysis.runs.panels import Member, Panel
from analysis.specs.panels import ClaimSpec, PanelSpec
from analysis.store.netcdf import write_dataset

NAN = math.nan
STUDENT_3 = 4.302653  # 97.5 % quantile of Student's t with 2 degrees of freedom
SWITCH = 1000
DIMENSION = {
    **dict.fromkeys(("loss", "gradient_norm"), "step"),
    "test_accuracy": "test_step",
    "eigenvalues": "spectrum_step",
}
OPERATORS = ["H", "H_o", "H_f"]


def made_up(
    variables: Mapping[str, Mapping[int, float]] | None = None,
    *,
    diverged_at: int | None = None,
    learning_rate: float = 0.1,
    switch: int = SWITCH,
) -> xr.Dataset:
    """A run that turned at the switch, from its variables' values by step."""
    dataset = xr.Dataset(
        coords={"index": [1]},
        attrs={
            "status": "completed" if diverged_at is None else "diverged",
            "diverged_at": -1 if diverged_at is None else diverged_at,
            "switches": [switch],
            "specification": json.dumps({"rule": {"learning_rate": learning_rate}}),
        },
    )
    for name, by_step in (variables or {}).items():
        rows = np.array(list(by_step.values()), dtype=float)
        one = xr.DataArray(rows, {DIMENSION[name]: list(by_step)}, [DIMENSION[name]])
        dataset[name] = one.expand_dims(index=[1], axis=1) if name == "eigenvalues" else one
    return dataset


def diverged(step: int, **numbers) -> xr.Dataset:
    return made_up(diverged_at=step, **numbers)


def family(label: str, names: tuple[str, ...] | str, runs: Mapping) -> dict[str, list[Member]]:
    """Runs by the value, or the tuple of values, of what varies."""
    names = (names,) if isinstance(names, str) else names
    members = []
    for key, run in runs.items():
        varied = dict(zip(names, key if isinstance(key, tuple) else (key,), strict=True))
        members.append(Member(varied, run, [f"begin-{key}", f"{label}-{key}"]))
    return {label: members}


def panel(*families: dict[str, list[Member]]) -> Panel:
    return Panel("mlp", "MLP", {}, {}, families={k: v for one in families for k, v in one.items()})


def verdict(claim: str, one: Panel) -> tuple[str, str]:
    judged = claims._judge(claim, one)
    return judged.verdict, judged.measured


def assert_failed(judged: tuple[bool, str], expected: list[str]) -> None:
    """The parts of a claim that failed are named, by how their texts begin, and no others."""
    holds, text = judged
    assert holds is (not expected), text
    failed = re.match(r"(?:[^;]*; )?failed: (.*?)(?:\. Held: |$)", text)
    found = failed[1].split("; ") if failed else []
    assert [part.startswith(e) for part, e in zip(found, expected, strict=True)] == [True] * len(expected), text


# ---------------------------------------------------------------- over seeds
def test_intervals_over_seeds_are_students():
    samples = [1.0, 2.0, 4.5]
    half = STUDENT_3 * np.std(samples, ddof=1) / math.sqrt(3)
    assert standard_error(samples) == pytest.approx(np.std(samples, ddof=1) / math.sqrt(3))
    assert mean_with_interval(samples) == f"2.5 (95% confidence {2.5 - half:.3g} to {2.5 + half:.3g})"


# ---------------------------------------------------------------- zs-faster
def losses(soon: float, end: float = 0.5, begin: float = 1.0, **numbers) -> xr.Dataset:
    return made_up({"loss": {0: 3.0, 1000: begin, 1400: 5.0, 1500: soon, 1600: 7.0, 2000: end}}, **numbers)


def rates(sgd: Mapping[float, xr.Dataset], bulk: Mapping[float, xr.Dataset]) -> Panel:
    return panel(family("SGD", "learning_rate", sgd), family("Bulk-SGD", "learning_rate", bulk))


def test_bulk_sgd_is_compared_500_steps_after_the_switch():
    one = rates({0.1: losses(0.8)}, {0.1: losses(0.799)})
    assert zakarin_singh.faster(one) == (
        True,
        "learning rate 0.1 (the largest of 1): loss 500 steps after the switch: Bulk-SGD 0.799, SGD 0.8",
    )
    assert zakarin_singh.faster(rates({0.1: losses(0.8)}, {0.1: losses(0.8)}))[0] is False  # not below
    assert zakarin_singh.faster(rates({0.1: losses(0.8)}, {0.1: losses(0.801)}))[0] is False


@pytest.mark.parametrize(
    ("sgd", "bulk", "why"),
    [
        (losses(0.9), diverged(1200), "Bulk-SGD diverged at step 1,200"),
        (diverged(900), diverged(900), "SGD diverged at step 900 and Bulk-SGD diverged at step 900"),
        (diverged(1300), losses(0.9), "SGD diverged at step 1,300"),
        (losses(0.9), losses(0.1, end=1.0), "Bulk-SGD's loss went from 1 at the switch to 1"),
        (losses(0.1, end=1.2), losses(0.9), "SGD's loss went from 1 at the switch to 1.2"),
    ],
)
def test_the_largest_stable_learning_rate_decides(sgd, bulk, why):
    """In the configuration's order, which need not ascend; below it Bulk-SGD would be behind."""
    held = {0.1: losses(0.8, end=0.999), 0.01: losses(0.1), 0.5: sgd}
    one = rates(held, {0.1: losses(0.7, end=0.999), 0.01: losses(0.9), 0.5: bulk})
    holds, text = zakarin_singh.faster(one)
    assert holds
    assert text.startswith(
        f"learning rate 0.1 (at learning rate 0.5 {why}): loss 500 steps after the switch: Bulk-SGD "
    )
    assert verdict("zs-faster", rates({0.5: sgd}, {0.5: bulk})) == (
        "not measured",
        f"no learning rate is stable: at learning rate 0.5 {why}",
    )


def test_of_shorter_or_sparser_runs_the_last_common_step_is_compared():
    bulk = made_up({"loss": {1000: 1.0, 1400: 0.5, 1499: 0.1, 1700: 0.1}})
    sgd = made_up({"loss": {1000: 1.0, 1400: 0.6, 1498: 0.05, 1700: 0.01}})
    assert zakarin_singh.faster(rates({0.1: sgd}, {0.1: bulk})) == (
        True,
        "learning rate 0.1 (the largest of 1): loss 400 steps after the switch (the last of 500 that both measured): "
        "Bulk-SGD 0.5, SGD 0.6",
    )
    late = made_up({"loss": {1000: 1.0, 1600: 0.5}})
    assert verdict("zs-faster", rates({0.1: late}, {0.1: late})) == (
        "not measured",
        "learning rate 0.1: SGD and Bulk-SGD were not both measured in the first 500 steps after the switch",
    )


def test_smaller_learning_rates_need_not_be_measured():
    empty = made_up()
    assert verdict("zs-faster", rates({1: losses(0.8), 0.1: empty}, {1: losses(0.7), 0.1: empty}))[0] == "holds"
    gap = rates({1: empty, 0.1: losses(0.8)}, {1: losses(0.7), 0.1: losses(0.7)})
    assert verdict("zs-faster", gap) == ("not measured", "learning rate 1: SGD: loss was not measured")


def test_a_switch_at_step_0():
    sgd, bulk = (made_up({"loss": {0: 2.0, 500: loss, 600: 1.0}}, switch=0) for loss in (1.5, 1.4))
    assert zakarin_singh.faster(rates({0.1: sgd}, {0.1: bulk}))[0] is True


# ---------------------------------------------------------------- zs-dom-saturates
def drop(to: float) -> xr.Dataset:
    """A drop in log-loss of `to` after the switch."""
    return made_up({"loss": {0: 9.0, 1000: 1.0, 2000: math.exp(-to)}})


def dom(*pairs: tuple[float, float]) -> Panel:
    """Drops of SGD and of Dom-SGD by seed."""
    return panel(
        family("SGD", "seed", {seed: drop(pair[0]) for seed, pair in enumerate(pairs)}),
        family("Dom-SGD", "seed", {seed: drop(pair[1]) for seed, pair in enumerate(pairs)}),
    )


def test_dom_sgd_saturates_by_the_rule_of_song_2_dom():
    assert song.dom_stops(dom((1, 0.0999))) == (
        True,
        "seed 0: Dom-SGD's log-loss fell by 0.0999, SGD's by 1.0000 (10.0%) in 1,000 steps",
    )
    assert_failed(song.dom_stops(dom((1, 0.1001))), ["seed 0: Dom-SGD's log-loss fell by 0.1001"])
    assert_failed(song.dom_stops(dom((0, -1))), ["seed 0: Dom-SGD's log-loss fell by -1.0000"])


def test_dom_sgd_has_to_saturate_with_every_seed():
    judged = song.dom_stops(dom((1, 0.05), (2, 0.0), (1, 0.07)))
    assert_failed(judged, [])
    assert judged[1].startswith(
        f"means over 3 seeds: Dom-SGD's drop over SGD's {mean_with_interval([0.05, 0, 0.07])}; "
    )
    assert all(f"seed {i}: Dom-SGD's log-loss fell by {d:.4f}" in judged[1] for i, d in enumerate((0.05, 0, 0.07)))
    assert_failed(song.dom_stops(dom((1, 0), (1, 0.2), (1, 0))), ["seed 1: Dom-SGD's log-loss fell by 0.2"])
    no_ratio = song.dom_stops(dom((0, 0.0), (1, 0.0)))
    assert_failed(no_ratio, ["seed 0: "])
    assert no_ratio[1].startswith("failed: seed 0: ")  # no mean of a ratio that one seed lacks


@pytest.mark.parametrize("label", ["SGD", "Dom-SGD"])
def test_a_seed_that_diverged_is_not_measured(label):
    whole = dom((1, 0.0), (1, 0.0))
    one = changed(whole, label, 1, diverged(1234))
    assert verdict("zs-dom-saturates", one) == ("not measured", f"seed 1: {label} diverged at step 1,234")


def test_every_seed_needs_all_runs():
    whole = dom((1, 0.0), (1, 0.0))
    one = changed(whole, "Dom-SGD", 1, None)
    assert verdict("zs-dom-saturates", one) == ("not measured", "there is no run Dom-SGD with seed 1")
    assert verdict("zs-dom-saturates", panel({"SGD": whole.families["SGD"]})) == (
        "not measured",
        "there are no runs Dom-SGD",
    )


def changed(whole: Panel, label: str, position: int, run: xr.Dataset | None) -> Panel:
    """With one member's run replaced, or without the member."""
    members = list(whole.families[label])
    old = members.pop(position)
    if run is not None:
        members.insert(position, Member(old.varied, run, old.segments))
    return panel({**whole.families, label: members})


# ---------------------------------------------------------------- zs-unstable
def growing(rate: float, noise: float = 0.0, norm: float | None = None, before: float = 0.0, **numbers) -> xr.Dataset:
    """ln λ_1 grows by `rate` a step after the switch, with alternating noise, ln ‖∇L‖ by `norm` (as fast); before the
    switch by `before`."""
    steps = np.arange(0, 2001, 10)
    since = np.maximum(steps - SWITCH, 0)
    early = before * np.minimum(steps, SWITCH)
    wave = noise * np.random.default_rng(0).standard_normal(len(steps))
    series = {
        "eigenvalues": np.exp(early + rate * since + wave),
        "gradient_norm": np.exp(early + (rate if norm is None else norm) * since + wave),
    }
    return made_up({name: dict(zip(steps.tolist(), v.tolist(), strict=True)) for name, v in series.items()}, **numbers)


def grown(bulk: Mapping[int, xr.Dataset], sgd: Mapping[int, xr.Dataset]) -> Panel:
    return panel(family("SGD", "seed", sgd), family("Bulk-SGD", "seed", bulk))


FLAT = growing(0.0, 0.1, before=0.01)


def test_growth_is_fitted_from_the_switch_on():
    judged = zakarin_singh.unstable(grown({0: growing(0.002, 0.01, norm=0.001, before=-0.1)}, {0: FLAT}))
    assert_failed(judged, [])
    assert re.match(
        r"seed 0: Bulk-SGD, learning rate 0\.1, slope of ln λ_1 a step 0\.002 \(99% confidence 0\.00199 to 0\.00201, "
        r"R² 1\.000, 101 measurements\), of ln ‖∇L‖ 0\.000998 \(99% [^)]*\); seed 0: SGD, learning rate 0\.1, slope ",
        judged[1],
    ), judged[1]
    before = zakarin_singh.unstable(grown({0: growing(0.0, 0.1, before=0.01)}, {0: FLAT}))
    assert_failed(before, ["seed 0: Bulk-SGD, learning rate 0.1, slope of ln λ_1"])
    both = zakarin_singh.unstable(grown({0: growing(0.002, 0.01)}, {0: growing(0.001, 0.01)}))
    assert_failed(both, ["seed 0: SGD, learning rate 0.1, slope of ln λ_1 a step 0.000998 (99%"])


def test_the_sharpness_decides_and_the_gradient_norm_is_told():
    """The threshold applies only to λ_1."""
    against = zakarin_singh.unstable(grown({0: growing(0.002, 0.01, norm=-0.001)}, {0: growing(0, 0.1, norm=0.01)}))
    assert_failed(against, [])
    assert "of ln ‖∇L‖ -0.001 (" in against[1]
    alone = zakarin_singh.unstable(grown({0: growing(0, 0.1, norm=0.01)}, {0: FLAT}))
    assert_failed(alone, ["seed 0: Bulk-SGD"])


@pytest.mark.parametrize(
    ("bulk", "sgd", "failed"),
    [
        ((1e-9, 2, 0.8), (-1, 1, 0), []),
        ((0, 2, 0.9), (-1, 1, 0), ["seed 0: Bulk-SGD"]),
        ((-1, 2, 0.9), (-1, 1, 0), ["seed 0: Bulk-SGD"]),
        ((1, 2, 0.799), (-1, 1, 0), ["seed 0: Bulk-SGD"]),
        ((1, 2, 1), (0, 1, 1), []),
        ((1, 2, 1), (-1, 0, 1), []),
        ((1, 2, 1), (1e-9, 1, 0), ["seed 0: SGD"]),
        ((1, 2, 1), (-1, -1e-9, 0), ["seed 0: SGD"]),  # falling is not within its noise either
        ((-2, -1, 1), (1, 2, 1), ["seed 0: Bulk-SGD", "seed 0: SGD"]),
    ],
)
def test_thresholds_of_growth(monkeypatch, bulk, sgd, failed):
    def fitted(steps, values, confidence):
        assert (steps[0], confidence) == (SWITCH, 0.99)
        low, high, r_squared = bulk if values[0] == 2 else sgd
        return GrowthRate((low + high) / 2, low, high, r_squared, len(steps), int(steps[0]), int(steps[-1]))

    monkeypatch.setattr(zakarin_singh, "growth_rate", fitted)
    two, one = (
        made_up({"eigenvalues": {0: 1, 1000: v, 1010: v}, "gradient_norm": {0: 1, 1000: v, 1010: v}}) for v in (2, 1)
    )
    assert_failed(zakarin_singh.unstable(grown({0: two}, {0: one})), failed)


def test_divergence_after_the_switch_is_growth():
    judged = zakarin_singh.unstable(grown({0: diverged(1250)}, {0: FLAT}))
    assert_failed(judged, [])
    assert judged[1].startswith("seed 0: Bulk-SGD, learning rate 0.1, diverged at step 1,250, 250 after the switch; ")
    alone = Panel("zs-mlp", "MLP", {"SGD": FLAT, "Bulk-SGD": diverged(1250)}, {"SGD": ["a"], "Bulk-SGD": ["b"]}, None)
    assert verdict("zs-unstable", alone)[0] == "holds", "a profile without seeds has single runs"
    of_sgd = zakarin_singh.unstable(grown({0: diverged(1250)}, {0: diverged(1001)}))
    assert_failed(of_sgd, ["seed 0: SGD, learning rate 0.1, diverged at step 1,001, 1 after the switch"])


@pytest.mark.parametrize("step", [1000, 400])
def test_divergence_up_to_the_switch_is_not_bulk_sgds(step):
    assert verdict("zs-unstable", grown({0: diverged(step, switch=step)}, {0: FLAT})) == (
        "not measured",
        f"seed 0: Bulk-SGD diverged at step {step:,}, before it was switched",
    )
    whole = growing(0.002)
    assert verdict("zs-unstable", grown({0: whole}, {0: diverged(step, switch=step)}))[0] == "not measured"


def test_growth_has_to_be_with_every_seed():
    bulk = {0: growing(0.002, 0.01), 1: growing(0.004, 0.01), 2: growing(0.003, 0.01)}
    judged = zakarin_singh.unstable(grown(bulk, dict.fromkeys(range(3), FLAT)))
    assert_failed(judged, [])
    name, text = (
        "slope of ln λ_1 under Bulk-SGD",
        r"0.003 \(95% confidence (\S+) to (\S+)\), slope of ln ‖∇L‖ under Bulk-SGD ",
    )
    interval = re.match(f"means over 3 seeds: {name} {text}", judged[1])
    assert interval, judged[1]
    half = STUDENT_3 * 0.001 / math.sqrt(3)
    assert [float(end) for end in interval.groups()] == pytest.approx([0.003 - half, 0.003 + half], abs=1e-5)
    one_flat = zakarin_singh.unstable(grown(bulk | {1: FLAT}, dict.fromkeys(range(3), FLAT)))
    assert_failed(one_flat, ["seed 1: Bulk-SGD"])
    diverging = zakarin_singh.unstable(grown(bulk | {1: diverged(1100)}, dict.fromkeys(range(3), FLAT)))
    assert_failed(diverging, [])
    assert "ln λ_1 under Bulk-SGD" not in diverging[1]
    assert diverging[1].startswith("means over 3 seeds: slope of ln λ_1 under SGD ")


def test_too_few_or_unusable_sharpnesses_are_not_measured():
    few = growing(0.002).isel(spectrum_step=slice(97, 104))  # three from the switch on
    assert verdict("zs-unstable", grown({0: few}, {0: FLAT})) == (
        "not measured",
        "seed 0: Bulk-SGD: growth rate: found 4 of at least 5 values",
    )
    negative = growing(0.002)
    negative["eigenvalues"][-1] = -1
    assert verdict("zs-unstable", grown({0: negative}, {0: FLAT}))[0] == "not measured"
    no_norm = growing(0.002, 0.01).drop_vars("gradient_norm")
    word, text = verdict("zs-unstable", grown({0: no_norm}, {0: FLAT}))
    assert word == "holds"
    assert "of ln ‖∇L‖ not measured (Bulk-SGD: gradient_norm was not measured); " in text


# ---------------------------------------------------------------- zs-holdout
def ended(log_loss: float, switch_log_loss: float = 0.0) -> xr.Dataset:
    return made_up({"loss": {0: 50.0, 1000: math.exp(switch_log_loss), 2000: math.exp(log_loss)}})


def held_out(runs: Mapping[int, xr.Dataset]) -> Panel:
    return panel(family("Bulk-SGD", "holdout", runs))


def test_the_spread_is_compared_with_the_mean_drop_after_the_switch():
    assert zakarin_singh.holdout_matters_little(held_out({100: ended(-1.05), 500: ended(-1), 1000: ended(-0.951)})) == (
        True,
        "log-loss at step 2,000 l 100: -1.0500, l 500: -1.0000, l 1000: -0.9510; "
        "spread 0.0990, mean drop 1.0003 (9.9% of it)",
    )
    wide = held_out({100: ended(-1.05), 500: ended(-1), 1000: ended(-0.949)})
    assert zakarin_singh.holdout_matters_little(wide)[0] is False
    # each drop is from that run's own loss at the switch: a mean of 0.5
    mean = held_out({100: ended(-1, -0.5), 500: ended(-1.049, -0.549)})
    assert zakarin_singh.holdout_matters_little(mean)[0] is True
    mean = held_out({100: ended(-1, -0.5), 500: ended(-1.051, -0.551)})
    assert zakarin_singh.holdout_matters_little(mean)[0] is False


def test_a_loss_that_did_not_fall_is_no_measure():
    assert zakarin_singh.holdout_matters_little(held_out({100: ended(0), 500: ended(0)})) == (
        False,
        "log-loss at step 2,000 l 100: 0.0000, l 500: 0.0000; spread 0.0000, mean drop 0.0000 (it did not fall)",
    )


def test_holdouts_are_compared_at_the_last_step_that_all_have():
    longer = made_up({"loss": {1000: 1.0, 2000: math.exp(-1), 3000: 1e-9}})
    holds, text = zakarin_singh.holdout_matters_little(held_out({100: ended(-1), 500: longer}))
    assert holds
    assert text.startswith("log-loss at step 2,000 ")


@pytest.mark.parametrize(
    ("runs", "reason"),
    [
        ({100: ended(-1), 500: diverged(1500)}, "l 500: Bulk-SGD diverged at step 1,500"),
        ({100: ended(-1)}, "there is one holdout size, and so no spread"),
        ({100: ended(-1), 500: ended(-math.inf)}, "l 500: Bulk-SGD: a loss of 0 has no logarithm"),
        (
            {100: ended(-1), 500: ended(-1).isel(step=[0, 2])},
            "l 500: Bulk-SGD: loss was not measured at its switch",
        ),
        (
            {100: ended(-1), 500: ended(-1).isel(step=[0, 1])},
            "the runs' losses have no step in common after their switch",
        ),
        (
            {100: ended(-1), 500: made_up({"loss": {1100: 1.0, 1900: 0.4}}, switch=1100)},
            "the runs' losses have no step in common after their switch",
        ),
    ],
)
def test_holdouts_that_cannot_be_compared(runs, reason):
    assert verdict("zs-holdout", held_out(runs)) == ("not measured", reason)


# ---------------------------------------------------------------- the grid
Cells = Mapping[tuple[float, float], tuple[float, float] | None]  # (α, β): loss and accuracy; None: diverged


def cell(ends: tuple[float, float] | None) -> xr.Dataset:
    if ends is None:
        return diverged(1100)
    loss, accuracy = ends
    return made_up({"loss": {0: 3, 1000: 1, 2000: loss}, "test_accuracy": {0: 0.1, 1000: 0.99, 2000: accuracy}})


def grid(*seeds: Cells) -> Panel:
    runs = {(seed, *at): cell(ends) for seed, cells in enumerate(seeds) for at, ends in cells.items()}
    return panel(family("interpolated", ("seed", "alpha_dom", "beta_bulk"), runs))


def by_beta(order: list[float], betas: Iterable[float] = (0, 0.5, 1, 1.5, 2)) -> Cells:
    """One cell a β with these losses."""
    return {(1, beta): (loss, 0.5) for beta, loss in zip(betas, order, strict=True)}


def ranks(values: np.ndarray) -> np.ndarray:
    """Average ranks, the slow way."""
    return np.array([(values < v).sum() + ((values == v).sum() + 1) / 2 for v in values])


def spearman(a, b) -> float:
    return float(np.corrcoef(ranks(np.array(a)), ranks(np.array(b)))[0, 1])


@pytest.mark.parametrize(
    ("order", "correlation", "holds"),
    [
        ([5, 4, 3, 2, 1], -1.0, True),
        ([4, 5, 2, 3, 1], -0.8, True),
        ([5, 3, 4, 1, 2], -0.8, True),
        ([5, 12, 10, 9, 8, 7, 6, 11, 4, 3, 2, 1], 1 - 6 * 486 / 1716, False),  # -0.699
        ([12, 6, 10, 9, 4, 7, 11, 5, 8, 3, 1, 2], 1 - 6 * 488 / 1716, True),  # -0.706
        ([3, 5, 4, 1, 2], -0.6, False),
        ([1, 2, 3, 4, 5], 1.0, False),
    ],
)
def test_the_correlation_of_loss_with_beta(order, correlation, holds):
    count = len(order)
    assert spearman(range(count), order) == pytest.approx(correlation)
    assert zakarin_singh.grid_loss(grid(by_beta(order, range(count)))) == (
        holds,
        f"Spearman correlation {correlation:.3f} over {count} cells (0 of {count} diverged), seed 0",
    )


def test_ties_have_average_ranks():
    betas = [0, 0, 0.5, 0.5, 1, 1]
    order = [6.0, 5.0, 5.0, 2.0, 3.0, 1.0]
    cells = {(i % 2, beta): (loss, 0.5) for i, (beta, loss) in enumerate(zip(betas, order, strict=True))}
    found = zakarin_singh.grid_loss(grid(cells))[1]
    assert found.startswith(f"Spearman correlation {spearman(betas, order):.3f} over 6 cells ")
    assert f"{spearman(betas, order):.3f}" != f"{np.corrcoef(betas, order)[0, 1]:.3f}"


def test_diverged_cells_are_left_out_and_counted():
    """With a loss in their place the correlation would be another."""
    cells = dict(by_beta([5, 4, 3, 2, 1])) | {(2, 2): None, (2, 1.5): None}
    assert zakarin_singh.grid_loss(grid(cells)) == (
        True,
        "Spearman correlation -1.000 over 5 cells (2 of 7 diverged), seed 0",
    )
    alone = grid({at: None for at in cells})
    assert verdict("zs-grid-loss", alone) == (
        "not measured",
        "0 cells (7 of 7 diverged), seed 0: too few, or too alike, for a correlation",
    )
    assert verdict("zs-grid-accuracy", alone)[0] == "not measured"


def test_the_means_over_seeds_decide():
    """The larger losses decide the means' order; the other seed says otherwise."""
    falling, not_quite = np.array([5, 4, 3, 2, 1]), np.array([3, 5, 4, 1, 2])
    assert zakarin_singh.grid_loss(grid(by_beta(falling), by_beta(10 * not_quite))) == (
        False,
        "Spearman correlation -0.600 over 5 cells (0 of 5 diverged with some seed), means over 2 seeds; "
        "seed 0 -1.000, seed 1 -0.600",
    )
    assert zakarin_singh.grid_loss(grid(by_beta(10 * falling), by_beta(not_quite))) == (
        True,
        "Spearman correlation -1.000 over 5 cells (0 of 5 diverged with some seed), means over 2 seeds; "
        "seed 0 -1.000, seed 1 -0.600",
    )


def test_a_cell_that_diverged_with_one_seed_is_in_no_mean():
    one, two = dict(by_beta([5, 4, 3, 2, 1])), dict(by_beta([5, 4, 3, 2, 1]))
    one[(2, 2)], two[(2, 2)] = (99.0, 0.5), None
    holds, text = zakarin_singh.grid_loss(grid(one, two))
    assert holds
    assert text.startswith(
        "Spearman correlation -1.000 over 5 cells (1 of 6 diverged with some seed), means over 2 seeds"
    )
    assert f"seed 0 {spearman([0, 0.5, 1, 1.5, 2, 2], [5, 4, 3, 2, 1, 99]):.3f}, seed 1 -1.000" in text


@pytest.mark.parametrize("claim", ["zs-grid-loss", "zs-grid-accuracy"])
def test_a_gap_in_the_grid(claim):
    cells = {(0.5, 2): (1.0, 0.5), (1, 1): (2.0, 0.9), (2, 0.5): (3.0, 0.8)}
    whole = grid(cells, cells)
    assert verdict(claim, whole)[0] == "holds"
    assert verdict(claim, changed(whole, "interpolated", 4, None)) == (
        "not measured",
        "there is no run interpolated with seed 1, α_dom 1, β_bulk 1",
    )
    short = cell((2.0, 0.9)).isel(step=[0, 1])
    assert verdict(claim, changed(whole, "interpolated", 4, short)) == (
        "not measured",
        "cells were last measured at different steps: 1,000, 2,000",
    )
    no_loss = cell((2.0, 0.9)).drop_vars("loss")
    assert verdict(claim, changed(whole, "interpolated", 4, no_loss)) == (
        "not measured",
        "seed 1, α_dom 1, β_bulk 1: interpolated: loss was not measured",
    )


@pytest.mark.parametrize("cells", [by_beta([5, 4], (0, 1)), by_beta([5] * 5), {(a, 1): (a, 0.5) for a in range(5)}])
def test_too_little_for_a_correlation(cells):
    assert verdict("zs-grid-loss", grid(cells))[0] == "not measured"


ACCURATE = {(0.5, 2): (0.1, 0.80), (1, 1): (0.2, 0.90), (2, 0): (0.9, 0.70), (0, 2): None}


@pytest.mark.parametrize(
    ("changes", "holds"),
    [
        ({}, True),
        ({(2, 0): (0.09, 0.7)}, False),  # the lowest loss has the larger α
        ({(1, 1): (0.05, 0.90)}, False),  # one cell is both
        ({(0.5, 1): (0.2, 0.95)}, False),  # the best accuracy has the same α
        ({(0.5, 1): (0.2, 0.90)}, False),  # tied for the best
        ({(1.5, 1): (0.2, 0.90)}, True),  # tied, and larger too
        ({(1.5, 1): (0.1, 0.85)}, False),  # tied for the lowest
        ({(0.75, 1): (0.1, 0.85)}, True),
    ],
)
def test_the_best_accuracy_has_the_larger_alpha(changes, holds):
    assert zakarin_singh.grid_accuracy(grid({**ACCURATE, **changes}))[0] is holds


def test_both_cells_and_their_gap_are_told():
    assert zakarin_singh.grid_accuracy(grid(ACCURATE))[1] == (
        "(α_dom, β_bulk) of the best test accuracy, 0.9000: (1, 1), of the lowest training loss, 0.1: (0.5, 2), where "
        "the accuracy is lower by 0.1000; 3 cells (1 of 4 diverged), seed 0"
    )
    tied = zakarin_singh.grid_accuracy(grid({**ACCURATE, (1.5, 0.5): (0.3, 0.9)}))[1]
    assert "0.9000: (1, 1) and (1.5, 0.5), of" in tied


@pytest.mark.parametrize(("lost", "holds"), [(0.1, True), (0.5, False)])
def test_the_mean_accuracies_and_losses_decide(lost, holds):
    """Alone the third seed fails, whose lowest loss is at (1, 1); in the mean it is at (0.5, 2) or at (1, 1)."""
    first = {**ACCURATE, (0.5, 2): (0.05, 0.85)}
    third = {**ACCURATE, (1, 1): (0.01, 0.90), (0.5, 2): (lost, 0.80)}
    judged = zakarin_singh.grid_accuracy(grid(first, ACCURATE, third))
    gaps = [0.05, 0.1, 0.1] if holds else [0, 0, 0]
    assert judged[0] is holds
    assert (
        f"lower by {np.mean(gaps):.4f} (standard error {np.std(gaps, ddof=1) / math.sqrt(3):.2g} over seeds); "
        "it holds with 2 of 3 seeds alone; 3 cells (1 of 4 diverged with some seed), means over 3 seeds"
    ) in judged[1]


def test_ties_of_mean_accuracies_are_not_broken_by_rounding():
    means = [(0.1, 0.2, 0.3), (0.3, 0.1, 0.2), (0.2, 0.3, 0.1)]
    sums = {float(np.mean(m)) for m in means}
    assert len(sums) > 1  # equal but for rounding
    seeds = [
        {(0.5, 2): (0.1, 0.0), **{(0.25 * i, 1): (0.5, m[s]) for i, m in enumerate(means, start=1)}} for s in range(3)
    ]
    judged = zakarin_singh.grid_accuracy(grid(*seeds))
    assert judged[0] is False  # (0.25, 1) and (0.5, 1) are tied with (0.75, 1)
    assert "0.2000: (0.25, 1) and (0.5, 1) and (0.75, 1)" in judged[1]


# ---------------------------------------------------------------- energies
ENERGIES = {
    "fraction_dominant": (0.95, 0.92, 0.3),
    "fraction_dominant_se": (0.001, 0.002, 0.03),
    "energy_total": (11.0, 10.0, 1.0),
    "energy_bulk_se": (0.2, 0.2, 0.03),
}


def energetic(changes: Mapping[str, tuple[float, float, float]] | None = None, unconverged: int = 0) -> xr.Dataset:
    """Snapshots at 0, 100, …, 1000 with these energies from 500 on and others before, the last but one an outlier."""
    steps = np.arange(0, 1001, 100)
    run = made_up()
    run = run.assign_coords(snapshot_step=steps, operator=OPERATORS)
    for name, values in {**ENERGIES, **(changes or {})}.items():
        rows = np.where(steps[:, None] >= 500, values, 0.5)
        if name in ("fraction_dominant", "energy_total"):
            rows[-2] = 0.5
        run[name] = (("snapshot_step", "operator"), rows)
    converged = np.ones(len(steps), dtype=int)
    converged[: 3 + unconverged] = 0  # those before the last half are of no claim
    converged[3:5] = 1
    converged[5 : 5 + unconverged] = 0
    return run.assign(dominant_converged=("snapshot_step", converged))


def energies(*runs: xr.Dataset) -> Panel:
    return panel(family("SGD", "seed", dict(enumerate(runs))))


def test_energy_concentrates_over_the_last_half():
    judged = zakarin_singh.energy_concentrates(energies(energetic()))
    assert judged == (
        True,
        "seed 0: H 0.9500 (standard error of a measurement ≤ 0.001); "
        "seed 0: H_o 0.9200 (standard error of a measurement ≤ 0.002)",
    )
    for fractions, failed in (
        ((0.9, 0.9, 0.99), []),
        ((0.899, 0.95, 0.99), ["seed 0: H 0.8990"]),
        ((0.95, 0.899, 0.99), ["seed 0: H_o 0.8990"]),
        ((0.1, 0.2, 0.99), ["seed 0: H 0.1000", "seed 0: H_o 0.2000"]),
    ):
        assert_failed(zakarin_singh.energy_concentrates(energies(energetic({"fraction_dominant": fractions}))), failed)


def test_gauss_newton_carries_the_energy():
    judged = zakarin_singh.gauss_newton_carries(energies(energetic()))
    assert_failed(judged, [])
    error = 10 * math.hypot(0.2 / 10, 0.03 / 1)
    outlier = math.hypot(0.2 / 0.5, 0.03 / 0.5)
    assert judged[1] == (
        f"seed 0: energy_total of H_o over that of H_f 10 (standard error of a measurement ≤ {max(error, outlier):.2g})"
        "; seed 0: fraction_dominant of H_f 0.3000, of H_o 0.9200"
    )
    for changes, failed in (
        ({"energy_total": (1, 5, 1)}, []),
        ({"energy_total": (1, 4.99, 1)}, ["seed 0: energy_total of H_o over that of H_f 4.99"]),
        ({"fraction_dominant": (0, 0.4, 0.399)}, []),
        ({"fraction_dominant": (0, 0.4, 0.4)}, ["seed 0: fraction_dominant of H_f 0.4000, of H_o 0.4000"]),
        ({"fraction_dominant": (0, 0.4, 0.6), "energy_total": (1, 1, 1)}, ["seed 0: energy_total", "seed 0: fraction"]),
    ):
        assert_failed(zakarin_singh.gauss_newton_carries(energies(energetic(changes))), failed)


@pytest.mark.parametrize(
    ("claim", "poor"),
    [
        ("zs-energy-concentrates", {"fraction_dominant": (0.8, 0.95, 0.1)}),
        ("zs-energy-ggn", {"energy_total": (1.0, 1.0, 1.0)}),
    ],
)
def test_energies_have_to_be_so_with_every_seed(claim, poor):
    function = CLAIMS[claim].judge
    fractions = [(0.95, 0.93, 0.3), (0.96, 0.94, 0.2), (0.98, 0.92, 0.3)]
    three = [energetic({"fraction_dominant": f, "energy_total": (9, 8 + i, 1)}) for i, f in enumerate(fractions)]
    judged = function(energies(*three))
    assert_failed(judged, [])
    means = {
        "zs-energy-concentrates": f"H {mean_with_interval([0.95, 0.96, 0.98])}, "
        f"H_o {mean_with_interval([0.93, 0.94, 0.92])}",
        "zs-energy-ggn": f"H_o over H_f {mean_with_interval([8, 9, 10])}",
    }
    assert judged[1].startswith(f"means over 3 seeds: {means[claim]}; seed 0: ")
    assert_failed(function(energies(three[0], energetic(poor), three[2])), ["seed 1: "])
    assert verdict(claim, energies(three[0], diverged(700))) == ("not measured", "seed 1: SGD diverged at step 700")
    assert " eigenvectors" not in judged[1]
    unconverged = function(energies(energetic(unconverged=2)))[1]
    assert ", eigenvectors not converged at 2 of 6 snapshots" in unconverged


@pytest.mark.parametrize(
    ("claim", "run", "reason"),
    [
        ("zs-energy-concentrates", energetic().isel(operator=[0, 2]), "fraction_dominant of H_o was not measured"),
        ("zs-energy-ggn", energetic().isel(operator=[0, 1]), "energy_total of H_f was not measured"),
        ("zs-energy-ggn", energetic({"energy_total": (1, 1, 0)}), "an energy of 0 has no ratio to another"),
        ("zs-energy-ggn", made_up(), "energy_total was not measured"),
    ],
)
def test_energies_that_are_missing(claim, run, reason):
    assert verdict(claim, energies(run)) == ("not measured", f"seed 0: SGD: {reason}")


# ---------------------------------------------------------------- every claim
HOLDING = {
    "zs-faster": rates({0.1: losses(0.8), 0.01: losses(0.8)}, {0.1: losses(0.7), 0.01: losses(0.7)}),
    "zs-dom-saturates": dom((1, 0.01), (1, 0.02)),
    "zs-unstable": grown({0: growing(0.002, 0.01), 1: growing(0.003, 0.01)}, {0: FLAT, 1: FLAT}),
    "zs-holdout": held_out({100: ended(-1), 500: ended(-1.05)}),
    "zs-grid-loss": grid(by_beta([5, 4, 3, 2, 1])),
    "zs-grid-accuracy": grid({at: ends for at, ends in ACCURATE.items() if ends}),
    "zs-energy-concentrates": energies(energetic(), energetic()),
    "zs-energy-ggn": energies(energetic(), energetic()),
}
NEEDED = {
    **{claim: {"loss"} for claim in ("zs-faster", "zs-dom-saturates", "zs-holdout", "zs-grid-loss")},
    "zs-unstable": {"eigenvalues"},
    "zs-grid-accuracy": {"loss", "test_accuracy"},
    "zs-energy-concentrates": {"fraction_dominant", "fraction_dominant_se", "dominant_converged"},
    "zs-energy-ggn": {"energy_total", "energy_bulk_se", "fraction_dominant", "dominant_converged"},
}


def test_every_claim_of_the_paper_is_tested_here():
    assert set(HOLDING) == {claim for claim in CLAIMS if claim.startswith("zs-")}


@pytest.mark.parametrize("claim", HOLDING)
def test_a_gap_in_the_data_is_never_a_verdict(claim):
    whole = HOLDING[claim]
    assert verdict(claim, whole)[0] == "holds"
    assert verdict(claim, panel())[0] == "not measured"
    for label, members in whole.families.items():
        first = members[0].run
        assert verdict(claim, panel({**whole.families, label: []})) == ("not measured", f"there are no runs {label}")
        for name in first.data_vars:
            absent = verdict(claim, changed(whole, label, 0, first.drop_vars(name)))
            nothing = verdict(claim, changed(whole, label, 0, first.assign({name: first[name] * NAN})))
            empty = {d: slice(0, 0) for d in first[name].dims if str(d).endswith("step")}
            none = verdict(claim, changed(whole, label, 0, first.isel(empty)))
            assert {absent[0], nothing[0]} == {"not measured" if name in NEEDED[claim] else "holds"}, name
            assert none[0] in ("holds", "not measured")
            if name in NEEDED[claim]:
                assert none[0] == "not measured"
                assert label in absent[1]
                assert name in absent[1]
        lost = verdict(claim, changed(whole, label, 0, None))
        if len(whole.families) > 1:
            assert lost[0] == "not measured"
            assert lost[1].startswith(f"there is no run {label} with ")


@pytest.mark.parametrize("claim", HOLDING)
def test_a_diverged_run_without_a_row_is_coped_with(claim):
    """What it means is tested above; here, that it never stops the judge."""
    for label, members in HOLDING[claim].families.items():
        for i in range(len(members)):
            word, text = verdict(claim, changed(HOLDING[claim], label, i, diverged(1100)))
            assert word in ("holds", "does not hold", "not measured")
            assert ("diverged" in text) or (claim == "zs-faster" and i == 1)  # a smaller rate is not considered


@pytest.mark.parametrize("claim", HOLDING)
def test_a_family_that_varies_in_something_else_is_refused(claim):
    label = next(iter(HOLDING[claim].families))
    odd = [Member(m.varied | {"k": 5}, m.run, m.segments) for m in HOLDING[claim].families[label]]
    with pytest.raises(ValueError, match=f"{label} varies in .*, k, not in"):
        verdict(claim, panel({**HOLDING[claim].families, label: odd}))


def test_segments_of_families_are_named():
    whole = dom((1, 0.0), (1, 0.0))
    assert claims._judge("zs-dom-saturates", whole).runs == (
        "begin-0 SGD-0 begin-1 SGD-1 Dom-SGD-0 Dom-SGD-1"  # shared beginnings once
    )


def test_families_are_judged_from_files(tmp_path: Path):
    """Segments of two seeds, from netCDF files through `judge`; of the second Dom-SGD diverged."""
    planned: dict[str, list] = {"SGD": [], "Dom-SGD": []}
    paths = {}

    def write(name: str, first: int, steps: list[int], loss: list[float], at: int = -1) -> str:
        attributes = {"id": name, "status": "diverged" if at >= 0 else "completed", "diverged_at": at}
        dataset = xr.Dataset(
            {"loss": ("step", np.array(loss, dtype=float))},
            coords={"step": np.array(steps, dtype=np.int64)},
            attrs={**attributes, "first_step": first, "specification": "{}"},
        )
        paths[name] = tmp_path / f"{name}.nc"
        write_dataset(dataset, paths[name])
        return name

    for seed in (0, 1):
        begin = write(f"begin-{seed}", 0, [0, 10], [1.0, 0.5])
        sgd = write(f"sgd-{seed}", 10, [10, 20], [0.5, 0.1])
        stays = write(f"dom-{seed}", 10, [10, 20], [0.5, 0.5]) if seed == 0 else write("dom-1", 10, [], [], at=12)
        planned["SGD"].append([{"seed": seed}, [begin, sgd]])
        planned["Dom-SGD"].append([{"seed": seed}, [begin, stays]])

    def verdict_of(members: int) -> claims.Verdict:
        families = [[label, those[:members]] for label, those in planned.items()]
        one = PanelSpec(setting="mlp", title="MLP", runs=(), families=families)
        claim = ClaimSpec(name="zs-dom-saturates", panels=(one,))
        return judge([claim], paths, {kind: tmp_path / f"claims.{kind}" for kind in ("json", "csv")})[0]

    first = verdict_of(1)
    assert (first.verdict, first.runs) == ("holds", "begin-0 sgd-0 dom-0")
    assert first.measured == "seed 0: Dom-SGD's log-loss fell by 0.0000, SGD's by 1.6094 (0.0%) in 10 steps"
    both = verdict_of(2)
    assert (both.verdict, both.measured) == ("not measured", "seed 1: Dom-SGD diverged at step 12")
    assert both.runs == "begin-0 sgd-0 begin-1 sgd-1 dom-0 dom-1"
    (row,) = json.loads((tmp_path / "claims.json").read_text(encoding="utf-8"))
    assert row["threshold"] == song.DOM_STOPS
