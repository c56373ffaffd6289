"""Numbers as people read them, in figures and in the report."""

from __future__ import annotations

from math import isnan

NOTHING = "–"


def signed(text: str) -> str:
    """With minus signs for hyphens."""
    return text.replace("-", "−")


def with_deviation(mean: float, deviation: float) -> str:
    """An effective learning rate in Song et al.'s format, "0.0100 (0.0002)"; a dash for NaN."""
    if isnan(mean):
        return NOTHING
    return "{} ({})".format(*(signed(f"{x:.4f}" if abs(x) < 100 else f"{x:.3g}") for x in (mean, deviation)))


def difference(value: float) -> str:
    """A difference with its sign, "+0.26"; a dash for NaN."""
    if isnan(value):
        return NOTHING
    return signed(f"{value:+.2f}" if abs(value) < 100 else f"{value:+.3g}")
