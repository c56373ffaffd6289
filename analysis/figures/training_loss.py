"""Training loss after a switch (Song et al., figures 1, 14, 17)."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from analysis.figures import drawing, style
from analysis.runs.panels import Panel


def draw(panels: Sequence[Panel]) -> Figure:
    """Training loss on a log axis, one panel a setting; the common beginning is drawn as the first run's."""
    figure, all_axes = style.panels_in_a_row(len(panels))
    for axes, panel in zip(all_axes, panels, strict=True):
        drawing.losses(axes, panel, branches=True)
        style.describe(axes, panel.title, panel.runs)
    all_axes[0].set_ylabel(drawing.LOSS)
    style.legend_of_runs(figure, panels)
    return figure
