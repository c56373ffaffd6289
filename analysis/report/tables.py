"""Tables of figures (CSV) as the report shows them: a mean with its deviation, ours next to the published one."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from analysis.runs.numbers import NOTHING, difference, with_deviation
from sharpflat.errors import InputError

PUBLISHED = "published_"
MEAN, DEVIATION, DIFFERENCE = "_mean", "_std", "_difference"
NAMES = {"dom_lr": "Dom-LR", "bulk_lr": "Bulk-LR"}


@dataclass(frozen=True)
class Column:
    heading: str
    keys: tuple[str, ...]  # a mean and its deviation, or one
    published: bool


@dataclass(frozen=True)
class Table:
    """Columns with the published ones last; cells as text."""

    columns: list[Column]
    rows: list[list[str]]

    @property
    def published(self) -> int:
        return sum(column.published for column in self.columns)


def read_table(path: Path) -> Table:
    """
    Raises:
        InputError: if the file cannot be read.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            names, rows = list(reader.fieldnames or []), list(reader)
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: is no readable table ({error}); delete it and run again") from error
    columns = sorted((_column(name, names) for name in names if not _goes_with(name, names)), key=lambda c: c.published)
    return Table(columns, [[_cell(column, row) for column in columns] for row in rows])


def _goes_with(name: str, names: list[str]) -> bool:
    """Whether a column is shown in the cells of another one, as its deviation."""
    return name.endswith(DEVIATION) and name.removesuffix(DEVIATION) + MEAN in names


def _column(name: str, names: list[str]) -> Column:
    plain = name.removesuffix(MEAN).removesuffix(DIFFERENCE)
    paired = name.endswith(MEAN) and plain + DEVIATION in names
    heading = plain.removeprefix(PUBLISHED)
    keys = (name, plain + DEVIATION) if paired else (name,)
    title = NAMES.get(heading, heading.replace("_", " "))
    if paired:
        title += ", mean (standard deviation)"
    elif name.endswith(DIFFERENCE):
        title += ", difference in these standard deviations"
    return Column(title, keys, name.startswith(PUBLISHED))


def _cell(column: Column, row: dict[str, str]) -> str:
    """ "0.0100 (0.0000)", "+0.26", a number or a text; a dash where there is nothing."""
    values = [row[key] or "" for key in column.keys]
    differs = column.keys[0].endswith(DIFFERENCE)
    if len(values) == 1 and not differs:
        return values[0] or NOTHING
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        return NOTHING
    return difference(numbers[0]) if differs else with_deviation(numbers[0], numbers[1])
