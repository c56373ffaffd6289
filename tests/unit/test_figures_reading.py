"""What a figure's PNG says of the values that it draws."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from PIL import Image

from analysis.figures import drawing, style
from analysis.figures.reading import panels_of
from analysis.store.drawn import Panel, with_panels, without_panels
from tests.unit import test_figures_ablations as ablations
from tests.unit import test_figures_zakarin as zakarin
from tests.unit.test_figures_style import drawn, panel_of


def read(path: Path, draw: Any, columns: int = 1) -> tuple[Panel, ...]:
    """The panels in the PNG of a figure of one row, whose axes `draw` takes."""
    with style.applied():
        figure, rows = style.rows_of_panels(1, columns)
        draw(*rows[0])
        style.save(figure, {"png": path})
    return without_panels(path.read_bytes())[1]


def test_a_value_is_where_the_panel_says(tmp_path: Path) -> None:
    """The script of the report relies on it."""

    def draw(axes: Axes) -> None:
        axes.plot([1, 100], [3.0, 5.0], "o", color="#ff0000", markersize=3, label="a")
        axes.set(xscale="log", xlim=(0.5, 300), ylim=(0, 8), xlabel="step", ylabel=r"$\alpha_\mathrm{dom}$, weight")
        style.entitle(axes, "A title", ["a line"])

    (panel,) = read(tmp_path / "a.png", draw)
    assert (panel.title, panel.across, panel.up) == ("A title", "step", "α_dom, weight")
    assert (panel.x_axis, panel.y_axis, panel.names) == ((0.5, 300.0, 1), (0.0, 8.0, 0), ())
    image = Image.open(tmp_path / "a.png").convert("RGB")
    left, top, right, bottom = panel.box
    (line,) = panel.lines
    assert (line.label, line.color, panel.x, line.values) == ("a", "#ff0000", (1.0, 100.0), (3.0, 5.0))
    for x, y in zip(panel.x, line.values, strict=True):
        across = left + (right - left) * np.log(x / 0.5) / np.log(300 / 0.5)
        up = bottom - (bottom - top) * y / 8
        assert image.getpixel((round(across * image.width), round(up * image.height))) == (255, 0, 0)


def test_lines_without_a_label_and_marks_at_the_edge_are_not_read(tmp_path: Path) -> None:
    def draw(axes: Axes, other: Axes) -> None:
        axes.plot([0, 1], [1, 1])
        axes.axvline(1, label="a switch")
        axes.plot(1, 0.02, "x", label=style.DIVERGED, transform=axes.get_xaxis_transform())
        other.plot([0, 1], [1, 1], label="a")
        other.set_yscale("symlog")

    assert read(tmp_path / "a.png", draw, 2) == ()
    assert b"Drawn" not in (tmp_path / "a.png").read_bytes()


def test_lines_share_their_places_and_have_nothing_where_they_are_not(tmp_path: Path) -> None:
    def draw(axes: Axes) -> None:
        axes.plot([0, 10, 20], [1, np.nan, 123456.0], label="a")
        axes.plot([10, 20], [0.123456, np.inf], label="b")
        axes.plot([0, 20], [np.nan, np.nan], label="of nothing")

    (panel,) = read(tmp_path / "a.png", draw)
    assert panel.x == (0.0, 10.0, 20.0)
    assert {line.label: line.values for line in panel.lines} == {
        "a": (1.0, None, 123500.0),
        "b": (None, 0.1235, None),
    }


def test_long_lines_are_thinned_and_keep_their_ends(tmp_path: Path) -> None:
    steps = np.arange(0, 40_001, 10)
    (panel,) = read(tmp_path / "a.png", lambda axes: axes.plot(steps, steps, label="a"))
    assert len(panel.x) == 150
    assert (panel.x[0], panel.x[-1]) == (0, 40_000)
    assert set(panel.x) <= set(steps)


def test_the_names_of_axes_and_titles_are_found_beside_and_above(tmp_path: Path) -> None:
    with style.applied():
        figure, rows = style.rows_of_panels(2, 2)
        for axes in (axes for row in rows for axes in row):
            axes.plot([0, 1], [0, 1], label="a")
        for column, title in zip(rows[0], ("first", "second"), strict=True):
            column.set_title(title, loc="left")
        rows[1][1].set_xlabel("step")
        rows[0][0].set_ylabel("loss")
        style.save(figure, {"png": tmp_path / "a.png"})
    panels = without_panels((tmp_path / "a.png").read_bytes())[1]
    assert [p.title for p in panels] == ["first", "second", "first", "second"]
    assert [p.across for p in panels] == ["", "step", "", "step"]
    assert [p.up for p in panels] == ["loss", "loss", "", ""]


# ---------------------------------------------------------------- figures
@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("training_loss", [["SGD", "Dom-SGD"]]),
        ("loss_comparison", [["GD(−m)", "GD(+m)", "Adam(−m)", "Adam(+m)"]]),
        ("eigenvalues", [["λ_1", "λ_2", "λ_3", "λ_4"]]),
        ("alignment", [["χₖ(∇L)", "moving average"]]),
        ("alignment_switch", [["χₖ(∇L)"]]),
        ("around_switch", [["χₖ(∇L)"], ["SGD to GD"], ["λ_1", "λ_2", "λ_3", "λ_4"]]),
    ],
)
def test_losses_eigenvalues_and_alignments_can_be_read(module: str, names: list[list[str]]) -> None:
    figure = drawn(module, [panel_of(module)])
    assert [[line.label for line in panel.lines] for panel in panels_of(figure)] == names


def test_what_is_read_is_what_was_measured() -> None:
    panel = panel_of("training_loss")
    (read,) = panels_of(drawn("training_loss", [panel]))
    assert (read.across, read.up) == ("step", drawing.LOSS)
    for line in read.lines:
        loss = panel.runs[line.label].loss
        for step, value in zip(read.x, line.values, strict=True):
            if value is not None:
                assert value == pytest.approx(float(loss.sel(step=step)), rel=5e-4)
        assert line.values[-1] is not None


def test_the_grid_is_read_by_its_rows_from_the_top() -> None:
    panels = panels_of(zakarin.drawn("interpolation_grid", [zakarin.grid()]))
    assert [panel.up for panel in panels] == ["final training loss", "final test accuracy (%)"]
    for panel, which, factor in zip(panels, (0, 1), (1, 100), strict=True):
        assert (panel.title, panel.across) == ("MLP (k = 2)", "α_dom, weight of the dominant component")
        assert (panel.names, panel.x) == (("0", "0.5", "1", "2"), (0.5, 1.5, 2.5, 3.5))
        assert [(line.label, line.at) for line in panel.lines] == [
            *(("β_bulk = 2", 3.5), ("β_bulk = 1", 2.5), ("β_bulk = 0.5", 1.5), ("β_bulk = 0", 0.5))
        ]
        read = np.array([line.values for line in panel.lines], float)
        np.testing.assert_allclose(read[::-1], factor * zakarin.mean_over(1, which), rtol=5e-4)


def test_runs_that_differ_in_a_number_are_told_apart() -> None:
    training, *ends = panels_of(ablations.drawn("learning_rate", seeds=(0, 1)))
    names = [line.label for line in training.lines]
    assert len(set(names)) == len(names)
    assert {"SGD, η = 0.1, seed 0", "Bulk-SGD, η = 0.1, seed 1", "before the switch, η = 0.1, seed 1"} <= set(names)
    assert [(panel.up, panel.across) for panel in ends] == [
        (drawing.LOSS, "learning rate η"),
        (drawing.ACCURACY, "learning rate η"),
    ]


def test_sharpness_and_its_threshold_can_be_read() -> None:
    sharpness, gradient = panels_of(zakarin.drawn("instability", [zakarin.unstable(2)]))
    assert "2/η" in [line.label for line in sharpness.lines]
    assert any(line.label.endswith(", seed 1") for line in gradient.lines)
    left, middle, right = panels_of(drawn("edge", [panel_of("edge")]))
    assert [line.label for line in left.lines] == ["λ_1", "λ_2", "λ_3", "λ_4", "SAM-edge"]
    assert [line.label for line in middle.lines] == ["χₖ(θₜ₊₁ − θₜ)"]
    assert [line.label for line in right.lines] == ["SAM", "Dom-SAM", "Bulk-SAM"]


# ---------------------------------------------------------------- the file
def test_the_image_is_what_it_is_without_the_values(tmp_path: Path) -> None:
    read(tmp_path / "a.png", lambda axes: axes.plot([0, 1], [0, 1], label="a"))
    read(tmp_path / "b.png", lambda axes: axes.plot([0, 1], [0, 1]))
    image, panels = without_panels((tmp_path / "a.png").read_bytes())
    assert image == (tmp_path / "b.png").read_bytes()
    assert without_panels(image) == (image, ())
    assert with_panels(image, panels) == (tmp_path / "a.png").read_bytes()


def test_others_read_the_text_too(tmp_path: Path) -> None:
    read(tmp_path / "a.png", lambda axes: axes.plot([0, 1], [0, 1], label="χₖ"))
    image = Image.open(tmp_path / "a.png")
    image.load()
    assert '"label":"\\u03c7\\u2096"' in image.text["Drawn"]


def test_a_damaged_text_is_refused(tmp_path: Path) -> None:
    read(tmp_path / "a.png", lambda axes: axes.plot([0, 1], [0, 1], label="a"))
    content = (tmp_path / "a.png").read_bytes()
    with pytest.raises(ValueError, match="damaged"):
        without_panels(content.replace(b'"label":"a"', b'"label":"b"'))
