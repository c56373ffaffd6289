"""Top eigenvalues along a run (Song et al., figures 2, 12, 15)."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from analysis.figures import drawing, style
from analysis.runs.panels import Panel


def draw(panels: Sequence[Panel]) -> Figure:
    """The first k eigenvalues of the loss Hessian in blue, the next k in orange, one panel for each setting. With
    several seeds, the lines show the first one, and the shading shows the range over all."""
    figure, all_axes = style.panels_in_a_row(len(panels))
    for axes, panel in zip(all_axes, panels, strict=True):
        run, *others = drawing.runs_of_seeds(panel)
        drawing.eigenvalues(axes, run, others)
        words = drawing.seeds_in_words(panel, "lines: the first; shaded: the range")
        style.describe(axes, f"{panel.title} (k = {drawing.k_of(run)})", run, more=words)
    all_axes[0].set_ylabel(drawing.EIGENVALUES)
    style.legend_below(figure, drawing.FIRST_AND_NEXT_K)
    return figure
