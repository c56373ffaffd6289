"""Claims are judged by what was measured: made-up runs on either side of each threshold (Zakarin, Singh:
`test_claims_zakarin`)."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from analysis import claims
from analysis.claims import CLAIMS, judge, song, song_dynamics
from analysis.claims.families import every_seed
from analysis.claims.measured import NotMeasured, Undecided
from analysis.plan.join import load_plan
from analysis.runs.panels import Member, Panel
from analysis.specs.panels import ClaimSpec, PanelSpec
from analysis.store.netcdf import write_dataset

NAN = math.nan
STEP_OF = {  # the dimension of each variable
    **dict.fromkeys(("loss", "gradient_norm", "distance"), "step"),
    **dict.fromkeys(("alignment", "update_alignment", "eigenvalues", "stability_threshold"), "spectrum_step"),
    **dict.fromkeys(("dom_lr", "bulk_lr"), "rate_step"),
}


def made_up(switches: list[int], steps: dict[str, list[int]], learning_rate: float = 0.5, **variables) -> xr.Dataset:
    """A run of these variables; k = 1 and two eigenvalues."""
    return xr.Dataset(
        {name: ((STEP_OF[name], "index")[: np.ndim(value)], value) for name, value in variables.items()},
        coords={**steps, "index": [1, 2]},
        attrs={
            "status": "completed",
            "switches": switches,
            "specification": json.dumps({"problem": {"k": 1}, "rule": {"learning_rate": learning_rate}}),
        },
    )


def panel(runs: dict[str, xr.Dataset], distances: xr.Dataset | None = None) -> Panel:
    return Panel("mlp", "MLP", runs, {label: [label] for label in runs}, distances)


# ---------------------------------------------------------------- SGD, Dom-SGD, Bulk-SGD
def run(loss: float, distance: float = 1.0, alignment: float = 0.95, gap: float = 2.0) -> xr.Dataset:
    """SGD from loss 1 to e⁻¹ at the switch at step 10, then to `loss` at step 20."""
    return made_up(
        [10],
        {"step": [0, 10, 20], "spectrum_step": [0, 2, 5, 10, 15, 20]},
        loss=[1.0, np.exp(-1), loss],
        distance=[0.0, 0.0, distance],
        alignment=[0.0, 0.0, 0.0, alignment, alignment, alignment],
        eigenvalues=[[1.0, 1.0]] * 3 + [[gap, 1.0]] * 3,
    )


SGD = run(np.exp(-2))  # a drop in log-loss of 1
SWITCHED = {"SGD": SGD, "Dom-SGD": run(np.exp(-1.05), 0.1), "Bulk-SGD": run(np.exp(-2), 1.0)}


def of_seeds(*runs: dict[str, xr.Dataset]) -> Panel:
    """Runs by label of seeds 0, 1, …"""
    families = {label: [Member({"seed": i}, own[label], [label]) for i, own in enumerate(runs)] for label in runs[0]}
    return Panel("mlp", "MLP", {}, {}, families=families)


HELD = {  # with a number that each verdict contains, by its name
    song.aligns: ("median χ_k", 0.95, SWITCHED | {"SGD": run(np.exp(-2), alignment=0.8)}),
    song.low_rank: ("median λ_k/λ_(k+1)", 2.0, SWITCHED | {"SGD": run(np.exp(-2), gap=1.2)}),
    song.dom_stops: ("Dom-SGD's drop over SGD's", 0.05, SWITCHED | {"Dom-SGD": run(np.exp(-1.5))}),
    song.bulk_trains: ("Bulk-SGD's drop over SGD's", 1.0, SWITCHED | {"Bulk-SGD": run(np.exp(-1.5))}),
    song.distance: ("Dom-SGD's distance over SGD's", 0.1, SWITCHED | {"Dom-SGD": run(np.exp(-1.05), 0.3)}),
}


@pytest.mark.parametrize("function", HELD)
def test_a_claim_has_to_hold_with_every_seed(function):
    number, value, failing = HELD[function]
    alone = function(panel(SWITCHED))
    assert alone[0]
    assert "seed" not in alone[1]
    holds, text = function(of_seeds(SWITCHED, SWITCHED, SWITCHED))
    assert holds
    assert text.startswith("means over 3 seeds: ")
    assert f"{number} {value:.3g} (95% confidence {value:.3g} to {value:.3g})" in text
    assert all(f"seed {seed}: " in text for seed in range(3))
    holds, text = function(of_seeds(SWITCHED, SWITCHED, failing))
    assert not holds
    assert "failed: seed 2: " in text
    assert "Held: seed 0: " in text
    assert f"{number} {value:.3g} (95%" not in text  # the third seed's is in the mean


@pytest.mark.parametrize("function", HELD)
def test_a_seed_that_diverged_cannot_be_judged(function):
    attributes = {"status": "diverged", "diverged_at": 12}
    gone = {label: one.assign_attrs(attributes) for label, one in SWITCHED.items()}
    with pytest.raises(NotMeasured, match=r"^seed 1: SGD diverged at step 12$"):
        function(of_seeds(SWITCHED, gone))
    with pytest.raises(NotMeasured, match=r"^seed 0: SGD diverged at step 12; seed 2: SGD diverged at step 12$"):
        function(of_seeds(gone, SWITCHED, gone))


@pytest.mark.parametrize("function", HELD)
def test_a_seed_that_cannot_be_judged_hides_no_failure(function):
    _, _, failing = HELD[function]
    gone = {label: one.assign_attrs(status="diverged", diverged_at=12) for label, one in SWITCHED.items()}
    holds, text = function(of_seeds(gone, failing, SWITCHED))
    assert not holds
    assert text.startswith("failed: seed 1: ")
    assert text.endswith(". Not measured: seed 0: SGD diverged at step 12")


def test_a_missing_run_hides_no_failure():
    there = of_seeds(SWITCHED, SWITCHED | {"Dom-SGD": run(np.exp(-1.5))})
    lacking = there.families | {"Dom-SGD": there.families["Dom-SGD"][1:]}
    holds, text = song.dom_stops(dataclasses.replace(there, families=lacking))
    assert not holds
    assert text.endswith("Not measured: there is no run Dom-SGD with seed 0")


def test_an_undecided_seed_leaves_the_statement_undecided():
    def judged(single: Panel):
        if single.runs["SGD"].attrs["status"] == "diverged":
            raise Undecided("both are alike")
        return [(False, "no")], {}

    undecided = {"SGD": SGD.assign_attrs(status="diverged")}
    with pytest.raises(Undecided, match=r"^seed 1: undecided: both are alike$"):
        every_seed(of_seeds({"SGD": SGD}, undecided), ["SGD"], judged, may_diverge=True)


@pytest.mark.parametrize("function", [song.dom_stops, song.bulk_trains, song.distance])
def test_a_switch_before_the_gradient_is_aligned_is_reported(function):
    averages = "spectrum_step", [0.0, 0.1, 0.2, 0.333, 0.4, 0.5]
    late = {label: one.assign(alignment_ema=averages) for label, one in SWITCHED.items()}
    assert "switch" not in function(panel(late))[1].replace("from the switch", "")
    late = {label: one.assign_attrs(late_switches=[10]) for label, one in late.items()}
    holds, text = function(panel(late))
    assert holds
    assert text.endswith(" (the switch came by steps, at an average χ_k of 0.333)")


def test_distances_are_compared_at_the_same_step():
    steps = {"step": [0, 10, 20, 30], "spectrum_step": [0, 10]}
    longer = made_up([10], steps, distance=[0.0, 0.0, 0.2, 1.0])
    holds, text = song.distance(panel({"SGD": longer, "Dom-SGD": run(1, distance=0.1), "Bulk-SGD": longer}))
    assert not holds
    assert "Dom-SGD 0.1, 50% of SGD's 0.2" in text


@pytest.mark.parametrize(
    ("function", "label", "value", "holds"),
    [
        (song.dom_stops, "Dom-SGD", run(np.exp(-1.099)), True),
        (song.dom_stops, "Dom-SGD", run(np.exp(-1.101)), False),
        (song.dom_stops, "Dom-SGD", run(np.exp(-0.9)), True),  # its loss rises
        (song.bulk_trains, "Bulk-SGD", run(np.exp(-1.901)), True),
        (song.bulk_trains, "Bulk-SGD", run(np.exp(-1.899)), False),
    ],
)
def test_drops_in_log_loss_are_compared_with_sgds(function, label, value, holds):
    assert function(panel({"SGD": SGD, label: value}))[0] is holds


def test_nothing_is_as_effective_as_an_sgd_that_does_not_train():
    flat = run(np.exp(-1))
    assert song.bulk_trains(panel({"SGD": flat, "Bulk-SGD": SGD})) == (
        False,
        "Bulk-SGD's log-loss fell by 1.0000, SGD's by 0.0000 (SGD's did not fall) in 10 steps",
    )


def test_drops_are_over_the_steps_that_both_have():
    longer = made_up([10], {"step": [0, 10, 15, 20, 30]}, loss=[1, np.exp(-1), 0.3, np.exp(-1.05), 1e-9])
    assert song.dom_stops(panel({"SGD": SGD, "Dom-SGD": longer})) == (
        True,
        "Dom-SGD's log-loss fell by 0.0500, SGD's by 1.0000 (5.0%) in 10 steps",
    )


@pytest.mark.parametrize(("alignment", "holds"), [(0.9, True), (0.89, False)])
def test_alignment_is_the_last_halfs_median(alignment, holds):
    assert song.aligns(panel({"SGD": run(1, alignment=alignment)})) == (holds, f"median χ_k {alignment:.3f}")


@pytest.mark.parametrize(("gap", "holds"), [(1.25, True), (1.24, False)])
def test_the_gap_is_between_the_kth_and_the_next_eigenvalue(gap, holds):
    assert song.low_rank(panel({"SGD": run(1, gap=gap)})) == (holds, f"median λ_k/λ_(k+1) {gap:.3f}")


@pytest.mark.parametrize(
    ("dom", "bulk", "failed"),
    [
        (0.25, 1.2, []),
        (0.26, 1.0, ["Dom-SGD 0.26"]),
        (0.2, 1.21, ["Bulk-SGD 1.21"]),
        (0.2, 0.79, ["Bulk-SGD 0.79"]),
        (0.3, 2, ["Dom-SGD 0.3", "Bulk-SGD 2"]),
    ],
)
def test_distances_are_compared_with_sgds(dom, bulk, failed):
    runs = {"SGD": run(1, distance=1.0), "Dom-SGD": run(1, distance=dom), "Bulk-SGD": run(1, distance=bulk)}
    assert_failed(song.distance(panel(runs)), failed)


def assert_failed(judged: tuple[bool, str], expected: list[str]) -> None:
    """The parts of a claim that failed are named, by how their texts begin, and no others; all parts' numbers stand."""
    holds, text = judged
    assert holds is (not expected), text
    failed = re.match(r"(?:[^;]*; )?failed: (.*?)(?:\. Held: |$)", text)
    assert [part.startswith(e) for part, e in zip(failed[1].split("; ") if failed else [], expected, strict=True)] == [
        True
    ] * len(expected), text


