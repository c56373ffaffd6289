"""What several figures draw: one quantity in one panel, without titles and labels."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from analysis.figures import style
from analysis.runs.panels import Member, Panel, specification
from analysis.runs.words import refreshed
from analysis.specs import StoppedBy

ALIGNMENT, EIGENVALUES, LOSS = "alignment χₖ(∇L)", "Hessian eigenvalues", "training loss"  # axis labels
ACCURACY = "test accuracy (%)"
TEXT_WIDTH = 0.3  # of a switch's text, at most, as a fraction of a panel
IN_VIEW = 3.0  # times the highest value of a run that did not diverge: the top of a panel in which another did
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
    steps = sorted({f["refresh_every"] for f in filters if f and f["refresh_every"]})
    found = [f"every {', '.join(f'{n:,}' for n in steps)} steps"] if steps else []
    found += sorted({refreshed(f) for f in filters if f and not f["refresh_every"]})
    if steps == [1]:
        found[0] = "every step"
    return [f"dominant subspace refreshed {' and '.join(found)}"] if found else []


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


def since_switch(run: xr.Dataset, variable: str) -> xr.DataArray:
    """A variable along steps from where the run's last segment begins; all of it, if there is one segment."""
    (dimension,) = run[variable].dims
    return run[variable].sel({dimension: run[dimension] >= max(run.attrs["switches"], default=0)})


def traces(
    axes: Axes, panel: Panel, variable: str, *, branches: bool, factor: float = 1.0, width: float | None = None
) -> None:
    """A variable along steps, times `factor`, of all runs; `branches` as for `losses`."""
    first, looks = next(iter(panel.runs.values())), style.looks_of(panel.runs)
    for label, run in panel.runs.items():
        own = since_switch(run, variable) if branches and run is not first else run[variable]
        look = looks[label] | ({} if width is None else {"linewidth": width})
        axes.plot(own[own.dims[0]], factor * own, **look)
        style.mark_divergence(axes, run, look["color"])


def losses(axes: Axes, panel: Panel, *, branches: bool) -> None:
    """Training loss of all runs on a log axis.

    Args:
        axes: the panel.
        panel: its runs.
        branches: whether the runs share their beginning: then it is drawn as the first run's, the others from the
            switch on, and the switch is marked.
    """
    traces(axes, panel, "loss", branches=branches)
    log_losses(axes, panel.runs.values())
    if branches:
        switch(axes, list(panel.runs.values()))


def switch(axes: Axes, runs: Sequence[xr.Dataset]) -> None:
    """Mark the switch of runs that were switched at the same step, its text away from where they may diverge."""
    begun = [run for run in runs if run.attrs.get("stopped_by") != StoppedBy.EARLIER_DIVERGENCE]
    for run in begun[:1]:
        low, high = axes.get_xlim()
        upwards = any(other.attrs["status"] == "diverged" for other in begun)
        far = max(run.attrs["switches"], default=low) > low + TEXT_WIDTH * (high - low)
        style.mark_switch(axes, run, left=True if upwards and far else None)


def log_losses(axes: Axes, runs: Iterable[xr.Dataset]) -> None:
    """The log axis of training losses drawn before, out of which a diverged run leaves through the top."""
    axes.set_yscale("log")
    seen, diverged = [], False
    for run in runs:
        gone = run.attrs["status"] == "diverged"
        values = run.loss.values[np.isfinite(run.loss.values)]
        seen += list(values[:1] if gone else values)
        diverged |= gone
    if diverged and seen and axes.get_ylim()[1] > IN_VIEW * max(seen) > 0:
        axes.set_ylim(top=IN_VIEW * max(seen))
    style.log_axis(axes)
