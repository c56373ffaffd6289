"""Checks that several functions make of their arguments."""

from __future__ import annotations

import operator
from math import inf

from sharpflat.errors import InputError


def check_counts(*, at_least: int = 1, **counts: int | None) -> None:
    """Refuses a count that is too small or no integer; None is a default and passes.

    Raises:
        InputError: Names the first such argument.
    """
    for name, count in counts.items():
        if count is None:
            continue
        try:
            fits = operator.index(count) >= at_least
        except TypeError:
            fits = False
        if not fits:
            raise InputError(f"{name} must be an integer of at least {at_least}, not {count!r}")


def check_tolerance(tolerance: float) -> None:
    """Refuses a tolerance that is negative, infinite or no number.

    Raises:
        InputError: Says what was found.
    """
    if not 0 <= tolerance < inf:
        raise InputError(f"tolerance must be a finite number of at least 0, not {tolerance!r}")
