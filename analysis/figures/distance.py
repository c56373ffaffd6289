"""Distance from the switching step (Song et al., figure 22)."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from analysis.figures import drawing, style
from analysis.runs.panels import Panel


def draw(panels: Sequence[Panel]) -> Figure:
    """‖θ_t − θ_switch‖ over the steps since the switch, one panel for each setting; of several seeds with a thin line
    for each."""
    figure, all_axes = style.panels_in_a_row(len(panels))
    for axes, panel in zip(all_axes, panels, strict=True):
        seeds = drawing.of_seeds(panel)
        for one in seeds:
            drawing.since_the_switch(axes, one, "distance", width=drawing.THIN if len(seeds) > 1 else None)
        style.describe(axes, panel.title, seeds[0].runs, more=drawing.seeds_in_words(panel, "a thin line each"))
        axes.set_xlabel(drawing.since_in_words(panel))
        axes.set_ylim(bottom=0)
    all_axes[0].set_ylabel("distance from the switching step")
    style.legend_of_runs(figure, panels)
    return figure
