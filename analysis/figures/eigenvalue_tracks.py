"""The largest eigenvalues, followed by the overlaps of their eigenvectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from analysis.figures import drawing, log_scale, style
from analysis.runs.panels import Panel
from analysis.runs.tracks import follow

ALL = "#D0D0D0"


def draw(panels: Sequence[Panel]) -> Figure:
    """The first seed, with one column for each run. Above are the eigenvalues of each track from the switch on,
    coloured by their rank there (the largest is the lightest), and below is the rank of each track. A dot ends a lost
    track. All eigenvalues are shown in grey."""
    shown = [(panel, label) for panel in panels for label in drawing.every_run(panel)]
    figure, (upper, lower) = style.rows_of_panels(2, len(shown))
    for values, ranks, (panel, label) in zip(upper, lower, shown, strict=True):
        run = drawing.every_run(panel)[label][0].run
        k, steps = drawing.k_of(run), run.track_step.values
        eigenvalues, places = run.track_eigenvalues.values, follow(run.track_overlaps.values)
        names = [f"λ_{i}" for i in range(1, 1 + eigenvalues.shape[1])]
        values.plot(steps, eigenvalues, label=names, color=ALL, linewidth=0.6, zorder=1)
        for track, color in enumerate(style.shades_of(k)):
            alive = int((places[:, track] >= 0).sum())
            own, rank = eigenvalues[np.arange(alive), places[:alive, track]], places[:alive, track] + 1
            for axes, curve in ((values, own), (ranks, rank)):
                axes.plot(steps[:alive], curve, color=color, linewidth=1.2)
                if alive < len(steps):
                    axes.plot(steps[alive - 1], curve[-1], marker="o", markersize=3.5, color=color)
        log_scale.log_axis(values)
        seeds = list(drawing.every_run(panel)[label][0].varied.items())
        style.describe(values, f"{panel.title}, {label} (k = {k})", run, more=[f"{n} {v:g}" for n, v in seeds])
        style.over_steps(ranks)
        ranks.invert_yaxis()
    upper[0].set_ylabel(drawing.EIGENVALUES)
    lower[0].set_ylabel("rank of the followed eigenvector")
    shades = style.shades_of(3)
    entries = ("1st at the switch", "middle", "k-th at the switch")
    lost = ("lost (overlap below ½)", {"color": style.GREY, "marker": "o", "linestyle": "none", "markersize": 3.5})
    rest = ("all eigenvalues", {"color": ALL, "linewidth": 0.6})
    style.legend_below(figure, [*((n, {"color": c}) for n, c in zip(entries, shades, strict=True)), lost, rest])
    return figure
