"""Alignment of the gradient with the dominant subspace along a run (Song et al., figures 3, 13, 16, 18)."""

from __future__ import annotations

from collections.abc import Sequence

import xarray as xr
from matplotlib.figure import Figure

from analysis.figures import drawing, style
from analysis.runs.panels import Panel, probes_of, specifications

AVERAGE: style.Look = {"color": style.VERMILION, "linestyle": (0, (4, 1.5)), "linewidth": 1.4}


def draw(panels: Sequence[Panel]) -> Figure:
    """χ_k(∇L) and, dashed, its exponential moving average, one panel for each setting. With several seeds, the lines
    show the first one, and the shading shows the range of χ_k(∇L) over all."""
    figure, all_axes = style.panels_in_a_row(len(panels))
    for axes, panel in zip(all_axes, panels, strict=True):
        run, *others = drawing.runs_of_seeds(panel)
        drawing.alignment(axes, run, others=others)
        axes.plot(run.spectrum_step, run.alignment_ema, label="moving average", **AVERAGE)
        words = [_average(run), *drawing.seeds_in_words(panel, "lines: the first; shaded: the range")]
        style.describe(axes, f"{panel.title} (k = {drawing.k_of(run)})", run, more=words)
    all_axes[0].set_ylabel(drawing.ALIGNMENT)
    style.legend_below(figure, [(drawing.CHI["alignment"], drawing.MEASURED), ("moving average", AVERAGE)])
    return figure


def _average(run: xr.Dataset) -> str:
    """The average's factor, and how often it is updated in each segment."""
    probes = [probes_of(one)["spectrum"] for one in specifications(run)]
    updates = dict.fromkeys(f"{one['ema_factor']:g} every {one['every']} steps" for one in probes)
    return f"moving average: factor {', then '.join(updates)}"
