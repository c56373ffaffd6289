"""Quantities around a switch of the update rule (Song et al., figures 20, 21)."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from analysis.figures import drawing, style
from analysis.runs.panels import Panel


def draw(panels: Sequence[Panel]) -> Figure:
    """χ_k(∇L), training loss (log axis) and top eigenvalues with the switch marked, one row for each setting."""
    figure, rows = style.rows_of_panels(len(panels), 3)
    for (left, middle, right), panel in zip(rows, panels, strict=True):
        (run,) = panel.runs.values()
        drawing.alignment(left, run)
        left.set_ylabel(drawing.ALIGNMENT)
        style.describe(left, f"{panel.title} (k = {drawing.k_of(run)})", panel.runs, heading="(a) alignment")
        style.mark_switch(left, run)

        drawing.losses(middle, panel, branches=False)
        middle.set_ylabel(drawing.LOSS)
        style.head(middle, "(b) training loss")
        style.mark_switch(middle, run)

        drawing.eigenvalues(right, run)
        right.set_ylabel(drawing.EIGENVALUES)
        style.head(right, "(c) top 2k eigenvalues")
        style.mark_switch(right, run)
    style.legend_below(figure, drawing.FIRST_AND_NEXT_K)
    return figure
