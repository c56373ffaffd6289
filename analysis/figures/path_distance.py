"""Distances between two runs' paths and from their common start (Song et al., figure 19)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from analysis.figures import style
from analysis.runs.panels import Panel
from sharpflat.errors import InputError

LOOKS: dict[str, style.Look] = {  # by variable of `Panel.distances`
    "between": style.DOMINANT,
    "first": style.BASE,
    "second": style.BULK,
}
HEADROOM = 1.3  # above the largest distance, for the ratio


def draw(panels: Sequence[Panel]) -> Figure:
    """Distances over the steps, one panel for each setting, with the ratio of the first two at the last common step.

    Raises:
        InputError: a panel has no distances or fewer than two runs.
    """
    figure, all_axes = style.panels_in_a_row(len(panels))
    names: dict[str, style.Look] = {}
    for axes, panel in zip(all_axes, panels, strict=True):
        if panel.distances is None or len(panel.runs) < 2:
            raise InputError(f"{panel.setting}: found no distances between two runs' paths to draw")
        distances = panel.distances
        symbols = _symbols(*list(panel.runs)[:2])
        for variable, look in LOOKS.items():
            axes.plot(distances.step, distances[variable], **look)
            names[symbols[variable]] = look
        for run, variable in zip(panel.runs.values(), ("first", "second"), strict=False):
            style.mark_divergence(axes, run, LOOKS[variable]["color"])
        values = distances[list(LOOKS)].to_array().values
        largest = values[np.isfinite(values)].max(initial=0)
        axes.set_ylim(0, HEADROOM * largest if largest > 0 else 1)
        text = axes.annotate(
            _ratio(distances, symbols),
            (0.02, 0.98),
            xycoords="axes fraction",
            fontsize=8,
            va="top",
        )
        text.set_path_effects([withStroke(linewidth=2, foreground="white")])
        style.describe(axes, panel.title, panel.runs)
    all_axes[0].set_ylabel("distance")
    style.legend_below(figure, list(names.items()))
    return figure


def _symbols(first: str, second: str) -> dict[str, str]:
    return {
        "between": f"‖θ({first}) − θ({second})‖",
        "first": f"‖θ({first}) − θ₀‖",
        "second": f"‖θ({second}) − θ₀‖",
    }


def _ratio(distances: xr.Dataset, symbols: dict[str, str]) -> str:
    """The distance between the paths relative to the first path's distance from the start, at the last step that has
    both."""
    between, first = distances["between"].values, distances["first"].values
    known = distances.isel(step=np.isfinite(between) & np.isfinite(first) & (first > 0))
    if known.sizes["step"] == 0:
        return "no step at which both are known"
    last = known.isel(step=-1)
    ratio = float(last["between"] / last["first"])
    return f"at step {int(last.step):,}:\n{symbols['between']} = {ratio:.2g} · {symbols['first']}"
