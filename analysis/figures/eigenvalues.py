"""Top eigenvalues along a run (Song et al., figures 2, 12, 15)."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from analysis.figures import drawing, style
from analysis.runs.panels import Panel


def draw(panels: Sequence[Panel]) -> Figure:
    """The first k eigenvalues of the loss Hessian in blue, the next k in orange, one panel a setting."""
    figure, all_axes = style.panels_in_a_row(len(panels))
    for axes, panel in zip(all_axes, panels, strict=True):
        (run,) = panel.runs.values()
        drawing.eigenvalues(axes, run)
        style.describe(axes, f"{panel.title} (k = {drawing.k_of(run)})", panel.runs)
    all_axes[0].set_ylabel(drawing.EIGENVALUES)
    style.legend_below(figure, drawing.FIRST_AND_NEXT_K)
    return figure
