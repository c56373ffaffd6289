"""Numbers and lists as people read them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isnan

from analysis.runs.numbers import NOTHING, signed

VARIED = {  # what members of a family differ in
    "seed": "seed",
    "learning_rate": "η",
    "batch_size": "batch size",
    "holdout": "l",
    "k": "k",
    "refresh_every": "t",
    "step": "step of the switch",
    "alpha_dom": "α_dom",
    "beta_bulk": "β_bulk",
}


def number(value: float, digits: int = 4) -> str:
    """With so many significant digits; a dash for NaN."""
    return NOTHING if isnan(value) else signed(f"{value:,.{digits}g}")


def span(seconds: float) -> str:
    """A time in the largest unit of which there is one."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:.0f} s"


def listed(items: Iterable[str]) -> str:
    """ "a, b and c", each once."""
    *first, last = dict.fromkeys(items)
    return f"{', '.join(first)} and {last}" if first else last


def numbers(values: Iterable[float]) -> str:
    """Different numbers in ascending order."""
    return ", ".join(number(value) for value in sorted(set(values))) or NOTHING


def varied(values: Mapping[str, float]) -> str:
    """What one member of a family differs in: "η = 0.1, seed = 0"."""
    return ", ".join(f"{VARIED.get(name, name)} = {number(value)}" for name, value in values.items())
