"""Alignment of the gradient when the update rule is switched (Song et al., figures 4, 5)."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from analysis.figures import drawing, style
from analysis.runs.panels import Panel


def draw(panels: Sequence[Panel]) -> Figure:
    """χ_k(∇L) with the switch marked, one panel for each setting."""
    figure, all_axes = style.panels_in_a_row(len(panels))
    for axes, panel in zip(all_axes, panels, strict=True):
        (run,) = panel.runs.values()
        drawing.alignment(axes, run)
        style.describe(axes, f"{panel.title} (k = {drawing.k_of(run)})", panel.runs)
        style.mark_switch(axes, run)
    all_axes[0].set_ylabel(drawing.ALIGNMENT)
    style.legend_below(figure, [])
    return figure
