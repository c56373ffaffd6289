"""Helpers for claims that read the runs of a panel. If something that a claim needs is missing, they raise
`NotMeasured`, so missing data never lead to a verdict."""

from __future__ import annotations

from functools import reduce

import numpy as np
import xarray as xr

from analysis.runs.measures import EffectiveRates, mean_effective_rates
from analysis.runs.panels import Panel
from sharpflat.errors import InputError

Part = tuple[bool, str]  # whether it holds, and its numbers


class NotMeasured(Exception):
    """A claim cannot be judged. The message says which run lacks what."""


class Undecided(NotMeasured):
    """Everything is measured, and a statement is neither true nor false by its own definition. The message says why."""

    def __init__(self, why: str) -> None:
        super().__init__(f"undecided: {why}")


def all_of(*parts: Part) -> Part:
    """Whether every part of a claim holds, and the numbers of each. Parts that fail come first."""
    held, failed = ([text for holds, text in parts if holds is wanted] for wanted in (True, False))
    if not failed:
        return True, "; ".join(held)
    return False, "failed: " + "; ".join(failed) + (f". Held: {'; '.join(held)}" if held else "")


def run(panel: Panel, label: str) -> xr.Dataset:
    """The run of that label, from its first step."""
    if label not in panel.runs:
        raise NotMeasured(f"there is no run {label}")
    return panel.runs[label]


def switch(panel: Panel, label: str) -> int:
    """The step at which the run's last segment begins."""
    switches = run(panel, label).attrs.get("switches", [])
    if not len(switches):
        raise NotMeasured(f"{label} has no switch: it is one segment")
    return int(switches[-1])


def values(
    panel: Panel, label: str, name: str, skip: float = 0.0, *, after_switch: bool = False, gaps: bool = False
) -> xr.DataArray:
    """A variable of a run along its own steps, finite and never empty.

    Args:
        panel: the panel with the run.
        label: the label of the run.
        name: the name of the variable.
        skip: fraction of the run's steps that is left out at its beginning.
        after_switch: the run's steps are those after its switch.
        gaps: whether NaN means that nothing was to be measured and is left out. Otherwise NaN is refused.
    """
    dataset = run(panel, label)
    if name not in dataset or dataset[name].size == 0:
        raise NotMeasured(f"{label}: {name} was not measured")
    whole = dataset[name]
    steps = whole[whole.dims[0]]
    begin = switch(panel, label) if after_switch else 0
    progress = (steps - begin) / max(int(steps[-1]) - begin, 1)
    window = whole[(progress >= skip).values]
    if gaps:
        window = window.dropna(window.dims[0])
    if window.size == 0:
        raise NotMeasured(f"{label}: {name} was not measured over the last {1 - skip:.0%} of its steps")
    if not bool(np.isfinite(window).all()):
        raise NotMeasured(f"{label}: {name} is not finite at some steps")
    return window


def eigenvalue(panel: Panel, label: str, i: int, skip: float = 0.0) -> xr.DataArray:
    """λ_i (1-based) in the form of `values`."""
    eigenvalues = values(panel, label, "eigenvalues", skip)
    if i not in eigenvalues.index:
        raise NotMeasured(f"{label}: λ_{i} was not measured, only the {eigenvalues.sizes['index']} largest")
    return eigenvalues.sel(index=i, drop=True)


def rates(panel: Panel, label: str) -> EffectiveRates:
    """The effective learning rates over the first steps, as in the tables."""
    try:
        found = mean_effective_rates(run(panel, label))
    except InputError as error:
        raise NotMeasured(f"{label}: {error}") from error
    if not np.isfinite([found.dom_mean, found.bulk_mean]).all():
        raise NotMeasured(f"{label}: its effective learning rates are not finite")
    return found


def common_steps(*curves: xr.DataArray) -> list[int]:
    """The steps that all `curves` (along `step`) have, ascending."""
    return reduce(np.intersect1d, [curve.step.values for curve in curves]).tolist()


def since_switch(panel: Panel, branch: str, *curves: xr.DataArray) -> tuple[int, int]:
    """The branch's switch and the last step that all `curves` (along `step`) have."""
    begin = switch(panel, branch)
    common = common_steps(*curves)
    if begin not in common or common[-1] == begin:
        raise NotMeasured(f"{branch} and what it is compared with were not both measured at its switch and after it")
    return begin, common[-1]


def late_switch(panel: Panel, branch: str) -> str:
    """That the branch's switch came by steps, before the alignment's average had passed its threshold; "" otherwise."""
    begin = switch(panel, branch)
    if begin not in run(panel, branch).attrs.get("late_switches", ()):
        return ""
    averages = values(panel, branch, "alignment_ema")
    last = averages.where(averages.spectrum_step <= begin, drop=True)
    return f" (the switch came by steps, at an average χ_k of {float(last[-1]):.3f})"


def drops(panel: Panel, branch: str, reference: str) -> tuple[float, float, int]:
    """The drops in log-loss of the branch and of the reference from the branch's switch on, and over how many steps."""
    curves = [values(panel, label, "loss") for label in (branch, reference)]
    steps = since_switch(panel, branch, *curves)
    ends = np.array([curve.sel(step=list(steps)).values for curve in curves])
    if not (ends > 0).all():
        raise NotMeasured(f"{branch}, {reference}: a loss of 0 has no logarithm")
    dropped, compared = (np.log(ends[:, 0]) - np.log(ends[:, 1])).tolist()
    return dropped, compared, steps[1] - steps[0]


def drop(panel: Panel, branch: str, reference: str, *, at_most: float = np.inf, at_least: float = -np.inf) -> Part:
    """Whether the branch's drop in log-loss after the switch is between two multiples of the reference's over the same
    steps. It is not if the reference's loss did not fall."""
    dropped, compared, count = drops(panel, branch, reference)
    ratio = f"{dropped / compared:.1%}" if compared > 0 else f"{reference}'s did not fall"
    return (
        compared > 0 and at_least <= dropped / compared <= at_most,
        f"{branch}'s log-loss fell by {dropped:.4f}, {reference}'s by {compared:.4f} ({ratio}) in {count:,} steps",
    )