# ---------------------------------------------------------------- switches between SGD and GD
def turned(settled: float, before: float, at_first: float) -> xr.Dataset:
    """Switched at step 100 of 200; `at_first` up to step 109, measured as often as the rest."""
    steps = [0, 50, *range(100, 110), *range(110, 201, 10)]
    return made_up([50, 100], {"spectrum_step": steps}, alignment=[before] * 2 + [at_first] * 10 + [settled] * 10)


@pytest.mark.parametrize(
    ("function", "label", "value", "holds"),
    [
        (song.switched_off, "SGD to GD", turned(0.2, 1, 1), True),
        (song.switched_off, "SGD to GD", turned(0.21, 0, 0), False),
        (song.switched_on, "GD to SGD", turned(0.9, 0, 0), True),
        (song.switched_on, "GD to SGD", turned(0.89, 1, 1), False),
    ],
)
def test_alignment_after_a_switch_is_judged_once_it_has_settled(function, label, value, holds):
    settled = float(value.alignment[-1])
    assert function(panel({label: value})) == (holds, f"median χ_k {settled:.3f}")


@pytest.mark.parametrize(("alignment", "holds"), [(0.2, True), (0.21, False)])
def test_no_alignment_along_gd(alignment, holds):
    gd = run(1, alignment=alignment)  # 0 before the last half
    assert song.no_alignment(panel({"GD": gd})) == (holds, f"median χ_k {alignment:.3f}")


