"""Helpers for claims about families of runs that differ in a few numbers, and for claims that are judged by seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from analysis.claims.measured import NotMeasured, Part, Undecided, all_of, run
from analysis.runs.panels import Panel

SEEDS_CONFIDENCE = 0.95
SYMBOLS = {
    "learning_rate": "learning rate",
    "batch_size": "batch size",
    "holdout": "l",
    "alpha_dom": "α_dom",
    "beta_bulk": "β_bulk",
}


def in_words(varied: Mapping[str, float]) -> str:
    """The numbers of a run of a family, e.g. "seed 1, α_dom 0.5"."""
    return ", ".join(f"{SYMBOLS.get(name, name)} {value:.10g}" for name, value in varied.items())


@contextmanager
def locating_gaps(where: str) -> Iterator[None]:
    """Adds the place of a missing measurement: `NotMeasured` gets this prefix."""
    try:
        yield
    except NotMeasured as gap:
        gap.args = (f"{where}: {gap}",)
        raise


def alike(panel: Panel, names: Sequence[str], labels: Sequence[str]) -> list[tuple[dict[str, float], Panel]]:
    """`Panel.alike` of the families of these labels. A run that one of them has and another lacks is a gap.

    Raises:
        ValueError: a family varies in another number.
    """
    found, gaps = _pairs(panel, names, labels)
    if gaps:
        raise NotMeasured(gaps[0])
    return found


def _pairs(
    panel: Panel, names: Sequence[str], labels: Sequence[str]
) -> tuple[list[tuple[dict[str, float], Panel]], list[str]]:
    """What `alike` returns, for the runs that all of the families have, and which runs are missing."""
    for label in labels:
        if not panel.families.get(label):
            raise NotMeasured(f"there are no runs {label}")
    families = {label: panel.families[label] for label in labels}
    gaps = [
        f"there is no run {label} with {in_words(member.varied)}"
        for member in (m for members in families.values() for m in members)
        for label, members in families.items()
        if member.varied not in [m.varied for m in members]
    ]
    return replace(panel, families=families).alike(*names), list(dict.fromkeys(gaps))


def diverged_at(panel: Panel, label: str) -> int | None:
    """The step at which the run diverged, if it did."""
    attributes = run(panel, label).attrs
    return int(attributes["diverged_at"]) if attributes["status"] == "diverged" else None


def completed(panel: Panel, *labels: str) -> None:
    """Refuses runs that diverged."""
    for label in labels:
        if (step := diverged_at(panel, label)) is not None:
            raise NotMeasured(f"{label} diverged at step {step:,}")


def mean_with_interval(samples: Sequence[float]) -> str:
    """Mean and Student's confidence interval of at least two samples, e.g. "0.51 (95% confidence 0.42 to 0.6)"."""
    from scipy.stats import t as student

    mean, half = float(np.mean(samples)), float(student.ppf(0.5 + SEEDS_CONFIDENCE / 2, len(samples) - 1))
    half *= standard_error(samples)
    return f"{mean:.3g} ({SEEDS_CONFIDENCE:.0%} confidence {mean - half:.3g} to {mean + half:.3g})"


def standard_error(samples: Sequence[float]) -> float:
    """Standard error of the mean of at least two samples."""
    return float(np.std(samples, ddof=1)) / math.sqrt(len(samples))


def every_seed(
    panel: Panel,
    labels: Sequence[str],
    judged: Callable[[Panel], tuple[list[Part], dict[str, float]]],
    *,
    may_diverge: bool = False,
) -> Part:
    """Whether a claim holds with every seed. One seed with which it fails is enough, whatever the others lack.

    Args:
        panel: its families of these labels vary in the seed, or it has one run of each label.
        labels: the labels of the claim.
        judged: gives the parts of the claim with one seed, from single runs, and numbers by name. With several seeds,
            numbers that all seeds have are reported as means with intervals.
        may_diverge: whether `judged` decides what a diverged run means. Otherwise such runs are refused.

    Raises:
        NotMeasured: no seed fails, and some cannot be judged.
        Undecided: with some seed, whatever the others say.
    """
    if not panel.families:
        alone, _ = judged(panel)
        return alone[0] if len(alone) == 1 else all_of(*alone)
    parts, numbers = [], []
    pairs, gaps = _pairs(panel, ["seed"], labels)
    for varied, single in pairs:
        try:
            with locating_gaps(in_words(varied)):
                if not may_diverge:
                    completed(single, *labels)
                found, measured = judged(single)
        except Undecided:
            raise
        except NotMeasured as gap:
            gaps.append(str(gap))
            continue
        parts += [(holds, f"{in_words(varied)}: {text}") for holds, text in found]
        numbers.append(measured)
    holds, text = all_of(*parts)
    if gaps:
        if holds:
            raise NotMeasured("; ".join(gaps))
        return holds, f"{text}. Not measured: {'; '.join(gaps)}"
    common = [name for name in numbers[0] if all(name in measured for measured in numbers)]
    if len(numbers) == 1 or not common:
        return holds, text
    means = (f"{name} {mean_with_interval([measured[name] for measured in numbers])}" for name in common)
    return holds, f"means over {len(numbers)} seeds: {', '.join(means)}; {text}"
