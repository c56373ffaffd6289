"""Claims of Song, Ahn, Yun. Each function takes the runs of one setting, by label and from their first step, and
returns whether the claim holds and the numbers measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import xarray as xr

from analysis.trajectory import specification

MIN_ALIGNMENT = 0.9
MIN_GAP = 1.25
MAX_DOM_DROP = 0.10
MIN_BULK_DROP = 0.90
MAX_DOM_DISTANCE = 0.25
BULK_DISTANCE_WITHIN = 0.20

ALIGNED = f"median χ_k(∇L) over the last half of SGD ≥ {MIN_ALIGNMENT:g}"
LOW_RANK = f"median λ_k/λ_(k+1) over the last half of SGD ≥ {MIN_GAP:g}"
DOM_STOPS = f"Dom-SGD's drop in log-loss after the switch ≤ {MAX_DOM_DROP:.0%} of SGD's over the same steps"
BULK_TRAINS = f"Bulk-SGD's drop in log-loss after the switch ≥ {MIN_BULK_DROP:.0%} of SGD's over the same steps"
DISTANCE = (
    f"distance from the switch at the end: Dom-SGD ≤ {MAX_DOM_DISTANCE:.0%} of SGD's, "
    f"Bulk-SGD within {BULK_DISTANCE_WITHIN:.0%} of SGD's"
)

Runs = Mapping[str, xr.Dataset]


def aligns(runs: Runs) -> tuple[bool, str]:
    """song-1: the gradient aligns with the dominant subspace along SGD."""
    median = float(_last_half(runs["SGD"]).alignment.median())
    return median >= MIN_ALIGNMENT, f"median χ_k {median:.3f}"


def low_rank(runs: Runs) -> tuple[bool, str]:
    """song-lowrank: the k largest eigenvalues stand apart from the rest."""
    half = _last_half(runs["SGD"])
    k = specification(runs["SGD"])["problem"]["k"]
    gap = float((half.eigenvalues.sel(index=k) / half.eigenvalues.sel(index=k + 1)).median())
    return gap >= MIN_GAP, f"median λ_k/λ_(k+1) {gap:.2f}"


def dom_stops(runs: Runs) -> tuple[bool, str]:
    """song-2-dom: within the dominant subspace the loss does not go down."""
    return _drop(runs, "Dom-SGD", lambda ratio: ratio <= MAX_DOM_DROP)


def bulk_trains(runs: Runs) -> tuple[bool, str]:
    """song-2-bulk: outside the dominant subspace it goes down as under SGD."""
    return _drop(runs, "Bulk-SGD", lambda ratio: ratio >= MIN_BULK_DROP)


def distance(runs: Runs) -> tuple[bool, str]:
    """song-distance: Dom-SGD stays near the switch, Bulk-SGD goes as far as SGD."""
    sgd, dom, bulk = (float(runs[label].distance[-1]) for label in ("SGD", "Dom-SGD", "Bulk-SGD"))
    holds = dom <= MAX_DOM_DISTANCE * sgd and abs(bulk - sgd) <= BULK_DISTANCE_WITHIN * sgd
    return holds, f"SGD {sgd:.3g}, Dom-SGD {dom / sgd:.0%} of it, Bulk-SGD {bulk / sgd:.0%}"


def _drop(runs: Runs, label: str, holds: Callable[[float], bool]) -> tuple[bool, str]:
    drop, reference = (_log_drop(runs[name]) for name in (label, "SGD"))
    steps = int(runs["SGD"].step[-1]) - runs["SGD"].attrs["switches"][-1]
    compared = f"{drop / reference:.1%}" if reference > 0 else "SGD's did not fall"
    measured = f"log-loss fell by {drop:.4f}, SGD's by {reference:.4f} ({compared}) in {steps:,} steps"
    return reference > 0 and holds(drop / reference), measured


def _log_drop(run: xr.Dataset) -> float:
    after = np.log(run.loss.sel(step=[run.attrs["switches"][-1], int(run.step[-1])]).values)
    return float(after[0] - after[1])


def _last_half(run: xr.Dataset) -> xr.Dataset:
    return run.sel(spectrum_step=run.spectrum_step >= run.spectrum_step[-1] / 2)
