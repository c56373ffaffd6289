"""Training loss and final values of runs that differ in one number (Zakarin & Singh)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures import drawing, families, log_scale, style
from analysis.runs.panels import Panel

HEIGHT = 3.5  # inches a row, without its description
WIDTHS, GAP = (1.5, 1.0), 0.06  # of curves relative to where they end; between them


def draw(panels: Sequence[Panel]) -> Figure:
    """One row for each setting: on the left training loss over steps (log axis), on the right the last training loss
    and the last test accuracy over the varied number, which is determined from the families.

    Raises:
        InputError: the families do not vary in exactly one number besides the seed.
    """
    scale = families.scale_of(panels)
    figure = style.empty_figure(2 * style.PANEL_WIDTH, sum(HEIGHT + families.height(panel) for panel in panels))
    grid = figure.add_gridspec(2 * len(panels), 2, width_ratios=WIDTHS, wspace=GAP)
    for row, panel in enumerate(panels):
        cells = grid[2 * row : 2 * row + 2, 0], grid[2 * row, 1], grid[2 * row + 1, 1]
        curves_and_ends([figure.add_subplot(cell) for cell in cells], panel, scale)
    figure.align_ylabels()
    families.legend(figure, panels, scale)
    return figure


def curves_and_ends(cells: Sequence[Axes], panel: Panel, scale: families.Scale) -> None:
    """Three panels for each setting: training loss over steps and, one below the other, its last value and the last
    test accuracy over the varied number."""
    curves, losses, accuracies = cells
    lines = families.lines_of(panel, scale)
    families.losses(curves, lines, scale)
    curves.set_ylabel(drawing.LOSS)
    style.entitle(curves, panel.title, families.in_words(panel), heading="(a) training")

    when = families.at_the_end(lines)
    families.over(losses, lines, scale, partial(families.last, variable="loss"), diverged_at=0.93)
    log_scale.log_axis(losses)
    losses.set_xlabel("")
    losses.set_ylabel(drawing.LOSS)
    style.head(losses, f"(b) {when}", steps=False)

    percent = partial(families.last, variable="test_accuracy", factor=100.0)
    families.over(accuracies, lines, scale, percent, diverged_at=0.07)
    accuracies.set_ylabel(drawing.ACCURACY)
    style.head(accuracies, f"(c) {when}", steps=False)
