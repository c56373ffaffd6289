"""Energy of H, H_o and H_f in the dominant subspace and in the bulk, and their spectral densities (Zakarin & Singh,
figures 5–7)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.figures import drawing, log_scale, style
from analysis.runs.panels import Member, Panel
from sharpflat.errors import InputError

OPERATORS: dict[str, style.Look] = {  # set apart by markers in grey prints; H is wide, since H_o covers it
    "H": {"color": style.BLACK, "marker": "o", "linewidth": 1.9},
    "H_o": {"color": style.ORANGE, "marker": "s", "linewidth": 1.0},
    "H_f": {"color": style.SKY, "marker": "^", "linewidth": 1.0},
}
NAMES = {"H": "$H$", "H_o": r"$H_\mathrm{o}$ (Gauss–Newton)", "H_f": r"$H_\mathrm{f}$ (functional)"}
SUBSPACES: dict[str, style.Look] = {
    "dominant": {"color": style.GREY, "linestyle": style.SOLID},
    "bulk": {"color": style.GREY, "linestyle": style.DASHED},
}
MARKER: style.Look = {"markersize": 3.2, "markeredgewidth": 0.5, "markeredgecolor": "white"}
BAND: style.Look = {"alpha": 0.3, "linewidth": 0}
ERRORS = 2  # half a band's height, in standard errors
MARKED = 12  # markers of a line, at most


def draw(panels: Sequence[Panel]) -> Figure:
    """Three panels for each setting: the energies on a log axis, the fraction in the dominant subspace, both along
    training, and the densities at the last snapshot.

    Bands are ±2 standard errors of quantities that are estimated with random probes. The energy in the dominant
    subspace is exact. With several seeds, each has its own lines.

    Raises:
        InputError: a run has no energies.
    """
    figure, rows = style.rows_of_panels(len(panels), 3)
    for (left, middle, right), panel in zip(rows, panels, strict=True):
        members = [member for family in drawing.every_run(panel).values() for member in family]
        _check(members)
        _draw_energies(left, members)
        left.set_ylabel("energy (squared Frobenius norm)")
        labels = ", ".join(drawing.every_run(panel))
        more = [f"bands: ±{ERRORS} standard errors of what random probes estimate", *_unconverged(members)]
        style.describe(left, drawing.title_of(panel), members[0].run, heading=f"(a) energy along {labels}", more=more)

        _draw_fractions(middle, members)
        middle.set_ylabel("fraction of the energy")
        style.head(middle, "(b) fraction in the dominant subspace")

        style.head(right, "(c) spectral density")
        when = _draw_densities(right, members)
        right.set_ylabel(f"density φ(λ){when}")
    operators = [(NAMES[name], look | MARKER) for name, look in OPERATORS.items()]
    style.legend_below(figure, [*operators, *((f"{name} subspace", look) for name, look in SUBSPACES.items())])
    return figure


def _check(members: Sequence[Member]) -> None:
    for member in members:
        if "energy_dominant" not in member.run:
            raise InputError(f"{member.run.attrs['id']}: has no energies, from which this figure is drawn")


def _unconverged(members: Sequence[Member]) -> list[str]:
    """A text, if the dominant subspace of any snapshot is less precise than requested."""
    converged = np.concatenate([member.run.dominant_converged.values for member in members])
    bad = int((converged == 0).sum())
    return [f"at {bad} of {len(converged)} snapshots the eigensolver did not converge"] if bad else []


def _each(members: Sequence[Member]) -> Iterator[tuple[xr.Dataset, style.Look]]:
    """The operators of each run with snapshots, with their looks."""
    for member in members:
        if member.run.sizes["snapshot_step"] == 0:
            continue
        for name, look in OPERATORS.items():
            thin = {"linewidth": look["linewidth"] * (1 if len(members) == 1 else 0.7)}
            yield member.run.sel(operator=name), look | MARKER | thin


def _marked(run: xr.Dataset) -> int:
    return max(1, -(-run.sizes["snapshot_step"] // MARKED))


def _draw_energies(axes: Axes, members: Sequence[Member]) -> None:
    for run, look in _each(members):
        for subspace in SUBSPACES:
            line = look | {"linestyle": SUBSPACES[subspace]["linestyle"], "markevery": _marked(run)}
            axes.plot(run.snapshot_step, run[f"energy_{subspace}"], **line)
    axes.set_yscale(log_scale.LogScale())
    lowest = axes.get_ylim()[0]  # so far down a band reaches that has no logarithm there
    for run, look in _each(members):
        low, high = _band(run, "energy_bulk")
        axes.fill_between(run.snapshot_step, np.maximum(low, lowest), high, color=look["color"], **BAND)
    axes.set_ylim(bottom=lowest)
    for member in members:
        style.mark_divergence(axes, member.run, style.BLACK)
    log_scale.log_axis(axes)


def _draw_fractions(axes: Axes, members: Sequence[Member]) -> None:
    for run, look in _each(members):
        axes.plot(run.snapshot_step, run.fraction_dominant, **look, markevery=_marked(run))
        low, high = _band(run, "fraction_dominant")
        axes.fill_between(run.snapshot_step, np.clip(low, 0, 1), np.clip(high, 0, 1), color=look["color"], **BAND)
    for member in members:
        style.mark_divergence(axes, member.run, style.BLACK)
    axes.set_ylim(style.FRACTION)


def _band(run: xr.Dataset, variable: str) -> tuple[np.ndarray, np.ndarray]:
    value, error = run[variable].values, run[f"{variable}_se"].values
    return value - ERRORS * error, value + ERRORS * error


def _draw_densities(axes: Axes, members: Sequence[Member]) -> str:
    """Draws the densities of each run's last snapshot, down to a tenth of the contribution of one eigenvalue. Returns
    the steps as text."""
    drawn = [(run.isel(snapshot_step=-1), look) for run, look in _each(members)]
    # Nearly all eigenvalues lie in the peak, so that one of P adds about peak/P where it is.
    peaks = [(float(last.density.max()), last.attrs["parameters"]) for last, _ in drawn]
    peaks = [(peak, count) for peak, count in peaks if isfinite(peak) and peak > 0] or [(1.0, 1)]
    lowest = 0.1 * min(peak / count for peak, count in peaks)
    for last, look in drawn:
        density = np.maximum(last.density, lowest / 10)  # far below, where a Gaussian ends, there is nothing to see
        axes.plot(last.density_eigenvalue, density, **look, markevery=max(1, last.sizes["point"] // MARKED))
    axes.set_ylim(lowest, 3 * max(peak for peak, _ in peaks))
    log_scale.log_axis(axes)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.set_xlabel("eigenvalue λ")
    steps = sorted({int(last.snapshot_step) for last, _ in drawn})
    if len(steps) > 1:
        return f" at the last snapshots, steps {steps[0]:,} to {steps[-1]:,}"
    return f" at step {steps[0]:,}" if steps else ""
