"""Training loss after a switch (Song et al., figures 1, 14, 17)."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from analysis.figures import style
from analysis.trajectory import Panel


def draw(panels: Sequence[Panel]) -> Figure:
    """Training loss on a log axis, one panel a setting, the runs from their common beginning on."""
    figure, all_axes = style.panels_in_a_row(len(panels))
    for axes, panel in zip(all_axes, panels, strict=True):
        for label, run in panel.runs.items():
            axes.plot(run.step, run.loss, **style.RUNS[label])
            style.mark_divergence(axes, run, style.RUNS[label]["color"])
        style.log_axis(axes)
        first = next(iter(panel.runs.values()))
        style.describe(axes, panel.title, first)
        style.mark_switch(axes, first)
    all_axes[0].set_ylabel("training loss")
    style.legend_below(figure, [(label, style.RUNS[label]) for label in panels[0].runs])
    return figure