def apart(between: float) -> xr.Dataset:
    names = {"between": [0, 9.0, between], "first": [0, 1.0, 2.0], "second": [0, 1.0, 2.5]}
    return xr.Dataset({name: ("step", value) for name, value in names.items()}, coords={"step": [0, 10, 2000]})


@pytest.mark.parametrize(
    ("between", "holds", "measured"),
    [
        (0.4, True, "‖θ^GD − θ^SGD‖ 0.4, 20.0% of ‖θ^GD − θ_0‖ 2 (‖θ^SGD − θ_0‖ 2.5) at step 2,000"),
        (0.41, False, "‖θ^GD − θ^SGD‖ 0.41, 20.5% of ‖θ^GD − θ_0‖ 2 (‖θ^SGD − θ_0‖ 2.5) at step 2,000"),
    ],
)
def test_paths_are_compared_at_the_end_with_how_far_gd_went(between, holds, measured):
    assert song.paths_stay_close(panel({"GD": SGD, "SGD": SGD}, apart(between))) == (holds, measured)


# ---------------------------------------------------------------- the quadratic ½(1000 x² + y²)
def valley(x: list[float], y: list[float], switches: list[int]) -> xr.Dataset:
    x, y = np.array(x), np.array(y)
    norm = np.hypot(1000 * x, y)
    return made_up(
        switches,
        {"step": [0, 10, 20, 30], "spectrum_step": [0, 10, 20, 30]},
        loss=(1000 * x**2 + y**2) / 2,
        gradient_norm=norm,
        alignment=np.abs(1000 * x) / norm,
        eigenvalues=[[1000.0, 1.0]] * 4,
    )


def slope(chi: float) -> float:
    """The x at which χ_1 is `chi`, where y = 1."""
    return chi / math.sqrt(1 - chi**2) / 1000


def valleys(gd: float = 0.0, sgd: float = 0.99, floor_fall: float = 0.0) -> dict[str, xr.Dataset]:
    """GD's χ_1 at the end, SGD's over the last half, and by how much ½ y² falls under Dom-SGD; under SGD it halves."""
    low = math.sqrt(0.5)
    return {
        "GD": valley([1, 0.1, 0.1, slope(gd)], [1, 1, 1, 1], []),
        "SGD": valley([1, 0.1, low * slope(sgd), low * slope(sgd)], [1, 1, low, low], []),
        "Dom-SGD": valley([1, 0.1, 1e-4, 1e-5], [1, 1, 9, math.sqrt(1 - floor_fall)], [10]),
    }


