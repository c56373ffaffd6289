"""Top eigenvalues along a run (Song et al., figures 2, 12, 15)."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from analysis.figures import style
from analysis.trajectory import Panel, specification


def draw(panels: Sequence[Panel]) -> Figure:
    """The first k eigenvalues of the loss Hessian in blue, the next k in orange, one panel a setting."""
    figure, all_axes = style.panels_in_a_row(len(panels))
    for axes, panel in zip(all_axes, panels, strict=True):
        (run,) = panel.runs.values()
        k = specification(run)["problem"]["k"]
        axes.plot(run.spectrum_step, run.eigenvalues.sel(index=slice(k + 1, None)), color=style.NEXT_K, linewidth=0.9)
        axes.plot(run.spectrum_step, run.eigenvalues.sel(index=slice(None, k)), color=style.FIRST_K, linewidth=0.9)
        style.describe(axes, f"{panel.title} (k = {k})", run)
    all_axes[0].set_ylabel("Hessian eigenvalues")
    style.legend_below(
        figure,
        [
            ("largest k eigenvalues", {"color": style.FIRST_K}),
            ("next k eigenvalues", {"color": style.NEXT_K}),
        ],
    )
    return figure
