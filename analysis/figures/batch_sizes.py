"""Alignment along SGD, and what its branches do, by batch size (a question of reviewers of Song et al.)."""

from __future__ import annotations

from collections.abc import Sequence

import xarray as xr
from matplotlib.figure import Figure

from analysis.figures import drawing, families, style
from analysis.runs import branches
from analysis.runs.panels import Panel

SGD = "SGD"
LAST = 0.5  # of SGD's steps are its last half


def draw(panels: Sequence[Panel]) -> Figure:
    """One row a setting: χ_k(∇L) along SGD by batch size; over the batch size its median in SGD's last half, and the
    drop in ln loss after the switch (to the mean of the last quarter) under SGD, Dom-SGD and Bulk-SGD: a mark for each
    seed, a line through the means.

    Raises:
        InputError: if the families vary in something else than the batch size and the seed.
    """
    scale = families.scale_of(panels)
    figure, rows = style.rows_of_panels(len(panels), 3)
    for (left, middle, right), panel in zip(rows, panels, strict=True):
        lines = families.lines_of(panel, scale)
        whole = [line for line in lines if line.label == SGD]
        for line in whole:
            color = families.color(line, scale)
            left.plot(line.run.spectrum_step, line.run.alignment, color=color, linewidth=drawing.THIN)
            style.mark_divergence(left, line.run, color)
        left.set_ylim(style.FRACTION)
        drawing.switch(left, [line.run for line in whole])
        left.set_ylabel(drawing.ALIGNMENT)
        families.over(middle, whole, scale, late_alignment, diverged_at=0.07)
        middle.set_ylim(style.FRACTION)
        families.over(right, lines, scale, branches.drop, diverged_at=0.07)
        right.set_ylabel("drop in ln loss\n(to the last quarter's mean)")
        title = f"{panel.title} (k = {drawing.k_of(whole[0].run)})"
        style.entitle(left, title, families.in_words(panel), heading="(a) alignment along SGD")
        style.head(middle, "(b) its median over SGD's last half", steps=False)
        style.head(right, "(c) what the branches gain", steps=False)
    families.legend(figure, panels, scale)
    return figure


def late_alignment(run: xr.Dataset) -> float:
    """Median of χ_k(∇L) over the last half of the run; NaN if it diverged or was not measured."""
    values = branches.late(run.alignment, LAST)
    return float(values.median()) if len(values) and run.attrs["status"] != "diverged" else float("nan")
