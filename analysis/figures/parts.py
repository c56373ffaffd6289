"""What several figures draw: one quantity in one panel, without titles and labels."""

from __future__ import annotations

import json
from collections.abc import Iterable

import xarray as xr
from matplotlib.axes import Axes

from analysis.figures import style
from analysis.trajectory import Member, Panel, specification

ALIGNMENT, EIGENVALUES, LOSS = "alignment χₖ(∇L)", "Hessian eigenvalues", "training loss"  # axis labels
MEASURED: style.Look = {"color": style.BLUE, "linewidth": 0.8, "alpha": 0.75}
FIRST_AND_NEXT_K: list[tuple[str, style.Look]] = [  # legend entries
    ("largest k eigenvalues", {"color": style.FIRST_K}),
    ("next k eigenvalues", {"color": style.NEXT_K}),
]


def k_of(run: xr.Dataset) -> int:
    """Dimension of the run's dominant subspace."""
    return specification(run)["problem"]["k"]


def every_run(panel: Panel) -> dict[str, list[Member]]:
    """All runs of a panel by label: a run of its own is a family of one, which varies in nothing."""
    alone = {label: [Member({}, run, panel.segments.get(label, []))] for label, run in panel.runs.items()}
    return alone | panel.families


def title_of(panel: Panel) -> str:
    """The setting's title with the dimension of the dominant subspace and, if there are several, how many seeds."""
    members = [member for family in every_run(panel).values() for member in family]
    seeds = len({member.varied.get("seed") for member in members})
    return f"{panel.title} (k = {k_of(members[0].run)}{f', {seeds} seeds' if seeds > 1 else ''})"


def refreshes_in_words(runs: Iterable[xr.Dataset]) -> list[str]:
    """How often the runs' filters refresh their dominant subspaces, e.g. for a panel's description: no or one line."""
    filters = [json.loads(s)["filter"] for run in runs for s in run.attrs["specifications"]]
    found = sorted({f["refresh_every"] for f in filters if f})
    every = "every step" if found == [1] else f"every {', '.join(f'{steps:,}' for steps in found)} steps"
    return [f"dominant subspace refreshed {every}"] if found else []


def eigenvalues(axes: Axes, run: xr.Dataset) -> None:
    """The k largest eigenvalues of the loss Hessian in blue, the next k in orange."""
    k = k_of(run)
    axes.plot(run.spectrum_step, run.eigenvalues.sel(index=slice(k + 1, None)), color=style.NEXT_K, linewidth=0.9)
    axes.plot(run.spectrum_step, run.eigenvalues.sel(index=slice(None, k)), color=style.FIRST_K, linewidth=0.9)
    style.mark_divergence(axes, run, style.FIRST_K)


def alignment(axes: Axes, run: xr.Dataset, variable: str = "alignment") -> None:
    """χ_k of the gradient, or of the update made (`update_alignment`)."""
    axes.plot(run.spectrum_step, run[variable], **MEASURED)
    style.mark_divergence(axes, run, style.BLUE)
    axes.set_ylim(0, 1.03)


def losses(axes: Axes, panel: Panel, *, branches: bool) -> None:
    """Training loss of all runs on a log axis.

    Args:
        axes: the panel.
        panel: its runs.
        branches: whether the runs share their beginning: then it is drawn as the first run's, the others from the
            switch on, and the switch is marked.
    """
    first = next(iter(panel.runs.values()))
    for label, run in panel.runs.items():
        shared = branches and run is not first
        own = run.sel(step=run.step >= max(run.attrs["switches"], default=0)) if shared else run
        look = style.look_of(label)
        axes.plot(own.step, own.loss, **look)
        style.mark_divergence(axes, run, look["color"])
    style.log_axis(axes)
    if branches:
        style.mark_switch(axes, first)
