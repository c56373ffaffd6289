"""Training loss against test accuracy of constant and of scheduled weights (α_dom, β_bulk)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from analysis.figures import drawing, style
from analysis.runs.measures import final
from analysis.runs.panels import Member, Panel

CONSTANT = "constant"
MARKS = {"linear": "^", "cosine": "v", "step": "s", "edge": "D"}  # by a schedule's first word
BAR: style.Look = {"linewidth": 0.7, "alpha": 0.6, "zorder": 2}


def draw(panels: Sequence[Panel]) -> Figure:
    """One panel for each setting: a point for each pair of constant weights, coloured by β_bulk and
    labelled with α_dom; a mark for each schedule, hollow if it ends at (1, 0.5). Means over seeds, with their ranges
    as bars."""
    figure, all_axes = style.panels_in_a_row(len(panels))
    figure.set_size_inches(6.2 * len(panels), 5.2)
    entries: dict[str, style.Look] = {}
    for axes, panel in zip(all_axes, panels, strict=True):
        pairs: dict[tuple[float, float], list[Member]] = {}
        for member in panel.families[CONSTANT]:
            pairs.setdefault((member.varied["beta_bulk"], member.varied["alpha_dom"]), []).append(member)
        betas = sorted({beta for beta, _ in pairs})
        colors = dict(zip(betas, style.shades_of(len(betas)), strict=True))
        for (beta, alpha), members in pairs.items():
            look: style.Look = {"color": colors[beta], "marker": "o", "linestyle": "none"}
            x, y = _point(axes, members, look | {"markersize": 4})
            number = axes.annotate(
                f"{alpha:g}",
                (x, y),
                xytext=(4, 2),
                textcoords="offset points",
                fontsize=6,
                color=colors[beta],
                zorder=5,
            )
            number.set_path_effects([withStroke(linewidth=1.5, foreground="white")])
            entries[f"β = {beta:g} (number: α)"] = look
        for label, members in panel.families.items():
            if label == CONSTANT:
                continue
            hollow = {"markerfacecolor": "none"} if label.endswith("0.5)") else {}
            look = {"color": style.BLACK, "marker": MARKS[label.split()[0]], "linestyle": "none", **hollow}
            _point(axes, members, look | {"markersize": 6, "zorder": 4})
            entries[label] = look
        runs = {label: family[0].run for label, family in panel.families.items()}
        more = [
            "means over seeds; bars: their ranges",
            *drawing.tested_in_words(runs.values()),
            *drawing.diverged_in_words(panel),
        ]
        style.describe(axes, drawing.title_of(panel), {CONSTANT: runs[CONSTANT]}, more=more)
        axes.set_xlabel("training loss at the end")
        axes.set_ylabel(drawing.ACCURACY)
    style.legend_below(figure, list(entries.items()))
    return figure


def _point(axes: Axes, members: Sequence[Member], look: style.Look) -> tuple[float, float]:
    losses, accuracies = (np.array([final(m.run, name) for m in members]) for name in ("loss", "test_accuracy"))
    x, y = float(losses.mean()), 100 * float(accuracies.mean())
    axes.plot([losses.min(), losses.max()], [y, y], color=look["color"], **BAR)
    axes.plot([x, x], [100 * accuracies.min(), 100 * accuracies.max()], color=look["color"], **BAR)
    above: style.Look = {"zorder": 3}
    axes.plot(x, y, **(above | look))
    return x, y
