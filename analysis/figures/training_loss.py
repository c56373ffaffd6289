"""Training loss after a switch (Song et al., figures 1, 14, 17)."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from analysis.figures import drawing, style
from analysis.runs.panels import Panel


def draw(panels: Sequence[Panel]) -> Figure:
    """Training loss on a log axis, one panel for each setting; the common beginning is drawn as that of the first
    run. With several seeds, each has a thin line. If branches are short compared with what precedes them, a second row
    shows them alone."""
    short = drawing.short_branches(panels)
    figure, rows = style.rows_of_panels(1 + short, len(panels))
    for axes, panel in zip(rows[0], panels, strict=True):
        drawing.losses(axes, panel, branches=True)
        words = drawing.seeds_in_words(panel, "a thin line each")
        style.describe(axes, panel.title, drawing.of_seeds(panel)[0].runs, more=words)
    for axes, panel in zip(rows[1] if short else [], panels, strict=short):
        drawing.branches(axes, panel)
        style.over_steps(axes)
        axes.set_xlabel(drawing.since_in_words(panel))
    for row in rows:
        row[0].set_ylabel(drawing.LOSS)
    style.legend_of_runs(figure, panels)
    return figure
