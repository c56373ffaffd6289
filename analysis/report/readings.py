"""The values that a figure draws, as tables: for readers without scripts, of few rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from analysis.report import words
from analysis.runs.numbers import NOTHING
from analysis.store.drawn import Panel

ROWS = 20  # of a table, at most


@dataclass(frozen=True)
class Reading:
    """A panel's values: a row for each of its places on the horizontal axis, a column for each line."""

    title: str
    across: str
    columns: list[str]
    rows: list[list[str]]


def readings_of(panels: Iterable[Panel]) -> list[Reading]:
    """Tables of the panels that have lines."""
    return [_reading(panel) for panel in panels if panel.lines]


def _reading(panel: Panel) -> Reading:
    last = len(panel.x) - 1
    kept = range(last + 1) if last < ROWS else [round(i * last / (ROWS - 1)) for i in range(ROWS)]
    return Reading(
        ": ".join(filter(None, (panel.title, panel.up))),
        panel.across,
        [line.label for line in panel.lines],
        [[panel.names[i] if panel.names else f"{panel.x[i]:,.10g}", *_values(panel, i)] for i in kept],
    )


def _values(panel: Panel, place: int) -> list[str]:
    found = (line.values[place] for line in panel.lines)
    return [NOTHING if value is None else words.number(value) for value in found]
