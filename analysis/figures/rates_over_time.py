"""Effective learning rates during training instead of one mean (requested by reviewers of Song et al.)."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from analysis.figures import drawing, style
from analysis.runs.panels import Panel

ROWS = {"dom_lr": "Dom-LR", "bulk_lr": "Bulk-LR"}
LINEAR = 1e-3  # below it the axis is linear: rates may be negative


def draw(panels: Sequence[Panel]) -> Figure:
    """Dom-LR above, Bulk-LR below, one column for each setting."""
    figure, rows = style.rows_of_panels(len(ROWS), len(panels))
    for row, variable in zip(rows, ROWS, strict=True):
        for axes, panel in zip(row, panels, strict=True):
            drawing.traces(axes, panel, variable, branches=False, width=drawing.THIN)
            axes.set_yscale("symlog", linthresh=LINEAR)
            axes.axhline(0, color=style.GREY, linewidth=0.6, zorder=1)
            style.over_steps(axes)
            if row is rows[0]:
                style.describe(axes, panel.title, panel.runs)
        row[0].set_ylabel(ROWS[variable])
    style.legend_of_runs(figure, panels)
    return figure
