"""Claims of Zakarin, Singh. Each function takes the families of runs of one setting, all of which begin with SGD up to
a switch, and returns whether the claim holds and the numbers measured. Each function decides what a diverged run
means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import xarray as xr

from analysis.claims.families import (
    alike,
    completed,
    diverged_at,
    every_seed,
    in_words,
    locating_gaps,
    standard_error,
)
from analysis.claims.measured import NotMeasured, Part, common_steps, eigenvalue, run, switch, values
from analysis.runs.measures import GrowthRate, growth_rate
from analysis.runs.panels import Panel
from analysis.runs.words import rules
from sharpflat.errors import InputError

SOON = 500
GROWTH_CONFIDENCE = 0.99
MIN_R_SQUARED = 0.8
MAX_HOLDOUT_SPREAD = 0.10
MAX_CORRELATION = -0.7
MIN_FRACTION = 0.9
MIN_ENERGY_RATIO = 5

SGD, DOM_SGD, BULK_SGD, INTERPOLATED = "SGD", "Dom-SGD", "Bulk-SGD", "interpolated"
LEAST_RANKED = 3  # cells
ROUNDED = 9  # decimals of mean accuracies, in which equal counts differ by rounding

FASTER = (
    "at the largest learning rate at which neither run diverges and both end with a loss below that at the switch: "
    f"Bulk-SGD's loss < SGD's {SOON} steps after the switch"
)
UNSTABLE = (
    f"every seed, from the switch on: slope of ln λ_1 under Bulk-SGD > 0 at {GROWTH_CONFIDENCE:.0%} confidence with "
    f"R² ≥ {MIN_R_SQUARED:g}, or Bulk-SGD diverges; 0 in the {GROWTH_CONFIDENCE:.0%} interval of the slope under SGD"
)
HOLDOUT = (
    "spread (max − min) over l of Bulk-SGD's log-loss at the end "
    f"≤ {MAX_HOLDOUT_SPREAD:.0%} of its mean drop after the switch"
)
_STABLE = "over the cells that did not diverge, means over seeds"
GRID_LOSS = f"Spearman correlation of the loss at the end with β_bulk ≤ {MAX_CORRELATION:g} {_STABLE}".replace(
    "-", "\N{MINUS SIGN}"
)
GRID_ACCURACY = (
    "α_dom of the cell with the best test accuracy at the end > α_dom of the cell with the lowest training loss at the "
    f"end, {_STABLE}"
)
CONCENTRATES = f"median fraction_dominant over the last half of SGD ≥ {MIN_FRACTION:g} for H and for H_o, every seed"
GGN = (
    f"medians over the last half of SGD, every seed: energy_total of H_o ≥ {MIN_ENERGY_RATIO} times that of H_f; "
    "fraction_dominant of H_f < that of H_o"
)


# ---------------------------------------------------------------- after the switch
def faster(panel: Panel) -> Part:
    """zs-faster: at the largest stable learning rate Bulk-SGD is ahead of SGD soon after the switch."""
    tried = alike(panel, ["learning_rate"], [SGD, BULK_SGD])
    unstable: list[str] = []
    for varied, pair in sorted(tried, key=lambda one: one[0]["learning_rate"], reverse=True):
        where = in_words(varied)
        with locating_gaps(where):
            if reasons := _unstable_rate(pair):
                unstable.append(f"at {where} {' and '.join(reasons)}")
                continue
            holds, text = _ahead(pair)
            return holds, f"{where} ({', '.join(unstable) or f'the largest of {len(tried)}'}): {text}"
    raise NotMeasured(f"no learning rate is stable: {', '.join(unstable)}")


def unstable(panel: Panel) -> Part:
    """zs-unstable: the sharpness grows exponentially under Bulk-SGD and not under SGD."""

    def judged(single: Panel) -> tuple[list[Part], dict[str, float]]:
        bulk = _growth(single, BULK_SGD, lambda g: g.low > 0 and g.r_squared >= MIN_R_SQUARED, if_diverged=True)
        sgd = _growth(single, SGD, lambda g: g.low <= 0 <= g.high, if_diverged=False)
        return [bulk[0], sgd[0]], bulk[1] | sgd[1]

    return every_seed(panel, [SGD, BULK_SGD], judged, may_diverge=True)


def holdout_matters_little(panel: Panel) -> Part:
    """zs-holdout: Bulk-SGD's final loss hardly depends on the number l of held-out examples."""
    members = {varied["holdout"]: single for varied, single in alike(panel, ["holdout"], [BULK_SGD])}
    if len(members) < 2:
        raise NotMeasured("there is one holdout size, and so no spread")
    curves = {}
    for size, single in members.items():
        with locating_gaps(in_words({"holdout": size})):
            completed(single, BULK_SGD)
            curves[size] = values(single, BULK_SGD, "loss")
            begin = switch(single, BULK_SGD)
            if begin not in curves[size].step:
                raise NotMeasured(f"{BULK_SGD}: loss was not measured at its switch")
            curves[size] = curves[size].sel(step=curves[size].step >= begin)
            if not bool((curves[size] > 0).all()):
                raise NotMeasured(f"{BULK_SGD}: a loss of 0 has no logarithm")
    common = common_steps(*curves.values())
    if not common or common[-1] <= max(int(curve.step[0]) for curve in curves.values()):
        raise NotMeasured("the runs' losses have no step in common after their switch")
    final = {size: float(np.log(curve.sel(step=common[-1]))) for size, curve in curves.items()}
    mean_drop = float(np.mean([np.log(float(curve[0])) - final[size] for size, curve in curves.items()]))
    spread = max(final.values()) - min(final.values())
    ratio = f"{spread / mean_drop:.1%} of it" if mean_drop > 0 else "it did not fall"
    each = ", ".join(f"{in_words({'holdout': size})}: {end:.4f}" for size, end in final.items())
    return (
        mean_drop > 0 and spread <= MAX_HOLDOUT_SPREAD * mean_drop,
        f"log-loss at step {common[-1]:,} {each}; spread {spread:.4f}, mean drop {mean_drop:.4f} ({ratio})",
    )


