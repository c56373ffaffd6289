"""Training loss of several methods (Song et al., figures 11, 23, 24)."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from analysis.figures import drawing, style
from analysis.runs.panels import Panel


def draw(panels: Sequence[Panel]) -> Figure:
    """Training loss of every run from its first step, on a log axis, one panel for each setting."""
    figure, all_axes = style.panels_in_a_row(len(panels))
    for axes, panel in zip(all_axes, panels, strict=True):
        drawing.losses(axes, panel, branches=False)
        style.describe(axes, panel.title, panel.runs, more=drawing.absent_in_words(panel))
    all_axes[0].set_ylabel(drawing.LOSS)
    style.legend_of_runs(figure, panels)
    return figure
