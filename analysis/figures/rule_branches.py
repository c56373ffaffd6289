"""An update rule, and its dominant and bulk components alone, a column for each rule (camera-ready Song et al.)."""

from __future__ import annotations

from collections.abc import Sequence

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures import drawing, style
from analysis.runs.panels import Panel, specification
from analysis.runs.words import refreshed

PARTS: dict[str, style.Look] = {"": style.BASE, "Dom-": style.DOMINANT, "Bulk-": style.BULK}  # as labels begin
UPDATE: style.Look = {"color": style.ORANGE, "linewidth": 0.8, "linestyle": style.DASHED}


def draw(panels: Sequence[Panel]) -> Figure:
    """One column for each rule of each setting: above, training loss under the rule and, from the switch on, under its
    two components; below, χ_k of the gradient and of the update along the rule. A line for each seed."""
    columns = [(panel, rule) for panel in panels for rule in rules_of(panel)]
    figure, (upper, lower) = style.rows_of_panels(2, len(columns))
    for losses, alignments, (panel, rule) in zip(upper, lower, columns, strict=True):
        seeds = drawing.of_seeds(panel)
        for one in seeds:
            _losses(losses, {part: one.runs[part + rule] for part in PARTS})
            whole = one.runs[rule]
            alignments.plot(whole.spectrum_step, whole.alignment, **drawing.MEASURED)
            alignments.plot(whole.spectrum_step, whole.update_alignment, **UPDATE)
        runs = [one.runs[part + rule] for one in seeds for part in PARTS]
        drawing.log_losses(losses, runs)
        alignments.set_ylim(style.FRACTION)
        style.over_steps(alignments)
        words = [*drawing.seeds_in_words(panel, "a line each"), *_subspaces(rule, seeds[0])]
        title = f"{panel.title}, {rule} (k = {drawing.k_of(runs[0])})"
        style.describe(losses, title, {part: seeds[0].runs[part + rule] for part in PARTS}, more=words)
        for axes in (losses, alignments):
            drawing.switch(axes, runs)
    upper[0].set_ylabel(drawing.LOSS)
    lower[0].set_ylabel("alignment χₖ")
    entries: list[tuple[str, style.Look]] = [("whole update", style.BASE)]
    entries += [("dominant component (Dom-)", style.DOMINANT), ("bulk component (Bulk-)", style.BULK)]
    style.legend_below(figure, [*entries, ("χₖ(∇L)", drawing.MEASURED), ("χₖ of the update", UPDATE)])
    return figure


def rules_of(panel: Panel) -> list[str]:
    """Labels whose two components there are, too."""
    labels = drawing.every_run(panel)
    return [label for label in labels if all(part + label in labels for part in PARTS)]


def _subspaces(rule: str, panel: Panel) -> list[str]:
    """How often the subspace of each component is refreshed, one line for each."""
    filters = {part + rule: specification(panel.runs[part + rule])["filter"] for part in PARTS}
    return [f"{label}: subspace refreshed {refreshed(numbers)}" for label, numbers in filters.items() if numbers]


def _losses(axes: Axes, runs: dict[str, xr.Dataset]) -> None:
    for part, run in runs.items():
        loss = drawing.since_switch(run, "loss") if part else run.loss
        axes.plot(loss.step, loss, **PARTS[part] | {"linewidth": drawing.THIN})
        style.mark_divergence(axes, run, PARTS[part]["color"])
