"""Alignment of the gradient with the dominant subspace along a run (Song et al., figures 3, 13, 16, 18)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from analysis.figures import style
from analysis.trajectory import Panel, specification


def draw(panels: Sequence[Panel]) -> Figure:
    """χ_k(∇L) and, dashed, its exponential moving average, one panel a setting."""
    figure, all_axes = style.panels_in_a_row(len(panels))
    measured: dict[str, Any] = {"color": style.BLUE, "linewidth": 0.8, "alpha": 0.75}
    average: dict[str, Any] = {"color": style.VERMILION, "linestyle": (0, (4, 1.5)), "linewidth": 1.4}
    for axes, panel in zip(all_axes, panels, strict=True):
        (run,) = panel.runs.values()
        axes.plot(run.spectrum_step, run.alignment, **measured)
        axes.plot(run.spectrum_step, run.alignment_ema, **average)
        axes.set_ylim(0, 1.03)
        style.describe(axes, f"{panel.title} (k = {specification(run)['problem']['k']})", run)
    all_axes[0].set_ylabel("alignment χₖ(∇L)")
    factor = specification(run)["probes"]["ema_factor"]
    style.legend_below(figure, [("χₖ(∇L)", measured), (f"moving average (factor {factor:g})", average)])
    return figure
