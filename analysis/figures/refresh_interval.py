"""The interval between refreshes of the dominant subspace: its cost and its effect (Zakarin & Singh)."""

from __future__ import annotations

from collections.abc import Sequence

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures import ablation, drawing, families, log_scale, style
from analysis.runs.panels import Panel

HEIGHT = 2.7  # inches, of what comes below the ablation
PER = 100  # steps, of the cost
RARE = 60  # refreshes, up to which each is marked
MARKED: style.Look = {"marker": "o", "markersize": 2.5, "linewidth": 0.8}


def draw(panels: Sequence[Panel]) -> Figure:
    """For each setting, the panels of `ablation` and, below them, the drift of the subspace between refreshes (1 −
    overlap of the new with the old, log axis) and the Hessian products of the refreshes.

    Raises:
        InputError: the families do not vary in exactly one number besides the seed.
    """
    scale = families.scale_of(panels)
    heights = [ablation.HEIGHT + HEIGHT + families.height(panel) for panel in panels]
    figure = style.empty_figure(2 * style.PANEL_WIDTH, sum(heights))
    rows = [*2 * [ablation.HEIGHT / 2], HEIGHT] * len(panels)
    grid = figure.add_gridspec(len(rows), 2, height_ratios=rows, width_ratios=ablation.WIDTHS, wspace=ablation.GAP)
    for i, panel in enumerate(panels):
        row = 3 * i
        above = grid[row : row + 2, 0], grid[row, 1], grid[row + 1, 1]
        ablation.curves_and_ends([figure.add_subplot(cell) for cell in above], panel, scale)
        lines = [line for line in families.lines_of(panel, scale) if line.value is not None]
        _drift(figure.add_subplot(grid[row + 2, 0]), lines, scale)
        _cost(figure.add_subplot(grid[row + 2, 1]), lines, scale)
    figure.align_ylabels()
    families.legend(figure, panels, scale)
    return figure


def _drift(axes: Axes, lines: Sequence[families.Line], scale: families.Scale) -> None:
    for line in lines:
        overlap = drawing.since_switch(line.run, "overlap")
        drift = (1 - overlap).where(overlap < 1)  # a log axis has no 0
        few = len(drift) <= RARE
        color = families.color(line, scale)
        axes.plot(drift.refresh_step - line.switch, drift, color=color, **(MARKED if few else {"linewidth": 0.6}))
        style.mark_divergence(axes, line.run, color, origin=line.switch)
    log_scale.log_axis(axes)
    axes.set_ylabel("1 − overlap")
    style.head(axes, "(d) drift: new subspace against the one before")
    axes.set_xlabel("steps after the switch")


def _cost(axes: Axes, lines: Sequence[families.Line], scale: families.Scale) -> None:
    families.over(axes, lines, scale, products)
    log_scale.log_axis(axes)
    axes.set_ylabel(f"Hessian products per {PER} steps")
    style.head(axes, "(e) cost of the refreshes", steps=False)


def products(run: xr.Dataset) -> float:
    """Hessian products of the refreshes after the switch, for each `PER` steps made since; NaN if none was made."""
    steps = run.attrs["last_step"] - max(run.attrs["switches"], default=0)
    total = float(drawing.since_switch(run, "refresh_products").sum())
    return PER * total / steps if steps > 0 else float("nan")