def _unstable_rate(pair: Panel) -> list[str]:
    """Why SGD and Bulk-SGD are not both stable."""
    steps = {label: diverged_at(pair, label) for label in (SGD, BULK_SGD)}
    if diverged := [f"{label} diverged at step {step:,}" for label, step in steps.items() if step is not None]:
        return diverged
    rose = []
    for label in (SGD, BULK_SGD):
        loss, begin = values(pair, label, "loss"), switch(pair, label)
        if begin not in loss.step or int(loss.step[-1]) == begin:
            raise NotMeasured(f"{label}: loss was not measured both at its switch and after it")
        before, after = float(loss.sel(step=begin)), float(loss[-1])
        if after >= before:
            rose.append(f"{label}'s loss went from {before:.4g} at the switch to {after:.4g}")
    return rose


def _ahead(pair: Panel) -> Part:
    curves, begin = {label: values(pair, label, "loss") for label in (BULK_SGD, SGD)}, switch(pair, BULK_SGD)
    step = max((s for s in common_steps(*curves.values()) if begin < s <= begin + SOON), default=None)
    if step is None:
        raise NotMeasured(f"SGD and Bulk-SGD were not both measured in the first {SOON} steps after the switch")
    bulk, sgd = (float(curves[label].sel(step=step)) for label in (BULK_SGD, SGD))
    last = "" if step == begin + SOON else f" (the last of {SOON} that both measured)"
    return bulk < sgd, f"loss {step - begin} steps after the switch{last}: Bulk-SGD {bulk:.4g}, SGD {sgd:.4g}"


def _growth(
    panel: Panel, label: str, passes: Callable[[GrowthRate], bool], *, if_diverged: bool
) -> tuple[Part, dict[str, float]]:
    """Whether the slope of ln λ_1 after the switch meets `passes`, with the slope of ln ‖∇L‖ for information."""
    begin, diverged = switch(panel, label), diverged_at(panel, label)
    where = f"{label}, learning rate {rules(run(panel, label))[-1]['learning_rate']:g}"
    if diverged is not None:
        if diverged <= begin:
            raise NotMeasured(f"{label} diverged at step {diverged:,}, before it was switched")
        return (if_diverged, f"{where}, diverged at step {diverged:,}, {diverged - begin:,} after the switch"), {}
    sharpness = _fitted(label, eigenvalue(panel, label, 1), begin)
    try:
        norm = _fitted(label, values(panel, label, "gradient_norm"), begin)
        beside, also = _slope(norm), {f"slope of ln ‖∇L‖ under {label}": norm.rate}
    except NotMeasured as gap:
        beside, also = f"not measured ({gap})", {}
    return (
        (passes(sharpness), f"{where}, slope of ln λ_1 a step {_slope(sharpness)}, of ln ‖∇L‖ {beside}"),
        {f"slope of ln λ_1 under {label}": sharpness.rate, **also},
    )


def _fitted(label: str, curve: xr.DataArray, begin: int) -> GrowthRate:
    steps = curve[curve.dims[0]].values
    try:
        return growth_rate(steps[steps >= begin], curve.values[steps >= begin], confidence=GROWTH_CONFIDENCE)
    except InputError as error:
        raise NotMeasured(f"{label}: {error}") from error


