"""Drawing of one quantity in one panel, without titles and labels, for several figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from analysis.figures import log_scale, style
from analysis.runs.panels import Member, Panel, specification, specifications
from analysis.runs.words import refreshed
from analysis.specs import StoppedBy

ALIGNMENT, EIGENVALUES, LOSS = "alignment χₖ(∇L)", "Hessian eigenvalues", "training loss"  # axis labels
CHI = {"alignment": "χₖ(∇L)", "update_alignment": "χₖ(θₜ₊₁ − θₜ)"}
ACCURACY = "test accuracy (%)"
TEXT_WIDTH = 0.3  # of a switch's text, at most, as a fraction of a panel
SHORT = 1 / 3  # of a run: branches that take less are drawn once more, without what precedes them
THIN = 0.9  # points, of lines that there are several of, one a seed
SHADED = 0.25  # opacity of the range over seeds
IN_VIEW = 3.0  # times the highest value of a run that did not diverge: the top of a panel in which another did
BEHIND: style.Look = {"color": style.NEXT_K, "zorder": 1.99}  # the lines of the first k, though drawn after them
MEASURED: style.Look = {"color": style.BLUE, "linewidth": 0.8, "alpha": 0.75}
FIRST_AND_NEXT_K: list[tuple[str, style.Look]] = [  # legend entries
    ("largest k eigenvalues", {"color": style.FIRST_K}),
    ("next k eigenvalues", {"color": style.NEXT_K}),
]


def k_of(run: xr.Dataset) -> int:
    """Dimension of the run's dominant subspace."""
    return specification(run)["problem"]["k"]


def threshold_of(run: xr.Dataset) -> str:
    """The name of a run's stability threshold, as its update rule defines it."""
    rule = specification(run)["rule"]
    return "SAM-edge" if rule["kind"] == "sam" else "2(1 + μ)/η" if rule.get("momentum") else "2/η"


def every_run(panel: Panel) -> dict[str, list[Member]]:
    """All runs of a panel by label. A single run is a family of one, which does not vary."""
    alone = {label: [Member({}, run, panel.segments.get(label, []))] for label, run in panel.runs.items()}
    return alone | panel.families


def title_of(panel: Panel) -> str:
    """The setting's title with the dimension of the dominant subspace and, if there are several seeds, their number."""
    members = [member for family in every_run(panel).values() for member in family]
    seeds = len({member.varied.get("seed") for member in members})
    return f"{panel.title} (k = {k_of(members[0].run)}{f', {seeds} seeds' if seeds > 1 else ''})"


def tested_in_words(runs: Iterable[xr.Dataset]) -> list[str]:
    """The examples on which the runs were tested, e.g. for a panel's description: no or one line."""
    titles = dict.fromkeys(run.attrs.get("test_title") for run in runs if run.sizes.get("test_step"))
    return [f"tested on {', '.join(filter(None, titles))}"] if any(titles) else []


def diverged_in_words(panel: Panel) -> list[str]:
    """Which runs diverged, e.g. for a panel's description: no or one line."""
    runs = every_run(panel)
    gone = {label: sum(one.run.attrs["status"] == "diverged" for one in members) for label, members in runs.items()}
    found = [f"{label} ({n} of {len(runs[label])})" for label, n in gone.items() if n]
    return [f"diverged, and not shown: {', '.join(found)}"] if found else []


def absent_in_words(panel: Panel) -> list[str]:
    """Which runs an archive lacks, e.g. for a panel's description: no or one line."""
    return [f"not run: {', '.join(panel.absent)}"] if panel.absent else []


def of_seeds(panel: Panel) -> list[Panel]:
    """The panel once for each seed, if its families vary in the seed. Without families, the panel itself.

    Raises:
        ValueError: a family varies in another number.
    """
    return [one for _, one in panel.alike("seed")] if panel.families else [panel]


def runs_of_seeds(panel: Panel) -> list[xr.Dataset]:
    """The panel's one run, once for each seed."""
    return [run for one in of_seeds(panel) for run in one.runs.values()]


