"""Figures of the toys: paths and surfaces are those of the datasets, heights those of the model's own formula."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d.art3d import Line3D

from analysis.figures import alignment_runs, style, toy_paths, toy_plane, valley
from analysis.models.mlp import Numbers as MLPNumbers
from analysis.models.quadratic import Numbers as QuadraticNumbers
from analysis.models.valley import Numbers as ValleyNumbers
from analysis.rules.sgd import Numbers as SGDNumbers
from analysis.runs.panels import Panel
from analysis.specs import DataSpec, ProblemSpec, SegmentSpec, StopSpec
from analysis.training.probes import build as build_probes
from analysis.training.probes import spectrum
from analysis.training.records import Records, to_trajectory
from sharpflat.errors import InputError
from tests.specs import probes

QUADRATIC = QuadraticNumbers(sharp=10, flat=1, noise=2, start=(1, 1))
VALLEY = ValleyNumbers(sharp=50, flat=2, bend=0.2, noise=3, start=(0.9, 2))


def run(
    model, x: np.ndarray, y: np.ndarray, *, first: int = 0, switches=(), batch: int | None = 1, chi=0.5
) -> xr.Dataset:
    """A run with made-up θ and χ_1 from step `first` on."""
    data = DataSpec(train="two-sides", train_sha256="0", examples=2, test="two-sides", test_sha256="0", test_examples=2)
    spec = SegmentSpec(
        problem=ProblemSpec(data=data, model=model, loss="value", k=1, dtype="float64"),
        seed=0,
        rule=SGDNumbers(learning_rate=1e-4, batch_size=batch),
        filter=None,
        stop=StopSpec(steps=len(x) - 1),
        probes=probes(loss=1, test=1, spectrum=1),
        parent=None,
    )
    steps = first + np.arange(len(x))
    records = Records()
    for step in steps:
        records.add("spectrum_step", int(step), alignment=chi, eigenvalues=[2.0, 1.0])
        for name in spectrum.Probe.variables:
            if name not in ("alignment", "eigenvalues"):
                records.rows.setdefault(name, []).append(0)
    attributes = {
        "id": "made-up",
        "status": "completed",
        "diverged_at": -1,
        "parameters": 2,
        "train_title": "two sides",
    }
    whole = to_trajectory(records, spec, build_probes(spec.probes, {}), attributes | {"switches": list(switches)})
    theta = (("snapshot_step", "parameter"), np.stack([x, y], axis=1))
    return whole.assign_coords(snapshot_step=steps).assign(theta=theta)


def quadratic_panel() -> Panel:
    y = np.linspace(1, 0.4, 101)
    random = np.random.default_rng(0)
    straight = run(QUADRATIC, np.exp(-np.arange(101.0)), y, batch=None, chi=0.0)
    jumping = run(QUADRATIC, np.exp(-np.arange(101.0)) + 0.02 * random.standard_normal(101), y + 0.01, chi=0.9)
    return Panel("quadratic", "Quadratic", {"GD": straight, "SGD": jumping}, {})


def valley_panel() -> Panel:
    y = np.linspace(2, 1, 41)
    side = 0.1 * (-1.0) ** np.arange(41)
    down = run(VALLEY, 0.2 * y**2 + side, y, switches=[20])
    stays = run(
        VALLEY, 0.2 * np.r_[y[:21], np.full(20, 1.5)] ** 2 + side, np.r_[y[:21], np.full(20, 1.5)], switches=[20]
    )
    return Panel("valley", "Valley", {"SGD": down, "Dom-SGD": stays}, {})


def lines(axes, label: str) -> list:
    colour = to_hex(style.look_of(label)["color"])
    return [line for line in axes.lines if to_hex(line.get_color()) == colour and len(line.get_xdata()) > 1]


def drawn_without_clipping(figure: Figure) -> None:
    """Titles, texts and legends lie within the figure, insets with their numbers within their panels."""
    figure.canvas.draw()
    for axes in figure.axes:
        for inset in axes.child_axes:
            inner, outer = inset.get_tightbbox(), axes.get_window_extent()
            assert outer.x0 <= inner.x0 < inner.x1 <= outer.x1
            assert outer.y0 <= inner.y0 < inner.y1 <= outer.y1
    width, height = figure.get_size_inches() * figure.dpi
    texts = [t for axes in figure.axes for t in [axes.title, axes._left_title, *axes.texts] if t.get_text()]
    for artist in [*texts, *figure.legends]:
        box = artist.get_window_extent()
        assert box.x0 >= 0, artist
        assert box.y0 >= 0, artist
        assert box.x1 <= width, artist
        assert box.y1 <= height, artist


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.slow
def test_paths_are_those_of_theta_in_the_labels_colours(count):
    panel = quadratic_panel()
    with style.applied():
        figure = toy_paths.draw([panel] * count)
        drawn_without_clipping(figure)
    axes = figure.axes[0]
    for label, dataset in panel.runs.items():
        (line,) = lines(axes, label)
        np.testing.assert_array_equal(line.get_xydata(), dataset.theta.values)
    assert to_hex(style.look_of("GD")["color"]) != to_hex(style.look_of("SGD")["color"])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("x", "y")
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    assert left < 0 < 1 < right
    assert low < 0.4 < 1.01 < high
    # What jumps lies below what does not, and thinner.
    (gd,), (sgd,) = lines(axes, "GD"), lines(axes, "SGD")
    assert gd.get_zorder() > sgd.get_zorder()
    assert gd.get_linewidth() > sgd.get_linewidth()


def test_the_panel_says_the_formula_and_the_minibatch():
    figure = toy_paths.draw([quadratic_panel()])
    (text,) = [t.get_text() for t in figure.axes[0].texts if "L(x, y)" in t.get_text()]
    assert (
        text
        == "L(x, y) = ½(10 x² + y²)\nexamples: L ± 2 x y, float64\nGD: lr 0.0001, full batch\nSGD: lr 0.0001, batch 1"
    )


def test_the_inset_shows_the_paths_ends():
    panel = quadratic_panel()
    axes = toy_paths.draw([panel]).axes[0]
    (inset,) = axes.child_axes
    (low, high), (left, right) = inset.get_ylim(), inset.get_xlim()
    ends = [r.theta.values[-10:] for r in panel.runs.values()]
    assert low < min(e[:, 1].min() for e in ends)
    assert max(e[:, 1].max() for e in ends) < high < 0.5
    assert left < min(e[:, 0].min() for e in ends)
    assert max(e[:, 0].max() for e in ends) < right < 0.2


def contour_errors(axes, value) -> list[float]:
    """Relative deviation of `value(x, y)` along every drawn contour from the contour's level."""
    (contour,) = [c for c in axes.collections if hasattr(c, "levels")]
    return [
        float(np.abs(value(*path.vertices.T) / level - 1).max())
        for level, path in zip(contour.levels, contour.get_paths(), strict=True)
        if len(path.vertices)
    ]