@pytest.mark.parametrize(
    ("runs", "failed"),
    [
        (valleys(gd=0.0499, sgd=0.9001, floor_fall=0.0099), []),
        (valleys(gd=0.0501), ["GD: χ_1 0.050 at the end"]),
        (valleys(sgd=0.8999), ["SGD: median χ_1 0.900"]),
        (valleys(floor_fall=0.0101), ["Dom-SGD: the loss of the valley's floor fell by 1.01%, SGD's by 50.00% from"]),
        (valleys(0.5, 0.5, 0.5), ["GD: χ_1 0.500", "SGD: median χ_1 0.500", "Dom-SGD: "]),
    ],
    ids=["holds", "GD", "SGD", "Dom-SGD", "all"],
)
def test_the_quadratic(runs, failed):
    judged = song.quadratic(panel(runs))
    assert_failed(judged, failed)
    assert "from step 10 to 30" in judged[1]


def test_the_floor_is_the_part_of_the_loss_outside_the_dominant_subspace():
    y = np.array([1, 0.9, 0.7, 0.4])
    floor = song._floor(panel({"SGD": valley([1, 0.3, 0.02, 1e-4], y, [])}), "SGD")
    np.testing.assert_allclose(floor, y**2 / 2, rtol=1e-9)


# ---------------------------------------------------------------- edges of stability
def at_the_edge(
    label: str, saturation: float = 1.0, alignment: float = 0.95, dom: float = 0.0, bulk: float = 1.0
) -> Panel:
    """20 steps, switch at 10, from where the reference's log-loss falls by 1. For GD the threshold is constant and χ
    the gradient's; for SAM the threshold falls and χ is the update's, NaN at the end. The other χ would fail."""
    steps = np.arange(21)
    threshold = np.full(21, 4.0) if label == "GD" else 5.0 - 0.1 * steps
    chi = np.where(steps >= 10, alignment, 0.0)
    update, gradient = (np.zeros(21), chi) if label == "GD" else (chi, np.zeros(21))
    update[-1] = NAN
    sharpness = np.where(steps >= 15, saturation, 0.1) * threshold
    reference = made_up(
        [10],
        {"step": [0, 10, 20], "spectrum_step": steps},
        loss=[5.0, 1.0, np.exp(-1)],
        alignment=gradient,
        update_alignment=update,
        eigenvalues=np.stack([sharpness, 0.01 * sharpness], axis=1),
        stability_threshold=threshold,
    )
    branches = {
        f"{name}-{label}": made_up([10], {"step": [0, 10, 20]}, loss=[5.0, 1.0, np.exp(-drop)])
        for name, drop in {"Dom": dom, "Bulk": bulk}.items()
    }
    return panel({label: reference, **branches})


@pytest.mark.parametrize(
    ("label", "function", "within", "edge"),
    [("GD", song_dynamics.edge_of_stability, 0.1, "2/η"), ("SAM", song_dynamics.sam_edge, 0.15, "the SAM-edge")],
)
def test_edges_of_stability(label, function, within, edge):
    low, high = 1 - within, 1 + within
    for measured in (
        {"saturation": low + 1e-3},
        {"saturation": high - 1e-3},
        {"alignment": 0.9},
        {"dom": 0.099},
        {"bulk": 0.901},
    ):
        assert_failed(function(at_the_edge(label, **measured)), [])
    mean = 4.0 if label == "GD" else 3.25  # threshold over the last quarter
    text = function(at_the_edge(label, saturation=low + 1e-3))[1]
    assert text.startswith(f"mean λ_1 {(low + 1e-3) * mean:.4g}, {100 * low + 0.1:.1f}% of {edge}; ")
    assert_failed(function(at_the_edge(label, saturation=low - 1e-3)), ["mean λ_1 "])
    assert_failed(function(at_the_edge(label, saturation=high + 1e-3)), ["mean λ_1 "])
    assert_failed(function(at_the_edge(label, alignment=0.89)), ["median χ_k 0.890"])
    assert_failed(function(at_the_edge(label, dom=0.101)), [f"Dom-{label}'s log-loss fell by 0.1010, {label}'s by 1.0"])
    assert_failed(function(at_the_edge(label, bulk=0.899)), [f"Bulk-{label}'s log-loss fell by 0.8990"])
    assert_failed(function(at_the_edge(label, 0.5, 0.5, 0.5, 0.5)), ["mean ", "median ", "Dom-", "Bulk-"])


@pytest.mark.parametrize("label", ["GD", "SAM"])
def test_the_edge_is_judged_with_every_seed(label):
    function = {"GD": song_dynamics.edge_of_stability, "SAM": song_dynamics.sam_edge}[label]
    fine, failing = at_the_edge(label).runs, at_the_edge(label, dom=0.101).runs
    holds, text = function(of_seeds(fine, fine))
    assert holds
    assert text.startswith("means over 2 seeds: ")
    holds, text = function(of_seeds(fine, failing))
    assert not holds
    assert f"seed 1: Dom-{label}'s log-loss fell by 0.1010" in text.partition("Held: ")[0]
    for diverged in fine:
        gone = fine | {diverged: fine[diverged].assign_attrs(status="diverged", diverged_at=12)}
        with pytest.raises(NotMeasured, match=f"^seed 1: {diverged} diverged at step 12$"):
            function(of_seeds(fine, gone))