def seeds_in_words(panel: Panel, how: str) -> list[str]:
    """Which seeds a panel shows and how they are distinguished, in one line; no line with one run per label."""
    if not panel.families:
        return []
    seeds = [f"{varied['seed']:g}" for varied, _ in panel.alike("seed")]
    if len(seeds) == 1:
        return [f"seed {seeds[0]}"]
    return [f"seeds {', '.join(seeds[:-1])} and {seeds[-1]} ({how})"]


def refreshes_in_words(runs: Iterable[xr.Dataset]) -> list[str]:
    """How often the runs' filters refresh their dominant subspaces, e.g. for a panel's description: no or one line."""
    filters = [one["filter"] for run in runs for one in specifications(run)]
    steps = sorted({f["refresh_every"] for f in filters if f and f["refresh_every"]})
    found = [f"every {', '.join(f'{n:,}' for n in steps)} steps"] if steps else []
    found += sorted({refreshed(f) for f in filters if f and not f["refresh_every"]})
    if steps == [1]:
        found[0] = "every step"
    return [f"dominant subspace refreshed {' and '.join(found)}"] if found else []


def spread(axes: Axes, runs: Sequence[xr.Dataset], variable: str, color: str) -> None:
    """The range of a variable over runs that differ in the seed, shaded, at the steps at which all were measured.

    Args:
        axes: the panel.
        runs: one run for each seed. A single run has no shading.
        variable: along steps, and possibly an index. Each index then has its own range.
        color: colour of the shading.
    """
    if len(runs) == 1:
        return
    measured = xr.concat(xr.align(*(run[variable] for run in runs), join="inner"), "seed")
    steps = measured[str(runs[0][variable].dims[0])]
    lows, highs = measured.min("seed").values, measured.max("seed").values
    for low, high in zip(lows.reshape(len(steps), -1).T, highs.reshape(len(steps), -1).T, strict=True):
        axes.fill_between(steps.values, low, high, color=color, alpha=SHADED, linewidth=0)


def eigenvalues(axes: Axes, run: xr.Dataset, others: Sequence[xr.Dataset] = ()) -> None:
    """The k largest eigenvalues of the loss Hessian in blue, and the next k in orange. The shading is their range over
    the run and `others`, which differ in the seed."""
    k = k_of(run)
    for index, color in ((slice(k + 1, None), style.NEXT_K), (slice(None, k), style.FIRST_K)):
        spread(axes, [one.sel(index=index) for one in (run, *others)], "eigenvalues", color)
    for index, look in ((slice(None, k), {"color": style.FIRST_K}), (slice(k + 1, None), BEHIND)):
        own = run.eigenvalues.sel(index=index)
        axes.plot(run.spectrum_step, own, linewidth=0.9, label=[f"λ_{i}" for i in own.index.values], **look)
    for one in (run, *others):
        style.mark_divergence(axes, one, style.FIRST_K)


def alignment(axes: Axes, run: xr.Dataset, variable: str = "alignment", others: Sequence[xr.Dataset] = ()) -> None:
    """χ_k of the gradient, or of the update (`update_alignment`). The shading is its range over the run and `others`,
    which differ in the seed."""
    spread(axes, [run, *others], variable, style.SKY)
    axes.plot(run.spectrum_step, run[variable], label=CHI[variable], **MEASURED)
    for one in (run, *others):
        style.mark_divergence(axes, one, style.BLUE)
    axes.set_ylim(style.FRACTION)


def since_switch(run: xr.Dataset, variable: str) -> xr.DataArray:
    """A variable along steps from the beginning of the run's last segment; the whole variable if there is one
    segment."""
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
        axes.plot(own[own.dims[0]], factor * own, label=_name(label, run, width), **look)
        style.mark_divergence(axes, run, look["color"])


