"""The effect of scaling the model's curvature from the switch on (f_c = f_lin + c (f − f_lin))."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures import drawing, log_scale, style
from analysis.runs.branches import drop, growth, of_branch
from analysis.runs.panels import Panel

SCALES = {"c = 0": 0.0, "c = ½": 0.5, "": 1.0, "c = 2": 2.0}  # as labels end
KINDS = ("SGD", "Bulk-SGD")
SHOWN = (
    "(a): colours by c, Bulk-SGD dotted, a line for each seed",
    "(b), (c): a mark for each seed, lines through the means",
)


def draw(panels: Sequence[Panel]) -> Figure:
    """One row for each setting: λ_1 from the switch on by c; growth of λ_1, and Bulk-SGD's lead, over c, with a mark
    for each seed and a line through the means."""
    figure, rows = style.rows_of_panels(len(panels), 3)
    colors = dict(zip(SCALES.values(), style.shades_of(len(SCALES)), strict=True))
    for (left, middle, right), panel in zip(rows, panels, strict=True):
        seeds = drawing.of_seeds(panel)
        for one in seeds:
            for kind, scale, run in _runs(one):
                own = of_branch(run, "eigenvalues")[:, 0]
                look = {"linestyle": style.look_of(kind)["linestyle"], "linewidth": drawing.THIN}
                left.plot(own.spectrum_step, own, color=colors[scale], **look)
                style.mark_divergence(left, run, colors[scale])
        log_scale.log_axis(left)
        left.set_ylabel("sharpness λ₁")
        first = {label: run for label, run in seeds[0].runs.items() if label in KINDS}
        style.describe(left, drawing.title_of(panel), first, heading="(a) sharpness after the switch", more=SHOWN)
        for kind in KINDS:
            found = [{s: growth(run) for k, s, run in _runs(one) if k == kind} for one in seeds]
            _over(middle, found, style.look_of(kind))
        middle.set_ylabel("growth of ln λ₁")
        style.head(middle, "(b) growth of sharpness", steps=False)
        leads = []
        for one in seeds:
            drops = {(k, s): drop(run) for k, s, run in _runs(one)}
            leads.append({s: drops["Bulk-SGD", s] - drops["SGD", s] for s in SCALES.values()})
        _over(right, leads, {"color": style.BLACK, "linestyle": style.SOLID})
        right.set_ylabel("Bulk-SGD's lead in ln loss")
        style.head(right, "(c) lead of Bulk-SGD over SGD", steps=False)
    entries: list[tuple[str, style.Look]] = [(kind, style.look_of(kind)) for kind in KINDS]
    style.legend_below(figure, [*entries, *((f"c = {c:g}", {"color": color}) for c, color in colors.items())])
    return figure


def _runs(panel: Panel) -> Iterator[tuple[str, float, xr.Dataset]]:
    """Each run's kind and c."""
    for label, run in panel.runs.items():
        kind, _, scale = label.partition(", ")
        yield kind, SCALES[scale], run


def _over(axes: Axes, seeds: Sequence[dict[float, float]], look: style.Look) -> None:
    scales = list(SCALES.values())
    numbers = np.array([[one[c] for c in scales] for one in seeds])
    axes.axhline(0, color=style.GREY, linewidth=0.7, zorder=1)
    axes.plot(scales, numbers.mean(0), **look)
    for row in numbers:
        axes.plot(scales, row, marker="o", markersize=3, linestyle="none", color=look["color"])
    axes.set_xticks(scales)
    axes.set_xlabel("c")
