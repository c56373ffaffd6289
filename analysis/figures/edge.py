"""Training at the edge of stability, and its branches inside and outside the dominant subspace (Song et al.,
figures 9, 10)."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from analysis.figures import drawing, style
from analysis.runs.panels import Panel, specification

THRESHOLD: style.Look = {"color": style.BLACK, "linestyle": style.DASHED, "linewidth": 1.2}


def draw(panels: Sequence[Panel]) -> Figure:
    """One row for each setting: top eigenvalues of the first run with its stability threshold (SAM's edge under SAM),
    its χ_k (of the gradient; of the update under SAM), and the training loss of all runs, branches from the switch on.
    If the branches are short compared with what precedes them, a fourth panel shows them alone.
    """
    short = drawing.short_branches(panels)
    figure, rows = style.rows_of_panels(len(panels), 3 + short)
    thresholds = {}
    for (left, middle, right, *more), panel in zip(rows, panels, strict=True):
        label, run = next(iter(panel.runs.items()))
        sam = specification(run)["rule"]["kind"] == "sam"
        threshold = drawing.threshold_of(run)
        thresholds[threshold] = THRESHOLD

        drawing.eigenvalues(left, run)
        left.plot(run.spectrum_step, run.stability_threshold, label=threshold, **THRESHOLD)
        left.set_ylabel(drawing.EIGENVALUES)
        heading = f"(a) top 2k eigenvalues, {label}"
        style.describe(left, f"{panel.title} (k = {drawing.k_of(run)})", panel.runs, heading=heading)

        drawing.alignment(middle, run, "update_alignment" if sam else "alignment")
        middle.set_ylabel(f"alignment {drawing.CHI['update_alignment']}" if sam else drawing.ALIGNMENT)
        style.head(middle, f"(b) alignment of the {'update' if sam else 'gradient'}, {label}")

        drawing.losses(right, panel, branches=True)
        right.set_ylabel(drawing.LOSS)
        style.head(right, "(c) training loss")
        for last in more:
            drawing.branches(last, panel)
            style.head(last, "(d) training loss after the switch")
            last.set_xlabel(drawing.since_in_words(panel))
    looks = style.looks_of(label for panel in panels for label in panel.runs)
    style.legend_below(
        figure,
        [*drawing.FIRST_AND_NEXT_K, *thresholds.items(), *looks.items()],
    )
    return figure
