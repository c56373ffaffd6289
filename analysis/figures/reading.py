"""What can be read off a figure: the values of its lines and maps that have a label (matplotlib's `label=…`)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analysis.store.drawn import Line, Panel

POINTS = 150  # of a panel's lines, at most: about one for two pixels of the page
SCALES = ("linear", "log")
MARKUP = re.compile(r"\$|\\mathrm|[{}\\]")  # of matplotlib's formulas
GREEK = {r"\alpha": "α", r"\beta": "β"}


def panels_of(figure: Figure) -> tuple[Panel, ...]:
    """The panels that have something to read, as they were laid out when the figure was last drawn."""
    return tuple(panel for axes in figure.axes for panel in _panels(axes))


def _panels(axes: Axes) -> Iterator[Panel]:
    if axes.get_xscale() not in SCALES or axes.get_yscale() not in SCALES:
        return
    lines = [line for line in axes.lines if _is_labelled(line.get_label())]
    curves = {}
    for line in (line for line in lines if line.get_transform() == axes.transData):
        curves[line] = dict(zip(*(np.asarray(values, float).tolist() for values in line.get_data()), strict=True))
    if curves:
        x = _thinned(sorted({place for curve in curves.values() for place in curve}))
        read = [
            Line(label=str(line.get_label()), color=to_hex(line.get_color()), values=_values(map(curve.get, x)))
            for line, curve in curves.items()
        ]
        yield _panel(axes, _named(axes, "y"), x, (), [line for line in read if set(line.values) - {None}])
    for mesh in axes.collections:
        if isinstance(mesh, QuadMesh) and _is_labelled(mesh.get_label()):
            yield _map(axes, mesh)


def _is_labelled(label: object) -> bool:
    return not str(label).startswith("_") and label != ""


def _map(axes: Axes, mesh: QuadMesh) -> Panel:
    """A map whose columns and rows are named on the axes; what has no value, as in a run that diverged, is none."""
    values: NDArray[np.float64] = np.ma.filled(np.ma.asarray(mesh.get_array(), float), np.nan)
    columns, rows = (
        [text.get_text() for text in labels] for labels in (axes.get_xticklabels(), axes.get_yticklabels())
    )
    side = _named(axes, "y").partition(",")[0]
    lines = [
        Line(label=f"{side} = {name}", values=_values(row), at=place + 0.5)
        for place, (name, row) in reversed(list(enumerate(zip(rows, values, strict=True))))
    ]
    return _panel(axes, str(mesh.get_label()), [place + 0.5 for place in range(len(columns))], tuple(columns), lines)


def _panel(axes: Axes, up: str, x: list[float], names: tuple[str, ...], lines: list[Line]) -> Panel:
    box = axes.get_position()
    left, top, right, bottom = (round(float(part), 4) for part in (box.x0, 1 - box.y1, box.x1, 1 - box.y0))
    return Panel(
        title=_title(axes),
        across=_named(axes, "x"),
        up=up,
        box=(left, top, right, bottom),
        x_axis=(*_ends(axes.get_xlim()), int(axes.get_xscale() == "log")),
        y_axis=(*_ends(axes.get_ylim()), int(axes.get_yscale() == "log")),
        x=tuple(x),
        names=names,
        lines=tuple(lines),
    )


def _ends(limits: tuple[float, float]) -> tuple[float, float]:
    low, high = (float(f"{limit:.6g}") for limit in limits)
    return low, high


def _values(numbers: Iterable[float | None]) -> tuple[float | None, ...]:
    """Each with four digits; none where there is none."""
    return tuple(None if y is None or not np.isfinite(y) else float(f"{y:.4g}") for y in numbers)


def _thinned(places: list[float]) -> list[float]:
    kept = np.unique(np.linspace(0, len(places) - 1, min(POINTS, len(places))).round().astype(int))
    return [float(places[i]) for i in kept]


def _title(axes: Axes) -> str:
    """The panel's, or that of its row or column."""
    beside, above = _neighbours(axes)
    return next((title for one in (axes, *beside, *above) if (title := one.get_title(loc="left"))), "")


def _named(axes: Axes, direction: str) -> str:
    """The name of an axis, which is often written once: the vertical one's for a row, the other's for a column."""
    beside, above = _neighbours(axes)
    if direction == "x":
        names = [one.get_xlabel() for one in (axes, *above)]
    else:
        names = [one.get_ylabel() for one in (axes, *beside)]
    name = next(filter(None, names), "")
    for formula, letter in GREEK.items():
        name = name.replace(formula, letter)
    return MARKUP.sub("", name)


def _neighbours(axes: Axes) -> tuple[list[Axes], list[Axes]]:
    """The other panels in the row of a panel, and those in its column."""
    place, figure = axes.get_subplotspec(), axes.get_figure(root=True)
    if place is None or figure is None:
        return [], []
    others = [(one, one.get_subplotspec()) for one in figure.axes if one is not axes]
    beside = [one for one, its in others if its is not None and place.rowspan.start in its.rowspan]
    above = [one for one, its in others if its is not None and place.colspan.start in its.colspan]
    return beside, above
