"""Training loss and test accuracy after a switch (Zakarin & Singh)."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from analysis.figures import drawing, families, style
from analysis.runs.panels import Panel


def draw(panels: Sequence[Panel]) -> Figure:
    """Training loss on a log axis, and below it test accuracy in percent, one column for each setting; the common
    beginning is drawn as that of the first run. Families vary only in the seed, with a thin line for each."""
    figure, (upper, lower) = style.rows_of_panels(2, len(panels))
    for losses, accuracies, panel in zip(upper, lower, panels, strict=True):
        of_seeds = drawing.of_seeds(panel)
        width = drawing.THIN if len(of_seeds) > 1 else None
        for one in of_seeds:
            drawing.traces(losses, one, "loss", branches=True, width=width)
            drawing.traces(accuracies, one, "test_accuracy", branches=True, factor=100, width=width)
        runs = [run for one in of_seeds for run in one.runs.values()]
        drawing.log_losses(losses, runs)
        style.entitle(losses, panel.title, families.in_words(panel))
        style.over_steps(accuracies)
        for axes in (losses, accuracies):
            drawing.switch(axes, runs)
    lines = max(len(families.in_words(panel)) for panel in panels)
    figure.set_figheight(figure.get_figheight() + style.LINE_HEIGHT * (lines - style.USUAL_LINES) / 72)
    upper[0].set_ylabel(drawing.LOSS)
    lower[0].set_ylabel(drawing.ACCURACY)
    labels = (label for panel in panels for label in drawing.every_run(panel))
    style.legend_below(figure, list(style.looks_of(labels).items()))
    return figure