def _slope(fit: GrowthRate) -> str:
    return (
        f"{fit.rate:.3g} ({GROWTH_CONFIDENCE:.0%} confidence {fit.low:.3g} to {fit.high:.3g}, R² {fit.r_squared:.3f}, "
        f"{fit.count} measurements)"
    )


# ---------------------------------------------------------------- the grid of α_dom and β_bulk
@dataclass(frozen=True)
class _Grid:
    """The final values of the cells: variables [seed, cell] by name, NaN where a cell diverged."""

    seeds: list[float]
    alpha: np.ndarray  # [cell]
    beta: np.ndarray  # [cell]
    diverged: np.ndarray  # [seed, cell]
    final: dict[str, np.ndarray]

    def only(self, seed: int) -> _Grid:
        """The values of one seed, by its index."""
        row = slice(seed, seed + 1)
        final = {name: ends[row] for name, ends in self.final.items()}
        return _Grid(self.seeds[row], self.alpha, self.beta, self.diverged[row], final)

    def stable(self) -> np.ndarray:
        """[cell]: it diverged with no seed."""
        return np.logical_not(self.diverged.any(axis=0))

    def mean(self, name: str) -> np.ndarray:
        """[cell]: over seeds; NaN where a cell diverged with some seed."""
        return self.final[name].mean(axis=0)

    def in_words(self) -> str:
        """How many cells are counted, and with which seeds."""
        stable, count, several = int(self.stable().sum()), len(self.alpha), len(self.seeds) > 1
        diverged = f"{count - stable} of {count} diverged{' with some seed' if several else ''}"
        means = f"means over {len(self.seeds)} seeds" if several else in_words({"seed": self.seeds[0]})
        return f"{stable} cells ({diverged}), {means}"


def grid_loss(panel: Panel) -> Part:
    """zs-grid-loss: the larger β_bulk, the lower the training loss."""
    grid = _grid(panel, "loss")
    found, text = _correlation(grid), ""
    if len(grid.seeds) > 1:
        each = ((seed, _correlation(grid.only(i))) for i, seed in enumerate(grid.seeds))
        text = "; " + ", ".join(f"{in_words({'seed': seed})} {alone:.3f}" for seed, alone in each)
    return found <= MAX_CORRELATION, f"Spearman correlation {found:.3f} over {grid.in_words()}{text}"


def grid_accuracy(panel: Panel) -> Part:
    """zs-grid-accuracy: the best test accuracy takes more of the dominant subspace than the lowest training loss."""
    grid = _grid(panel, "loss", "test_accuracy")
    holds, best, lowest = _two_cells(grid)
    accuracy, each = grid.mean("test_accuracy"), grid.final["test_accuracy"]
    gaps = each[:, best[0]] - each[:, lowest[0]]
    text = (
        f"(α_dom, β_bulk) of the best test accuracy, {accuracy[best[0]]:.4f}: {_named(grid, best)}, of the lowest "
        f"training loss, {grid.mean('loss')[lowest[0]]:.4g}: {_named(grid, lowest)}, where the accuracy is lower by "
        f"{gaps.mean():.4f}"
    )
    if (count := len(grid.seeds)) > 1:
        held = sum(_two_cells(grid.only(i))[0] for i in range(count))
        error = standard_error(gaps.tolist())
        text += f" (standard error {error:.2g} over seeds); it holds with {held} of {count} seeds alone"
    return holds, f"{text}; {grid.in_words()}"


def _grid(panel: Panel, *names: str) -> _Grid:
    """The cells and the final values of these variables. All seeds must have the same cells."""
    members = alike(panel, ["seed", "alpha_dom", "beta_bulk"], [INTERPOLATED])
    seeds = list(dict.fromkeys(varied["seed"] for varied, _ in members))
    cells = list(dict.fromkeys((varied["alpha_dom"], varied["beta_bulk"]) for varied, _ in members))
    there, diverged = (np.zeros((len(seeds), len(cells)), dtype=bool) for _ in range(2))
    final, ends = {name: np.full(there.shape, np.nan) for name in names}, set()
    for varied, single in members:
        at = seeds.index(varied["seed"]), cells.index((varied["alpha_dom"], varied["beta_bulk"]))
        there[at], diverged[at] = True, diverged_at(single, INTERPOLATED) is not None
        if diverged[at]:
            continue
        with locating_gaps(in_words(varied)):
            curves = {name: values(single, INTERPOLATED, name) for name in names}
        for name, curve in curves.items():
            final[name][at] = float(curve[-1])
            ends.add(int(curve[curve.dims[0]][-1]))
    for seed, cell in np.argwhere(~there):
        missing = {"seed": seeds[seed], "alpha_dom": cells[cell][0], "beta_bulk": cells[cell][1]}
        raise NotMeasured(f"there is no run {INTERPOLATED} with {in_words(missing)}")
    if len(ends) > 1:
        raise NotMeasured(f"cells were last measured at different steps: {', '.join(f'{s:,}' for s in sorted(ends))}")
    alpha, beta = np.array(cells, dtype=np.float64).T
    return _Grid(seeds, alpha, beta, diverged, final)


