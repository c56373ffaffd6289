"""Alignment of the gradient with the dominant subspace along several runs (Song et al., figure 7)."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from analysis.figures import style
from analysis.runs.panels import Panel, specification


def draw(panels: Sequence[Panel]) -> Figure:
    """χ_k(∇L) of each run, one panel for each setting; the first run is on top."""
    figure, all_axes = style.panels_in_a_row(len(panels))
    for axes, panel in zip(all_axes, panels, strict=True):
        looks = style.looks_of(panel.runs)
        for i, (label, run) in enumerate(panel.runs.items()):
            look = looks[label] | {"linewidth": 1.0}
            axes.plot(run.spectrum_step, run.alignment, label=label, **look, zorder=5 - i)
            style.mark_divergence(axes, run, looks[label]["color"])
        axes.set_ylim(style.FRACTION)
        k = specification(run)["problem"]["k"]
        style.describe(axes, f"{panel.title} (k = {k})", panel.runs)
    all_axes[0].set_ylabel("alignment χₖ(∇L)")
    style.legend_of_runs(figure, panels)
    return figure
