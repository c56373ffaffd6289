"""Bulk-SGD by the staleness of its dominant subspace at refreshes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite

import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from analysis.figures import drawing, log_scale, style
from analysis.figures.refresh_interval import products
from analysis.runs.branches import drop, late_sharpness, mean_overlap
from analysis.runs.panels import Panel

NUMBERS: dict[str, Callable[[xr.Dataset], float]] = {
    "drop in ln loss\n(to the last quarter's mean)": drop,
    "λ₁ over the last quarter": late_sharpness,
    "Hessian products per 100 steps": products,
}
RING: style.Look = {"markersize": 8, "markerfacecolor": "none"}  # another mark at the same place shows in it


def draw(panels: Sequence[Panel]) -> Figure:
    """One row for each setting: drop in log-loss, sharpness and products over 1 − mean overlap, a mark for each run.
    Runs that never refresh it are at the right edge, and those of the first family are rings."""
    figure, rows = style.rows_of_panels(len(panels), len(NUMBERS))
    looks: dict[str, style.Look] = {}
    for row, panel in zip(rows, panels, strict=True):
        labels = list(panel.families)
        for label, color in zip(labels, style.shades_of(len(labels)), strict=True):
            marker = "s" if label.endswith("steps") else "o"
            looks[label] = {"color": color, "marker": marker, "markersize": 4, "linestyle": "none"}
        looks[labels[0]] |= RING
        drifts = {(label, i): 1 - mean_overlap(m.run) for label in labels for i, m in enumerate(panel.families[label])}
        edge = 3 * max([drift for drift in drifts.values() if isfinite(drift)], default=1.0)
        for axes, (name, number) in zip(row, NUMBERS.items(), strict=True):
            for (label, i), drift in drifts.items():
                x = max(drift, 1e-7) if isfinite(drift) else edge
                axes.plot(x, number(panel.families[label][i].run), **looks[label])
            axes.set_xscale(log_scale.LogScale())
            axes.set_ylabel(name)
        log_scale.log_axis(row[-1])
        run = next(iter(panel.families.values()))[0].run
        more = ["right edge: never refreshed", *drawing.diverged_in_words(panel)]
        style.describe(row[0], drawing.title_of(panel), run, more=more)
        for axes in row[1:]:
            style.head(axes, "", steps=False)
        for axes in row:
            axes.xaxis.set_major_locator(LogLocator(numticks=8))
            axes.set_xlabel("1 − mean overlap at a refresh")
    style.legend_below(figure, list(looks.items()))
    return figure