def _correlation(grid: _Grid) -> float:
    from scipy.stats import spearmanr

    stable = grid.stable()
    beta, loss = grid.beta[stable], grid.mean("loss")[stable]
    if len(beta) < LEAST_RANKED or np.ptp(beta) == 0 or np.ptp(loss) == 0:
        raise NotMeasured(f"{grid.in_words()}: too few, or too alike, for a correlation")
    return float(spearmanr(beta, loss).statistic)


def _two_cells(grid: _Grid) -> tuple[bool, np.ndarray, np.ndarray]:
    """Whether every cell of the best accuracy has a larger α_dom than every one of the lowest loss; those cells."""
    if not grid.stable().any():
        raise NotMeasured(f"{grid.in_words()}: there is none to compare")
    accuracy, loss = grid.mean("test_accuracy").round(ROUNDED), grid.mean("loss")
    best = np.flatnonzero(accuracy == np.nanmax(accuracy))
    lowest = np.flatnonzero(loss == np.nanmin(loss))
    return bool(grid.alpha[best].min() > grid.alpha[lowest].max()), best, lowest


def _named(grid: _Grid, cells: np.ndarray) -> str:
    return " and ".join(f"({grid.alpha[i]:g}, {grid.beta[i]:g})" for i in cells)


# ---------------------------------------------------------------- energies
def energy_concentrates(panel: Panel) -> Part:
    """zs-energy-concentrates: the energy of H and of its Gauss–Newton part is in the dominant subspace."""

    def judged(single: Panel) -> tuple[list[Part], dict[str, float]]:
        fractions, errors = (_energies(single, name) for name in ("fraction_dominant", "fraction_dominant_se"))
        medians = {name: float(fractions(name).median()) for name in ("H", "H_o")}
        parts = [
            (
                median >= MIN_FRACTION,
                f"{name} {median:.4f} (standard error of a measurement ≤ {float(errors(name).max()):.2g})",
            )
            for name, median in medians.items()
        ]
        parts[-1] = (parts[-1][0], parts[-1][1] + _unconverged(single))
        return parts, medians

    return every_seed(panel, [SGD], judged)


def gauss_newton_carries(panel: Panel) -> Part:
    """zs-energy-ggn: most energy is the Gauss–Newton part's, and the functional part's is not in the dominant
    subspace to the same degree."""

    def judged(single: Panel) -> tuple[list[Part], dict[str, float]]:
        energy, error = (_energies(single, name) for name in ("energy_total", "energy_bulk_se"))
        fraction = _energies(single, "fraction_dominant")
        if not all(bool((energy(name) > 0).all()) for name in ("H_o", "H_f")):
            raise NotMeasured("SGD: an energy of 0 has no ratio to another")
        ratio = energy("H_o") / energy("H_f")
        ratio_error = ratio * np.hypot(error("H_o") / energy("H_o"), error("H_f") / energy("H_f"))
        median, of_o, of_f = (float(v.median()) for v in (ratio, fraction("H_o"), fraction("H_f")))
        return [
            (
                median >= MIN_ENERGY_RATIO,
                f"energy_total of H_o over that of H_f {median:.4g} "
                f"(standard error of a measurement ≤ {float(ratio_error.max()):.2g}){_unconverged(single)}",
            ),
            (of_f < of_o, f"fraction_dominant of H_f {of_f:.4f}, of H_o {of_o:.4f}"),
        ], {"H_o over H_f": median}

    return every_seed(panel, [SGD], judged)


def _energies(panel: Panel, name: str) -> Callable[[str], xr.DataArray]:
    """The energies over the last half of SGD's snapshots, by operator."""
    window = values(panel, SGD, name, 0.5)

    def of(operator: str) -> xr.DataArray:
        if operator not in window.operator:
            raise NotMeasured(f"SGD: {name} of {operator} was not measured")
        return window.sel(operator=operator, drop=True)

    return of


def _unconverged(panel: Panel) -> str:
    converged = values(panel, SGD, "dominant_converged", 0.5)
    count = int((converged == 0).sum())
    return f", eigenvectors not converged at {count} of {converged.size} snapshots" if count else ""