def test_contours_are_of_the_closed_forms():
    axes = toy_paths.draw([quadratic_panel()]).axes[0]
    errors = contour_errors(axes, lambda x, y: (10 * x**2 + y**2) / 2)
    assert len(errors) >= 3
    assert max(errors) < 1e-2
    axes = valley.draw([valley_panel()]).axes[0]
    errors = contour_errors(axes, lambda x, y: (50 * (x - 0.2 * y**2) ** 2 + 2 * y**2) / 2)
    assert len(errors) >= 5
    assert max(errors) < 1e-2


@pytest.mark.parametrize("count", [1, 2])
def test_the_valley_draws_the_first_run_whole_and_of_the_branch_its_own_iterates(count):
    panel = valley_panel()
    with style.applied():
        figure = valley.draw([panel] * count)
        drawn_without_clipping(figure)
    above, surface = figure.axes[:2]
    (path,), (dots,) = lines(above, "SGD"), lines(above, "Dom-SGD")
    np.testing.assert_array_equal(path.get_xydata(), panel.runs["SGD"].theta)
    np.testing.assert_array_equal(dots.get_xydata(), panel.runs["Dom-SGD"].theta[20:])
    assert (path.get_linestyle(), dots.get_linestyle(), dots.get_marker()) == ("-", "None", "o")
    heights = {}
    for label in panel.runs:
        (line,) = lines(surface, label)
        assert isinstance(line, Line3D)
        x, y, heights[label] = (np.asarray(part, dtype=float) for part in line.get_data_3d())
        np.testing.assert_allclose(heights[label], (50 * (x - 0.2 * y**2) ** 2 + 2 * y**2) / 2, rtol=1e-12)
    assert heights["SGD"][-1] < heights["SGD"][0]
    np.testing.assert_allclose(heights["Dom-SGD"][1:], 50 * 0.01 / 2 + 1.5**2)
    zs = surface.get_zlim()
    assert zs[0] <= min(h.min() for h in heights.values())
    assert zs[1] >= max(h.max() for h in heights.values())


def test_a_branch_without_iterates_is_left_out():
    panel = valley_panel()
    panel.runs["Dom-SGD"] = panel.runs["Dom-SGD"].isel(snapshot_step=slice(0, 20))
    above = valley.draw([panel]).axes[0]
    assert lines(above, "SGD")
    assert not lines(above, "Dom-SGD")


def test_alignment_of_several_runs_in_one_panel():
    panel = quadratic_panel()
    with style.applied():
        figure = alignment_runs.draw([panel])
        drawn_without_clipping(figure)
    (axes,) = figure.axes
    for label, value in (("GD", 0.0), ("SGD", 0.9)):
        (line,) = lines(axes, label)
        assert set(line.get_ydata()) == {value}
        assert list(line.get_xdata()) == list(range(101))
    assert axes.get_ylim()[0] < 0, "a run at 0 is hidden by the axis"
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["GD", "SGD"]
    assert any("lr 0.0001, batch 1" in t.get_text() for t in axes.texts)


def test_what_is_no_toy_or_has_no_snapshots_is_refused():
    panel = valley_panel()
    bare = Panel("valley", "Valley", {"SGD": panel.runs["SGD"].drop_vars("theta")}, {})
    with pytest.raises(InputError, match="made-up: has no snapshots of theta"):
        valley.draw([bare])
    mlp = Panel("mlp", "MLP", {"SGD": run(MLPNumbers(width=3), np.zeros(3), np.zeros(3))}, {})
    for module in (valley, toy_paths):
        with pytest.raises(InputError, match="setting mlp: this figure shows a toy's plane, and a mlp is not a toy"):
            module.draw([mlp])


def test_limits_hold_all_values_with_a_margin():
    assert toy_plane.span(np.array([0.0, 1.0]), np.array([3.0]), margin=0.1) == pytest.approx((-0.3, 3.3))
