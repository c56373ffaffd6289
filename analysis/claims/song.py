"""Claims of Song, Ahn, Yun on SGD compared with GD. Each function takes the runs of one setting and returns whether the
claim holds and the numbers measured."""

from __future__ import annotations

import numpy as np
import xarray as xr

from analysis.claims.families import every_seed
from analysis.claims.measured import (
    NotMeasured,
    Part,
    all_of,
    drop,
    drops,
    eigenvalue,
    late_switch,
    run,
    since_switch,
    values,
)
from analysis.runs.panels import Panel, specification

MIN_ALIGNMENT = 0.9
MAX_ALIGNMENT = 0.2
MIN_GAP = 1.25
MAX_DOM_DROP = 0.10
MIN_BULK_DROP = 0.90
MAX_DOM_DISTANCE = 0.25
BULK_DISTANCE_WITHIN = 0.20
SETTLING = 0.10
MAX_QUADRATIC_ALIGNMENT = 0.05
MAX_FLOOR_FALL = 0.01
MAX_APART = 0.2

_EVERY = "every seed"  # of those that the setting has
ALIGNED = f"median χ_k(∇L) over the last half of SGD ≥ {MIN_ALIGNMENT:g}, {_EVERY}"
LOW_RANK = f"median λ_k/λ_(k+1) over the last half of SGD ≥ {MIN_GAP:g}, {_EVERY}"
_DROP = "drop in log-loss after the switch"
DOM_STOPS = f"Dom-SGD's {_DROP} ≤ {MAX_DOM_DROP:.0%} of SGD's over the same steps, {_EVERY}"
BULK_TRAINS = f"Bulk-SGD's {_DROP} ≥ {MIN_BULK_DROP:.0%} of SGD's over the same steps, {_EVERY}"
DISTANCE = (
    f"distance from the switch at the end: Dom-SGD ≤ {MAX_DOM_DISTANCE:.0%} of SGD's, "
    f"Bulk-SGD within {BULK_DISTANCE_WITHIN:.0%} of SGD's, {_EVERY}"
)
_SETTLED = f"median χ_k(∇L) over the steps after the switch, without the first {SETTLING:.0%} of them,"
SWITCHED_OFF = f"SGD to GD: {_SETTLED} ≤ {MAX_ALIGNMENT:g}"
SWITCHED_ON = f"GD to SGD: {_SETTLED} ≥ {MIN_ALIGNMENT:g}"
QUADRATIC = (
    f"χ_1(∇L) ≤ {MAX_QUADRATIC_ALIGNMENT:g} at the end of GD; median χ_1(∇L) over the last half of SGD "
    f"≥ {MIN_ALIGNMENT:g}; L − (χ_1(∇L)‖∇L‖)²/(2 λ_1), the loss of the valley's floor, falls by "
    f"< {MAX_FLOOR_FALL:.0%} after the switch to Dom-SGD"
)
GD_SMALL = f"median χ_k(∇L) over the last half of GD ≤ {MAX_ALIGNMENT:g}"
FLOW = f"‖θ^GD − θ^SGD‖ ≤ {MAX_APART:g} ‖θ^GD − θ_0‖ at the end"


Judged = tuple[list[Part], dict[str, float]]  # with one seed: parts of the claim, and numbers by name


def aligns(panel: Panel) -> Part:
    """song-1: the gradient aligns with the dominant subspace along SGD."""

    def judged(single: Panel) -> Judged:
        median = float(values(single, "SGD", "alignment", 0.5).median())
        return [(median >= MIN_ALIGNMENT, f"median χ_k {median:.3f}")], {"median χ_k": median}

    return every_seed(panel, ["SGD"], judged)


def low_rank(panel: Panel) -> Part:
    """song-lowrank: the k largest eigenvalues are separated from the rest."""

    def judged(single: Panel) -> Judged:
        k = specification(run(single, "SGD"))["problem"]["k"]
        kth, following = (eigenvalue(single, "SGD", i, 0.5) for i in (k, k + 1))
        if not bool((following > 0).all()):
            raise NotMeasured(f"SGD: λ_{k + 1} is not positive at some steps, where λ_k/λ_(k+1) says nothing")
        gap = float((kth / following).median())
        return [(gap >= MIN_GAP, f"median λ_k/λ_(k+1) {gap:.3f}")], {"median λ_k/λ_(k+1)": gap}

    return every_seed(panel, ["SGD"], judged)


def dom_stops(panel: Panel) -> Part:
    """song-2-dom: training in the dominant subspace does not reduce the loss."""
    return _dropped(panel, "Dom-SGD", at_most=MAX_DOM_DROP)


def bulk_trains(panel: Panel) -> Part:
    """song-2-bulk: training outside the dominant subspace reduces the loss as SGD does."""
    return _dropped(panel, "Bulk-SGD", at_least=MIN_BULK_DROP)


def _dropped(panel: Panel, branch: str, **within: float) -> Part:
    """The branch's drop in log-loss compared with SGD's, with every seed."""

    def judged(single: Panel) -> Judged:
        dropped, compared, _ = drops(single, branch, "SGD")
        numbers = {f"{branch}'s drop over SGD's": dropped / compared} if compared > 0 else {}
        holds, text = drop(single, branch, "SGD", **within)
        return [(holds, text + late_switch(single, branch))], numbers

    return every_seed(panel, ["SGD", branch], judged)


