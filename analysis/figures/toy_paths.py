"""Paths of runs in the plane of a toy (Song et al., figure 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis import toys
from analysis.figures import style, toy_plane
from analysis.figures.toy_plane import Vector
from analysis.runs.panels import Panel

LEVELS = np.array([factor * 10.0**power for power in range(-6, 9) for factor in (1, 3)])
INSET = (0.36, 0.12, 0.47, 0.68)  # where a path that falls into a valley and follows it leaves room

Paths = Mapping[str, tuple[Vector, Vector]]


def draw(panels: Sequence[Panel]) -> Figure:
    """The paths over contours of L, with their last tenth magnified, one panel for each setting."""
    figure, all_axes = style.panels_in_a_row(len(panels))
    for axes, panel in zip(all_axes, panels, strict=True):
        toy = toy_plane.toy_of(panel)
        paths = {label: toy_plane.path(run) for label, run in panel.runs.items()}
        _paths(axes, toy, paths)
        axes.set_xlim(toy_plane.span(*(x for x, _ in paths.values())))
        axes.set_ylim(toy_plane.span(*(y for _, y in paths.values())))
        toy_plane.contours(axes, toy, LEVELS)
        toy_plane.mark_start(axes, next(iter(paths.values())))
        style.describe(axes, panel.title, panel.runs)
        toy_plane.name_axes(axes)
        _magnified(axes, toy, paths)
    entries = style.looks_of(panels[0].runs).items()
    style.legend_below(figure, [*entries, ("L = …, 1, 3, 10, …", toy_plane.CONTOUR)])
    return figure


def _paths(axes: Axes, toy: toys.Toy, paths: Paths) -> None:
    """Draws the path that moves most across the valley as a thin line at the bottom, and the others as wide lines above
    it."""
    restless = {label: -float(np.abs(np.diff(toys.across(toy, x, y))).sum()) for label, (x, y) in paths.items()}
    looks = style.looks_of(paths)
    for i, label in enumerate(sorted(paths, key=restless.__getitem__)):
        axes.plot(*paths[label], **looks[label] | {"linewidth": 1.6 if i else 0.5}, zorder=2 + i)


def _magnified(axes: Axes, toy: toys.Toy, paths: Paths) -> None:
    ends = [(x[-max(2, len(x) // 10) :], y[-max(2, len(y) // 10) :]) for x, y in paths.values()]
    inset = axes.inset_axes(INSET)
    _paths(inset, toy, paths)
    inset.set_xlim(toy_plane.span(*(x for x, _ in ends), margin=0.25))
    inset.set_ylim(toy_plane.span(*(y for _, y in ends), margin=0.1))
    toy_plane.contours(inset, toy, LEVELS)
    inset.grid(False)
    inset.tick_params(labelsize=6.5)
    inset.xaxis.set_major_locator(MaxNLocator(3))
    inset.yaxis.set_major_locator(MaxNLocator(4))
    inset.yaxis.tick_right()
    connectors = axes.indicate_inset_zoom(inset, edgecolor=style.GREY).connectors or ()
    for corner, connector in enumerate(connectors):  # lower left, upper left, lower right, upper right
        connector.set_visible(corner < 2)
