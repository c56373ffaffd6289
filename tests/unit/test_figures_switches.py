"""Figures of switched update rules: what is drawn is what was measured, and the switch stands where it was."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D

from analysis.figures import alignment_switch, around_switch, edge, style
from analysis.runs.panels import Panel
from tests.unit.test_figures import panel, segment, without_rows

FULL = {"batch_size": None}
SAM = {"kind": "sam", "batch_size": None, "rho": 0.1}
STEPS = np.arange(0, 21, 2)


def switched(before: dict, after: dict, label: str) -> Panel:
    return panel({label: [segment("a", 0, 10, rule=before), segment("b", 10, 20, offset=0.1, rule=after)]})


def to_gd() -> Panel:
    return switched({}, FULL, "SGD to GD")


def branches(name: str, rule: dict) -> Panel:
    """A base run, and two branches of it whose losses lie 0.3 and 0.1 above."""
    start = segment("start", 0, 10, rule=rule)
    offsets = {name: 0.0, f"Dom-{name}": 0.3, f"Bulk-{name}": 0.1}
    return panel({label: [start, segment(label, 10, 20, offset, rule=rule)] for label, offset in offsets.items()})


def of_colour(axes: Axes, colour: str) -> list[Line2D]:
    return [line for line in axes.lines if to_hex(line.get_color()) == to_hex(colour)]


def switches(axes: Axes) -> list[tuple[float, str]]:
    """The place of a dashed vertical line, and the text next to it."""
    lines = of_colour(axes, style.GREY)
    assert all(line.is_dashed() and line.get_ydata() == [0, 1] for line in lines)
    texts = [t.get_text() for t in axes.texts if to_hex(t.get_color()) == to_hex(style.GREY)]
    return [(line.get_xdata()[0], text) for line, text in zip(lines, texts, strict=True)]


def assert_eigenvalues(axes: Axes) -> None:
    """λ_1 … λ_4 = 4 … 1 at step 0 and growing by 0.1 a step; k = 2."""
    drawn = {to_hex(c): of_colour(axes, c) for c in (style.BLUE, style.ORANGE)}
    for colour, values in ((style.BLUE, (4, 3)), (style.ORANGE, (2, 1))):
        lines = drawn[to_hex(colour)]
        assert len(lines) == len(values)
        for line, value in zip(lines, values, strict=True):
            assert line.get_xdata().tolist() == STEPS.tolist()
            np.testing.assert_allclose(line.get_ydata(), value + 0.1 * STEPS)


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ({}, FULL, "SGD → GD at 10"),
        (FULL, {}, "GD → SGD at 10"),
        (SAM, {"kind": "adam", "batch_size": None}, "SAM → Adam at 10"),
        ({}, {"learning_rate": 1.0}, "switch at 10"),
    ],
)
def test_the_switch_is_marked_with_both_rules(before: dict, after: dict, says: str):
    axes = alignment_switch.draw([switched(before, after, "SGD to GD")]).axes[0]
    assert switches(axes) == [(10, says)]


def test_alignment_over_both_segments():
    (axes,) = alignment_switch.draw([to_gd()]).axes
    (line,) = of_colour(axes, style.BLUE)
    assert line.get_xdata().tolist() == STEPS.tolist()
    np.testing.assert_allclose(line.get_ydata(), 0.5 + 0.01 * STEPS)
    assert axes.get_ylabel() == "alignment χₖ(∇L)"
    assert axes.get_title(loc="left") == "MLP (k = 2)"
    assert any("lr 0.25, batch 5, then lr 0.25, full batch" in t.get_text() for t in axes.texts)


def test_of_several_switches_the_last_is_marked():
    path = [segment("a", 0, 6), segment("b", 6, 10), segment("c", 10, 20, rule=FULL)]
    assert switches(alignment_switch.draw([panel({"SGD to GD": path})]).axes[0]) == [(10, "SGD → GD at 10")]


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_panel_for_each_setting(count: int):
    figure = alignment_switch.draw([to_gd()] * count)
    assert [switches(axes) for axes in figure.axes] == [[(10, "SGD → GD at 10")]] * count


def test_alignment_loss_and_eigenvalues_around_a_switch():
    left, middle, right = around_switch.draw([to_gd()]).axes
    (line,) = of_colour(left, style.BLUE)
    np.testing.assert_allclose(line.get_ydata(), 0.5 + 0.01 * STEPS)
    (line,) = of_colour(middle, style.BLUE)
    steps = np.arange(21)
    assert line.get_xdata().tolist() == steps.tolist()
    np.testing.assert_allclose(line.get_ydata(), np.exp(-0.1 * steps) + np.where(steps < 10, 0, 0.1))
    assert_eigenvalues(right)
    assert [axes.get_yscale() for axes in (left, middle, right)] == ["linear", "log", "linear"]
    assert [axes.get_ylabel() for axes in (left, middle, right)] == [
        "alignment χₖ(∇L)",
        "training loss",
        "Hessian eigenvalues",
    ]
    for axes in (left, middle, right):
        assert switches(axes) == [(10, "SGD → GD at 10")]
        assert axes.get_xlabel() == "step"


def test_the_switchs_text_covers_no_line():
    figure = around_switch.draw([to_gd()])
    figure.canvas.draw()
    for axes in figure.axes:
        (text,) = [t for t in axes.texts if to_hex(t.get_color()) == to_hex(style.GREY)]
        highest = max(max(line.get_ydata()) for line in axes.lines if len(line.get_ydata()) > 2)
        assert text.get_window_extent().y0 > axes.transData.transform((0, highest))[1]
        assert text.get_window_extent().y1 <= axes.bbox.y1


def test_a_run_that_diverged_before_the_switch_has_none():
    start = segment("a", 0, 10, diverged=True)
    run = panel({"SGD to GD": [start, without_rows(segment("b", 10, 20, rule=FULL))]})
    for axes in around_switch.draw([run]).axes:
        assert not [t for t in axes.texts if "at 10" in t.get_text()]
        assert [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "x"] == [10]


def thresholds(axes: Axes) -> list[Line2D]:
    return of_colour(axes, style.BLACK)


def test_gd_at_the_edge():
    figure = edge.draw([branches("GD", FULL)])
    left, middle, _ = figure.axes
    assert_eigenvalues(left)
    (threshold,) = thresholds(left)
    assert threshold.is_dashed()
    assert threshold.get_xdata().tolist() == STEPS.tolist()
    assert set(threshold.get_ydata()) == {8.0}
    (line,) = of_colour(middle, style.BLUE)
    np.testing.assert_allclose(line.get_ydata(), 0.5 + 0.01 * STEPS)
    assert middle.get_ylabel() == "alignment χₖ(∇L)"
    assert middle.get_ylim()[0] < 0, "a line at 0 is hidden by the axis"
    assert "gradient" in middle.texts[0].get_text()
    legend = [t.get_text() for t in figure.legends[0].get_texts()]
    assert legend == ["largest k eigenvalues", "next k eigenvalues", "2/η", "GD", "Dom-GD", "Bulk-GD"]
    momentum = edge.draw([branches("GD", FULL | {"momentum": 0.9})])
    assert momentum.legends[0].get_texts()[2].get_text() == "2(1 + μ)/η"


def test_sam_at_its_edge():
    figure = edge.draw([branches("SAM", SAM)])
    left, middle, _ = figure.axes
    (threshold,) = thresholds(left)
    assert set(threshold.get_ydata()) == {8.0}
    (line,) = of_colour(middle, style.BLUE)
    np.testing.assert_allclose(line.get_ydata(), [0.3] * 10 + [np.nan])
    assert middle.get_ylabel() == "alignment χₖ(θₜ₊₁ − θₜ)"
    assert "update" in middle.texts[0].get_text()
    legend = [t.get_text() for t in figure.legends[0].get_texts()]
    assert legend[2:] == ["SAM-edge", "SAM", "Dom-SAM", "Bulk-SAM"]
    assert any("SAM, ρ = 0.1, lr 0.25, full batch" in t.get_text() for t in left.texts)


@pytest.mark.parametrize(("name", "rule"), [("GD", FULL), ("SAM", SAM)])
def test_branches_are_drawn_from_the_switch_on(name: str, rule: dict):
    axes = edge.draw([branches(name, rule)]).axes[2]
    assert axes.get_yscale() == "log"
    assert switches(axes) == [(10, "switch at 10")]
    (base,), (dom,), (bulk,) = (
        of_colour(axes, style.look_of(label)["color"]) for label in (name, f"Dom-{name}", f"Bulk-{name}")
    )
    assert base.get_xdata().tolist() == list(range(21))
    np.testing.assert_allclose(base.get_ydata(), np.exp(-0.1 * np.arange(21)))
    for line, offset in ((dom, 0.3), (bulk, 0.1)):
        assert line.get_xdata().tolist() == list(range(10, 21))
        np.testing.assert_allclose(line.get_ydata(), np.exp(-0.1 * np.arange(10, 21)) + offset)
        assert line.is_dashed()
    assert not base.is_dashed()


def test_the_threshold_is_the_base_runs_own():
    """Where it varies, as under SAM, and where it is not known."""
    with_edge = branches("SAM", SAM)
    run = with_edge.runs["SAM"]
    values = np.where(STEPS < 4, np.nan, 30.0 - STEPS)
    with_edge.runs["SAM"] = run.assign(stability_threshold=("spectrum_step", values))
    assert isinstance(with_edge.runs["SAM"], xr.Dataset)
    (threshold,) = thresholds(edge.draw([with_edge]).axes[0])
    np.testing.assert_array_equal(threshold.get_ydata(), values)
