"""A covering set of all that a test could try; with `EXHAUSTIVE=1` in the environment, all of it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from itertools import combinations, product
from typing import Any, TypeVar

T = TypeVar("T")
EXHAUSTIVE = os.environ.get("EXHAUSTIVE", "") not in ("", "0")


def some(few: Iterable[T], everything: Iterable[T]) -> list[T]:
    return list(everything if EXHAUSTIVE else few)


def pairs(*values: Iterable[Any]) -> list[tuple[Any, ...]]:
    """Of the product of the values as many rows as hold each two values of different kinds together at least once.

    Each row is the one of the product that holds most pairs which no earlier one does (the first of several), so the
    same values give the same rows.
    """
    kinds: list[Sequence[Any]] = [list(v) for v in values]
    rows = list(product(*(range(len(kind)) for kind in kinds)))
    if not EXHAUSTIVE:
        missing = {pair for row in rows for pair in _pairs(row)}
        chosen = []
        while missing:
            best = max(rows, key=lambda row: len(missing & _pairs(row)))
            missing -= _pairs(best)
            chosen.append(best)
        rows = sorted(chosen)
    return [tuple(kind[i] for kind, i in zip(kinds, row, strict=True)) for row in rows]


def _pairs(row: tuple[int, ...]) -> set[tuple[tuple[int, int], ...]]:
    return set(combinations(enumerate(row), 2))