def distance(panel: Panel) -> Part:
    """song-distance: Dom-SGD stays near the switch, Bulk-SGD goes as far as SGD."""
    labels = ("SGD", "Dom-SGD", "Bulk-SGD")

    def judged(single: Panel) -> Judged:
        curves = [values(single, label, "distance") for label in labels]
        _, end = since_switch(single, "Dom-SGD", *curves)
        sgd, dom, bulk = (float(curve.sel(step=end)) for curve in curves)
        if sgd == 0:
            raise NotMeasured("SGD did not move from the switch")
        parts = [
            (dom <= MAX_DOM_DISTANCE * sgd, f"Dom-SGD {dom:.3g}, {dom / sgd:.0%} of SGD's {sgd:.3g}"),
            (
                abs(bulk - sgd) <= BULK_DISTANCE_WITHIN * sgd,
                f"Bulk-SGD {bulk:.3g}, {bulk / sgd:.0%} of SGD's {sgd:.3g}{late_switch(single, 'Bulk-SGD')}",
            ),
        ]
        return parts, {"Dom-SGD's distance over SGD's": dom / sgd, "Bulk-SGD's": bulk / sgd}

    return every_seed(panel, labels, judged)


def switched_off(panel: Panel) -> Part:
    """song-3-off: without the noise of minibatches the alignment disappears."""
    median = _after_switch(panel, "SGD to GD")
    return median <= MAX_ALIGNMENT, f"median χ_k {median:.3f}"


def switched_on(panel: Panel) -> Part:
    """song-3-on: with the noise of minibatches the alignment returns."""
    median = _after_switch(panel, "GD to SGD")
    return median >= MIN_ALIGNMENT, f"median χ_k {median:.3f}"


def quadratic(panel: Panel) -> Part:
    """song-quadratic: alignment under SGD, none under GD, no progress under Dom-SGD, in two dimensions (k = 1)."""
    gd = float(values(panel, "GD", "alignment")[-1])
    sgd = float(values(panel, "SGD", "alignment", 0.5).median())
    floors = [_floor(panel, label) for label in ("Dom-SGD", "SGD")]
    steps = since_switch(panel, "Dom-SGD", *floors)
    ends = np.array([floor.sel(step=list(steps)).values for floor in floors])
    if not (ends[:, 0] > 0).all():
        raise NotMeasured("Dom-SGD, SGD: the loss of the valley's floor is 0 at the switch, so it cannot fall")
    dom_fall, sgd_fall = (1 - ends[:, 1] / ends[:, 0]).tolist()
    return all_of(
        (gd <= MAX_QUADRATIC_ALIGNMENT, f"GD: χ_1 {gd:.3f} at the end"),
        (sgd >= MIN_ALIGNMENT, f"SGD: median χ_1 {sgd:.3f}"),
        (
            dom_fall < MAX_FLOOR_FALL,
            f"Dom-SGD: the loss of the valley's floor fell by {dom_fall:z.2%}, SGD's by {sgd_fall:z.2%} "
            f"from step {steps[0]:,} to {steps[1]:,}",
        ),
    )


def no_alignment(panel: Panel) -> Part:
    """song-gd-small: no alignment along GD at a small learning rate."""
    median = float(values(panel, "GD", "alignment", 0.5).median())
    return median <= MAX_ALIGNMENT, f"median χ_k {median:.3f}"


def paths_stay_close(panel: Panel) -> Part:
    """song-flow: SGD stays near GD's path, compared with how far both go."""
    apart = panel.distances
    if apart is None or not {"between", "first", "second"} <= set(apart.data_vars) or not apart.sizes.get("step"):
        raise NotMeasured("distances between the runs were not measured")
    between, gd, sgd = (float(apart[name][-1]) for name in ("between", "first", "second"))
    if not np.isfinite([between, gd, sgd]).all():
        raise NotMeasured("distances between the runs are not finite at the end")
    if gd == 0:
        raise NotMeasured("GD did not move")
    return (
        between <= MAX_APART * gd,
        f"‖θ^GD − θ^SGD‖ {between:.3g}, {between / gd:.1%} of ‖θ^GD − θ_0‖ {gd:.3g} "
        f"(‖θ^SGD − θ_0‖ {sgd:.3g}) at step {int(apart.step[-1]):,}",
    )


def _after_switch(panel: Panel, label: str) -> float:
    return float(values(panel, label, "alignment", SETTLING, after_switch=True).median())


def _floor(panel: Panel, label: str) -> xr.DataArray:
    """The loss without its part in the dominant subspace (exact for a quadratic and k = 1), along `step`."""
    loss, norm = (values(panel, label, name) for name in ("loss", "gradient_norm"))
    alignment, sharpness = values(panel, label, "alignment"), eigenvalue(panel, label, 1)
    curved = (alignment**2 / (2 * sharpness)).rename(spectrum_step="step")
    return loss - norm**2 * curved  # at the steps that all four have
