"""Bulk-SGD with remedies against the growth of sharpness, with one column for each remedy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.figure import Figure

from analysis.figures import drawing, log_scale, style
from analysis.runs.branches import drop, growth, of_branch
from analysis.runs.panels import Panel
from analysis.runs.words import what_was_run

PLAIN = "Bulk-SGD"
ROWS = {"λ₁": "eigenvalues", "‖∇L‖": "gradient_norm", drawing.LOSS: "loss", drawing.ACCURACY: "test_accuracy"}
WIDTH, HEIGHT = 1.9, 1.75  # inches, of a panel
REFERENCE: style.Look = {"color": style.GREY, "linestyle": style.DASHED, "linewidth": 0.6, "zorder": 3}


def table(panels: Sequence[Panel]) -> list[dict[str, str | float]]:
    """A row for each run: the growth of λ_1, the drop in log-loss and the last test accuracy (NaN: it diverged)."""
    return [
        {
            "setting": panel.setting,
            "run": label,
            "learning_rate": member.varied["learning_rate"],
            "seed": member.varied["seed"],
            "growth": growth(member.run),
            "drop": drop(member.run),
            "test_accuracy": float("nan") if _diverged(member.run) else float(member.run.test_accuracy[-1]),
        }
        for panel in panels
        for label, family in panel.families.items()
        for member in family
    ]


def draw(panels: Sequence[Panel]) -> Figure:
    """λ_1, ‖∇L‖, training loss and test accuracy from the switch on, with a column for each remedy, a line for each
    seed and a colour for each learning rate. Plain Bulk-SGD is thin, grey and dashed. There is one setting."""
    (panel,) = panels
    labels = list(panel.families)
    figure = style.empty_figure(max(WIDTH * len(labels), 2 * style.PANEL_WIDTH), HEIGHT * len(ROWS) + 0.9)
    grid = figure.subplots(len(ROWS), len(labels), sharex=True, sharey="row", squeeze=False)
    rates = sorted({member.varied["learning_rate"] for member in panel.families[labels[0]]})
    colors = dict(zip(rates, (style.BLUE, style.VERMILION, style.GREEN), strict=False))
    for row, (name, variable) in zip(grid, ROWS.items(), strict=True):
        for axes, label in zip(row, labels, strict=True):
            for member in panel.families[PLAIN] if label != PLAIN else ():
                axes.plot(*_curve(member.run, variable), **REFERENCE)
            for member in panel.families[label]:
                color = colors[member.varied["learning_rate"]]
                axes.plot(*_curve(member.run, variable), color=color, linewidth=drawing.THIN)
                style.mark_divergence(axes, member.run, color)
        row[0].set_ylabel(name)
        if variable != "test_accuracy":
            log_scale.log_axis(row[0])
    for axes, label in zip(grid[0], labels, strict=True):
        axes.set_title(label.replace("α_dom", r"$\alpha_\mathrm{dom}$"), fontsize=9)
    for axes in grid.flat:
        sns.despine(ax=axes)
    for axes in grid[-1]:
        style.over_steps(axes)
    run = panel.families[PLAIN][0].run
    title = "\n".join(
        [f"{drawing.title_of(panel)}, after the switch", what_was_run(run), *drawing.tested_in_words([run])]
    )
    figure.suptitle(title, fontsize=style.DESCRIPTION_SIZE + 1, x=0.01, ha="left")
    entries: list[tuple[str, style.Look]] = [(f"η = {rate:g}", {"color": colors[rate]}) for rate in rates]
    style.legend_below(figure, [*entries, ("plain Bulk-SGD", REFERENCE)])
    return figure


def _curve(run: xr.Dataset, variable: str) -> tuple[np.ndarray, np.ndarray]:
    own = of_branch(run, variable)
    own = own[:, 0] if own.ndim == 2 else own
    return own[own.dims[0]].values, own.values * (100 if variable == "test_accuracy" else 1)


def _diverged(run: xr.Dataset) -> bool:
    return bool(run.attrs["status"] == "diverged")
