"""Distance from the switching step (Song et al., figure 22)."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from analysis.figures import style
from analysis.runs.panels import Panel


def draw(panels: Sequence[Panel]) -> Figure:
    """‖θ_t − θ_switch‖ over the steps since the switch, one panel a setting."""
    figure, all_axes = style.panels_in_a_row(len(panels))
    for axes, panel in zip(all_axes, panels, strict=True):
        looks = style.looks_of(panel.runs)
        for label, run in panel.runs.items():
            switch = run.attrs["switches"][-1]
            after = run.sel(step=run.step >= switch)
            look = looks[label]
            axes.plot(after.step - switch, after.distance, **look)
            style.mark_divergence(axes, run, look["color"], origin=switch)
        style.describe(axes, panel.title, panel.runs)
        axes.set_xlabel(f"steps after the switch (at {switch:,})")
        axes.set_ylim(bottom=0)
    all_axes[0].set_ylabel("distance from the switching step")
    style.legend_of_runs(figure, panels)
    return figure