def losses(axes: Axes, panel: Panel, *, branches: bool) -> None:
    """Training loss of all runs on a log axis, of several seeds with a thin line for each.

    Args:
        axes: the panel.
        panel: its runs, or families that vary in the seed.
        branches: whether the runs share their beginning. It is then drawn for the first run only, the others are drawn
            from the switch on, and the switch is marked.
    """
    seeds = of_seeds(panel)
    for one in seeds:
        traces(axes, one, "loss", branches=branches, width=THIN if len(seeds) > 1 else None)
    runs = [run for one in seeds for run in one.runs.values()]
    log_losses(axes, runs)
    if branches:
        switch(axes, runs)


def short_branches(panels: Sequence[Panel]) -> bool:
    """Whether the branches of a panel take so little of its axis that they are hardly visible."""
    runs = [member.run for panel in panels for family in every_run(panel).values() for member in family]
    return any(0 < last_step(run) - last_switch(run) < SHORT * last_step(run) for run in runs)


def last_step(run: xr.Dataset) -> int:
    """The last step at which the loss was measured; 0 if none was."""
    return int(run.step[-1]) if run.sizes["step"] else 0


def last_switch(run: xr.Dataset) -> int:
    """The step at which the run's last segment begins."""
    return int(max(run.attrs["switches"], default=0))


def branches(axes: Axes, panel: Panel) -> None:
    """Draws losses as `losses` does, but from the switch on, over the steps since the switch."""
    seeds = of_seeds(panel)
    for one in seeds:
        since_the_switch(axes, one, "loss", width=THIN if len(seeds) > 1 else None)
    log_losses(axes, [run.sel(step=run.step >= last_switch(run)) for one in seeds for run in one.runs.values()])


def since_the_switch(axes: Axes, panel: Panel, variable: str, *, width: float | None = None) -> None:
    """A variable of all runs from the switch on, over the steps since the switch."""
    looks = style.looks_of(panel.runs)
    for label, run in panel.runs.items():
        own, look = since_switch(run, variable), looks[label] | ({} if width is None else {"linewidth": width})
        axes.plot(own.step - last_switch(run), own, label=_name(label, run, width), **look)
        style.mark_divergence(axes, run, look["color"], origin=last_switch(run))


def _name(label: str, run: xr.Dataset, width: float | None) -> str:
    """A run's name where it is read off: with its seed, if its line has a width of its own, as those of seeds have."""
    return label if width is None else f"{label}, seed {specification(run)['seed']}"


def since_in_words(panel: Panel) -> str:
    """The label of such an axis, with the step of the switch, or with the first and the last step over several
    seeds."""
    steps = {last_switch(member.run) for family in every_run(panel).values() for member in family}
    return f"steps after the switch (at {' to '.join(f'{step:,}' for step in sorted({min(steps), max(steps)}))})"


def switch(axes: Axes, runs: Sequence[xr.Dataset]) -> None:
    """Marks the switch of runs (at several steps, if each seed has its own), with its text away from possible
    divergences."""
    begun = [run for run in runs if run.attrs.get("stopped_by") != StoppedBy.EARLIER_DIVERGENCE]
    if begun:
        low, high = axes.get_xlim()
        upwards = any(other.attrs["status"] == "diverged" for other in begun)
        far = min(max(run.attrs["switches"], default=low) for run in begun) > low + TEXT_WIDTH * (high - low)
        style.mark_switch(axes, *begun, left=True if upwards and far else None)


def log_losses(axes: Axes, runs: Iterable[xr.Dataset]) -> None:
    """Sets the log axis of training losses that are already drawn. A diverged run leaves it through the top."""
    axes.set_yscale(log_scale.LogScale())
    seen, diverged = [], False
    for run in runs:
        gone = run.attrs["status"] == "diverged"
        values = run.loss.values[np.isfinite(run.loss.values)]
        seen += list(values[:1] if gone else values)
        diverged |= gone
    if diverged and seen and axes.get_ylim()[1] > IN_VIEW * max(seen) > 0:
        axes.set_ylim(top=IN_VIEW * max(seen))
    log_scale.log_axis(axes)