# ---------------------------------------------------------------- effective learning rates
def rated(dom: float, bulk: float, loss: float = 1.0, last: int = 1000, learning_rate: float = 0.01) -> xr.Dataset:
    """Rates up and down around their means, nothing at the end; what comes from step 1,000 on is of no claim."""
    return made_up(
        [],
        {"step": [0, last // 2, last, 1010], "rate_step": [0, 499, 998, 1000, 1010]},
        learning_rate,
        loss=[2.0, 1.0, loss, 3 - loss],
        dom_lr=[dom - 0.01, dom, dom + 0.01, 99, NAN],
        bulk_lr=[bulk - 0.01, bulk, bulk + 0.01, 99, NAN],
    )


LABELS = ("GD(\N{MINUS SIGN}m)", "GD(+m)", "Adam(\N{MINUS SIGN}m)", "Adam(+m)")
PUBLISHED = {  # table 2
    "GD(−m)": (0.0100, 0.0100),
    "GD(+m)": (0.0012, 0.1005),
    "Adam(−m)": (0.3317, 0.4021),
    "Adam(+m)": (0.0356, 0.7301),
}
LOSSES = dict(zip(LABELS, (0.5, 0.25, 0.125, 0.0625), strict=True))


def four(changed: dict[str, tuple[float, float]] | None = None, losses: dict[str, float] | None = None) -> Panel:
    table, at_the_end = PUBLISHED | (changed or {}), LOSSES | (losses or {})
    return panel({label: rated(*table[label], at_the_end[label]) for label in LABELS})


@pytest.mark.parametrize(
    ("dom", "bulk", "failed"),
    [
        (1.0099, 0.9901, []),
        (0.9901, 1.0099, []),
        (1.0101, 1, ["mean Dom-LR 0.505"]),
        (0.9899, 1, ["mean Dom-LR"]),
        (1, 1.0101, ["mean Bulk-LR"]),
        (1, 0.9899, ["mean Bulk-LR 0.495 (standard deviation 0.0071)"]),
    ],
)
def test_plain_gd_has_its_learning_rate(dom, bulk, failed):
    runs = {LABELS[0]: rated(dom * 0.5, bulk * 0.5, learning_rate=0.5)}
    judged = song_dynamics.plain_rates(panel(runs))
    assert_failed(judged, failed)
    assert judged[1].startswith("η 0.5, 3 steps measured up to 998; ")


@pytest.mark.parametrize(
    ("changed", "failed"),
    [
        ({}, []),
        ({"GD(+m)": (0, 0.0501)}, []),
        ({"GD(+m)": (0, 0.0499)}, ["GD(+m)'s Bulk-LR 0.0499, GD(−m)'s 0.01"]),
        ({"Adam(+m)": (0, 0.4022)}, []),
        ({"Adam(+m)": (0, 0.4020)}, ["Adam(+m)'s Bulk-LR 0.402, the largest other 0.4021 (Adam(−m))"]),
        ({"GD(+m)": (0.1004, 0.1005)}, []),
        ({"GD(+m)": (0.1006, 0.1005)}, ["GD(+m): Bulk-LR 0.1005, Dom-LR 0.1006"]),
        ({"Adam(−m)": (0.4022, 0.4021)}, ["Adam(−m): Bulk-LR 0.4021, Dom-LR 0.4022"]),
        ({"Adam(+m)": (0.74, 0.73)}, ["Adam(+m): Bulk-LR 0.73, Dom-LR 0.74"]),
        ({"GD(−m)": (0.1, 0.01)}, []),  # of plain GD nothing is asked
    ],
)
def test_momentum_amplifies_bulk_lr(changed, failed):
    assert_failed(song_dynamics.amplified(four(changed)), failed)


@pytest.mark.parametrize(
    ("changed", "losses", "failed"),
    [
        ({}, {}, []),
        ({}, {"GD(+m)": 0.126, "Adam(−m)": 0.125}, []),
        ({}, {"GD(+m)": 0.124}, ["Adam(−m) before GD(+m): Bulk-LR 0.4021, 0.1005, loss 0.125, 0.124"]),
        ({}, {"GD(+m)": 0.125}, ["Adam(−m) before GD(+m)"]),
        ({"Adam(−m)": (0, 0.1005)}, {"Adam(−m)": 0.3}, ["GD(+m) before Adam(−m): Bulk-LR 0.1005, 0.1005"]),
        ({"GD(−m)": (0, 0.9)}, {"GD(−m)": 0.01}, []),
        ({"GD(−m)": (0, 0.9)}, {}, ["GD(−m) before Adam(+m)"]),
    ],
)
def test_the_larger_the_bulk_lr_the_lower_the_loss(changed, losses, failed):
    judged = song_dynamics.speed(four(changed, losses))
    assert_failed(judged, failed)
    assert judged[1].startswith("loss at step 1,000; ")


def test_loss_is_compared_at_the_last_step_that_all_have():
    runs = {label: rated(*PUBLISHED[label], LOSSES[label], last=600) for label in LABELS}
    runs["GD(−m)"] = rated(*PUBLISHED["GD(−m)"], 0.5, last=1200).assign_coords(step=[0, 600, 1200, 1300])
    judged = song_dynamics.speed(panel(runs))  # where plain GD has a loss of 1
    assert_failed(judged, [])
    assert judged[1].startswith("loss at step 600; ")
    assert "GD(+m) before GD(−m): Bulk-LR 0.1005, 0.01, loss 0.25, 1" in judged[1]


# ---------------------------------------------------------------- every claim, and what is missing
HOLDING = {
    **dict.fromkeys(("song-1", "song-lowrank"), panel({"SGD": SGD})),
    "song-2-dom": panel({"SGD": SGD, "Dom-SGD": SWITCHED["Dom-SGD"]}),
    "song-2-bulk": panel({"SGD": SGD, "Bulk-SGD": SWITCHED["Bulk-SGD"]}),
    "song-distance": panel(SWITCHED),
    "song-3-off": panel({"SGD to GD": turned(0.1, 1, 1)}),
    "song-3-on": panel({"GD to SGD": turned(0.95, 0, 0)}),
    "song-quadratic": panel(valleys()),
    "song-eos": at_the_edge("GD"),
    "song-sam": at_the_edge("SAM"),
    "song-gd-lr": panel({LABELS[0]: four().runs[LABELS[0]]}),
    "song-momentum": four(),
    "song-speed": four(),
    "song-gd-small": panel({"GD": run(1, alignment=0.1)}),
    "song-flow": panel({"GD": SGD, "SGD": SGD}, apart(0.1)),
}


def test_every_claim_of_song_is_tested_here():
    assert set(HOLDING) == {claim for claim in CLAIMS if claim.startswith("song-")}


def changed(panel_: Panel, label: str, run_: xr.Dataset | None) -> Panel:
    runs = {k: v for k, v in (panel_.runs | {label: run_}).items() if v is not None}
    return Panel(panel_.setting, panel_.title, runs, panel_.segments, panel_.distances)


@pytest.mark.parametrize("claim", HOLDING)
def test_a_gap_in_the_data_is_never_a_verdict(claim):
    whole = HOLDING[claim]
    assert claims._judge(claim, whole).verdict == "holds"
    for label, run_ in whole.runs.items():
        gaps = {"no run": changed(whole, label, None), "nothing": changed(whole, label, run_.drop_vars(run_.data_vars))}
        for dimension in set(run_.dims) - {"index"}:
            gaps[f"empty {dimension}"] = changed(whole, label, run_.isel({dimension: slice(0, 0)}))
        for name in run_.data_vars:
            gaps[f"no {name}"] = changed(whole, label, run_.drop_vars(name))
            gaps[f"NaN {name}"] = changed(whole, label, run_.assign({name: run_[name] * NAN}))
        verdicts = {gap: claims._judge(claim, panel_) for gap, panel_ in gaps.items()}
        if claim != "song-flow":
            assert {verdicts[gap].verdict for gap in ("no run", "nothing")} == {"not measured"}
            assert label in verdicts["nothing"].measured
        assert {v.verdict for v in verdicts.values()} <= {"holds", "not measured"}, verdicts
        needed = {gap for gap, v in verdicts.items() if v.verdict == "not measured"}
        for name in run_.data_vars:  # absent and NaN are the same gap
            assert (f"no {name}" in needed) is (f"NaN {name}" in needed)
        diverged = claims._judge(claim, changed(whole, label, run_.assign_attrs(status="diverged")))
        assert (diverged.verdict, diverged.measured) == ("not measured", f"{label} diverged")


def without_switch(run_: xr.Dataset) -> xr.Dataset:
    return run_.assign_attrs(switches=[])


@pytest.mark.parametrize(
    ("claim", "panel_", "reason"),
    [
        ("song-1", panel({}), "there is no run SGD"),
        ("song-1", panel({"SGD": SGD.drop_vars("alignment")}), "SGD: alignment was not measured"),
        ("song-1", panel({"SGD": run(1, alignment=NAN)}), "SGD: alignment is not finite at some steps"),
        ("song-lowrank", panel({"SGD": SGD.isel(index=[0])}), "SGD: λ_2 was not measured, only the 1 largest"),
        (
            "song-lowrank",
            panel({"SGD": SGD.assign(eigenvalues=SGD.eigenvalues * [1, 0])}),
            "SGD: λ_2 is not positive at some steps, where λ_k/λ_(k+1) says nothing",
        ),
        (
            "song-2-dom",
            panel({"SGD": SGD, "Dom-SGD": without_switch(SGD)}),
            "Dom-SGD has no switch: it is one segment",
        ),
        (
            "song-2-dom",
            panel({"SGD": SGD.isel(step=[0, 2]), "Dom-SGD": SGD}),
            "Dom-SGD and what it is compared with were not both measured at its switch and after it",
        ),
        (
            "song-2-dom",
            panel({"SGD": SGD.isel(step=[0, 1]), "Dom-SGD": SGD}),
            "Dom-SGD and what it is compared with were not both measured at its switch and after it",
        ),
        ("song-2-dom", panel({"SGD": SGD, "Dom-SGD": run(0.0)}), "Dom-SGD, SGD: a loss of 0 has no logarithm"),
        (
            "song-distance",
            panel({label: run(1, distance=0.0) for label in SWITCHED}),
            "SGD did not move from the switch",
        ),
        (
            "song-3-off",
            panel({"SGD to GD": without_switch(SGD)}),
            "SGD to GD has no switch: it is one segment",
        ),
        (
            "song-quadratic",
            panel(valleys() | {"Dom-SGD": valley([1] * 4, [0] * 4, [10])}),
            "Dom-SGD, SGD: the loss of the valley's floor is 0 at the switch, so it cannot fall",
        ),
        (
            "song-sam",
            changed(
                at_the_edge("SAM"),
                "SAM",
                at_the_edge("SAM").runs["SAM"].assign(update_alignment=("spectrum_step", [0.5] * 10 + [NAN] * 11)),
            ),
            "SAM: update_alignment was not measured over the last 50% of its steps",
        ),
        (
            "song-gd-lr",
            panel({LABELS[0]: SGD}),
            "GD(−m): run: found no effective learning rates (dom_lr, bulk_lr) in the first 1,000 steps; "
            "its probes must measure them there",
        ),
        (
            "song-gd-lr",
            panel({LABELS[0]: rated(math.inf, 0.01)}),
            "GD(−m): its effective learning rates are not finite",
        ),
        (
            "song-speed",
            panel({label: rated(*PUBLISHED[label], last=1002).isel(step=[0, 2, 3]) for label in LABELS}),
            "the four runs' losses have no step in common after the start and up to 1,000",
        ),
        ("song-flow", panel({"GD": SGD, "SGD": SGD}), "distances between the runs were not measured"),
        (
            "song-flow",
            panel({"GD": SGD, "SGD": SGD}, apart(0).isel(step=[])),
            "distances between the runs were not measured",
        ),
        (
            "song-flow",
            panel({"GD": SGD, "SGD": SGD}, apart(0).drop_vars("first")),
            "distances between the runs were not measured",
        ),
        (
            "song-flow",
            panel({"GD": SGD, "SGD": SGD}, apart(NAN)),
            "distances between the runs are not finite at the end",
        ),
        ("song-flow", panel({"GD": SGD, "SGD": SGD}, apart(0) * 0), "GD did not move"),
    ],
)
def test_what_is_missing_is_told(claim, panel_, reason):
    judged = claims._judge(claim, panel_)
    assert (judged.verdict, judged.measured) == ("not measured", reason)


# ---------------------------------------------------------------- the table
IN_THE_CATALOGUE = {  # numbers of each claim's threshold
    "song-1": ["0.9", "last half"],
    "song-lowrank": ["1.25", "last half"],
    "song-2-dom": ["≤ 10%"],
    "song-2-bulk": ["≥ 90%"],
    "song-3-off": ["≤ 0.2", "10%"],
    "song-3-on": ["≥ 0.9", "10%"],
    "song-quadratic": ["≤ 0.05", "≥ 0.9", "< 1%"],
    "song-eos": ["10% of 1", "2/η", "last quarter", "≥ 0.9", "≤ 10%", "≥ 90%"],
    "song-sam": ["15% of 1", "SAM-edge", "≥ 0.9", "≤ 10%", "≥ 90%"],
    "song-gd-lr": ["1% of η"],
    "song-momentum": ["≥ 5 times", "largest of the four", "Bulk-LR > Dom-LR"],
    "song-speed": ["1,000", "reverse"],
    "song-gd-small": ["≤ 0.2", "last half"],
    "song-flow": ["≤ 0.2 ‖θ^GD − θ_0‖ at the end"],
    "song-distance": ["≤ 25%", "within 20%"],
    "zs-faster": ["largest learning rate", "Bulk-SGD's loss < SGD's 500 steps after the switch"],
    "zs-dom-saturates": ["≤ 10%"],
    "zs-unstable": ["slope of ln λ_1", "> 0 at 99% confidence with R² ≥ 0.8, or Bulk-SGD diverges", "under SGD"],
    "zs-holdout": ["spread", "log-loss", "over l", "≤ 10%", "drop"],
    "zs-grid-loss": ["Spearman correlation", "with β_bulk ≤ −0.7", "did not diverge"],
    "zs-grid-accuracy": ["α_dom of the cell with the best test accuracy", "> α_dom", "lowest training loss"],
    "zs-energy-concentrates": ["fraction_dominant", "≥ 0.9 for H and for H_o", "last half"],
    "zs-energy-ggn": ["energy_total of H_o ≥ 5 times that of H_f", "fraction_dominant of H_f < that of H_o"],
    "open-regularisation": ["growth ≤ 50%", "drop ≥ 90%", "growth < ln 1.1"],
    "open-schedule": ["with every seed, a lower loss", "higher test accuracy than every constant pair"],
    "open-functional-growth": ["≤ 75%", "≥ 125%", "< ln 1.1"],
    "open-functional-lead": ["≤ 25%", "< 0.02"],
    "open-eigenvalues-many": ["at least half grow by ≥ 10%", "more than 50%", "< ln 1.1"],
    "open-eigenvalues-pass": ["≤ 105%"],
    "open-refresh": ["overlap ≥ 0.99", "drop within 10%", "within 10% of it"],
    "open-architectures-lead": ["lead > 0"],
    "open-architectures-energy": ["≥ 0.9 for H and for H_o", "≥ 5 times", "H_f < that of H_o"],
    "open-optimizers": ["Bulk-LR > Dom-LR"],
    "open-batch-alignment": ["≥ 0.9 at the smallest", "≤ 0.5 at the largest", "≤ 0.05"],
    "open-batch-switch": ["≤ 10%", "≥ 90%", "< 0.05"],
    "open-momentum-branches": ["≤ 10%", "≥ 90%", "< 0.05"],
}


def test_thresholds_are_those_of_the_catalogue():
    assert set(CLAIMS) == set(IN_THE_CATALOGUE)
    for claim, expected in IN_THE_CATALOGUE.items():
        for text in expected:
            assert text in CLAIMS[claim].holds_if, claim


def test_the_documents_table_is_the_codes():
    text = (Path(__file__).parents[2] / "docs" / "claims.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    assert rows == [[f"`{name}`", claim.says, claim.holds_if] for name, claim in CLAIMS.items()]


def test_every_configured_claim_has_a_function_and_the_reverse():
    assert {claim.name for claim in load_plan("quick").claims.claims} == set(CLAIMS)


# ---------------------------------------------------------------- files
def write_runs(
    folder: Path, dom: xr.Dataset, absent: dict[str, str] | None = None
) -> tuple[list[ClaimSpec], dict[str, Path]]:
    for name, dataset in {"sgd": SGD, "dom": dom}.items():
        alone = dataset.assign_attrs(first_step=0).assign(test_loss=("test_step", [1.0]), test_step=("test_step", [0]))
        write_dataset(
            alone.drop_attrs(deep=False).assign_attrs({k: v for k, v in alone.attrs.items() if k != "switches"}),
            folder / f"{name}.nc",
        )
    runs = (("SGD", ("sgd",)), ("Dom-SGD", ("dom",)))
    panel = PanelSpec(setting="mlp", title="MLP", runs=runs, families=())
    claim = ClaimSpec(name="song-1", panels=(panel,), absent=absent or {})
    return [claim], {name: folder / f"{name}.nc" for name in ("sgd", "dom")}


def test_verdicts_are_written_as_csv_and_json(tmp_path):
    planned, paths = write_runs(tmp_path, run(1))
    outputs = {kind: tmp_path / f"claims.{kind}" for kind in ("json", "csv")}
    (verdict,) = judge(planned, paths, outputs)
    assert (verdict.verdict, verdict.measured, verdict.runs) == ("holds", "median χ_k 0.950", "sgd dom")
    rows = json.loads(outputs["json"].read_text(encoding="utf-8"))
    with outputs["csv"].open(encoding="utf-8", newline="") as file:
        assert list(csv.DictReader(file)) == rows
    assert rows[0]["threshold"] == "median χ_k(∇L) over the last half of SGD ≥ 0.9, every seed"


def test_a_setting_that_is_not_there_is_not_measured(tmp_path):
    planned, paths = write_runs(tmp_path, run(1), {"cnn": "not in this profile"})
    here, absent = judge(planned, paths, {kind: tmp_path / f"claims.{kind}" for kind in ("json", "csv")})
    assert (here.setting, here.verdict) == ("mlp", "holds")
    assert (absent.setting, absent.verdict, absent.measured) == ("cnn", "not measured", "not in this profile")
    assert (absent.threshold, absent.runs) == (here.threshold, "")


@pytest.mark.parametrize(
    ("name", "holds", "expected"),
    [
        ("song-1", True, "not measured"),  # "every seed" says nothing of a seed that was not run,
        ("song-1", False, "does not hold"),  # unless another one fails
        # The largest rate, a spread or a rank may change either way.
        ("zs-faster", True, "not measured"),
        ("zs-faster", False, "not measured"),
        # Another remedy may stop the growth; with another seed the statement may be undecided.
        ("open-regularisation", False, "not measured"),
        ("open-functional-growth", False, "not measured"),
    ],
)
def test_members_that_were_not_run_are_told(name, holds, expected, tmp_path, monkeypatch):
    (claim,), paths = write_runs(tmp_path, run(1))
    panel = claim.panels[0].model_copy(update={"absent": ("SGD, seed 1", "SGD, seed 2")})
    monkeypatch.setitem(CLAIMS, name, dataclasses.replace(CLAIMS[name], judge=lambda panel: (holds, "so")))
    (verdict,) = judge(
        [ClaimSpec(name=name, panels=(panel,))],
        paths,
        {kind: tmp_path / f"claims.{kind}" for kind in ("json", "csv")},
    )
    assert (verdict.verdict, verdict.measured) == (expected, "so (not run: SGD, seed 1; SGD, seed 2)")


def test_a_diverged_run_is_not_measured(tmp_path):
    planned, paths = write_runs(tmp_path, run(1).assign_attrs(status="diverged"))
    (verdict,) = judge(planned, paths, {kind: tmp_path / f"claims.{kind}" for kind in ("json", "csv")})
    assert (verdict.verdict, verdict.measured) == ("not measured", "Dom-SGD diverged")
