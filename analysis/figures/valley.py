"""A run down a valley, and one that stays where it was switched (Song et al., figure 8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis import toys
from analysis.figures import style, toy_plane
from analysis.figures.toy_plane import Vector
from analysis.runs.panels import Panel

VIEW = {"elev": 34, "azim": -80}
SHADES = LinearSegmentedColormap.from_list("shades", ["#FFFFFF", "#C4C4C4"])
BOTTOM: dict[str, Any] = {"color": "black", "linewidth": 0.8, "linestyle": (0, (1, 2))}
DOTS: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 2.2, "markeredgewidth": 0}

Paths = Mapping[str, tuple[Vector, Vector]]


def draw(panels: Sequence[Panel]) -> Figure:
    """Contours of L with the runs and, next to them, its surface with the same runs; one row for each setting.

    The first run is a line from its start. For the others, only the iterates of their last segments are drawn, as dots.
    """
    size = (2.2 * style.PANEL_WIDTH, (style.PANEL_HEIGHT + 0.3) * len(panels) + style.LEGEND_HEIGHT)
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    for row, panel in enumerate(panels):
        toy, paths, looks = toy_plane.toy_of(panel), _paths(panel), style.looks_of(panel.runs)
        above = figure.add_subplot(len(panels), 2, 2 * row + 1)
        _from_above(above, toy, paths, looks)
        style.describe(above, panel.title, panel.runs)
        toy_plane.name_axes(above)
        surface = figure.add_subplot(len(panels), 2, 2 * row + 2, projection="3d", computed_zorder=False)
        _surface(surface, toy, paths, looks)
    looks = style.looks_of(panels[0].runs)
    shown = [(label, _look(looks[label], i)) for i, label in enumerate(panels[0].runs)]
    dots = {"markersize": 4}
    entries = [(label, look | dots if "marker" in look else look) for label, look in shown]
    style.legend_below(figure, [*entries, ("bottom of the valley", BOTTOM), ("contours of L", toy_plane.CONTOUR)])
    return figure


def _paths(panel: Panel) -> Paths:
    """The drawn part of each run. A branch whose parent diverged has no iterates."""
    paths = {}
    for i, (label, run) in enumerate(panel.runs.items()):
        switches = run.attrs["switches"] if i else []
        x, y = toy_plane.path(run, switches[-1] if switches else 0)
        if len(x):
            paths[label] = x, y
    return paths


def _look(look: style.Look, place: int) -> style.Look:
    return look | (DOTS if place else {"linewidth": 0.9})


def _limits(toy: toys.Toy, paths: Paths) -> tuple[float, tuple[float, float]]:
    """The extent across the bottom on each side, and the range along y."""
    widest = max(float(np.abs(toys.across(toy, x, y)).max()) for x, y in paths.values())
    return 1.6 * widest, toy_plane.span(*(y for _, y in paths.values()))


def _from_above(axes: Axes, toy: toys.Toy, paths: Paths, looks: Mapping[str, style.Look]) -> None:
    half, (low, high) = _limits(toy, paths)
    y = np.linspace(low, high, 200)
    bottom = toys.bottom(toy, y)
    axes.set_xlim(float(bottom.min()) - half, float(bottom.max()) + half)
    axes.set_ylim(low, high)
    highest = float(toys.loss(toy, bottom + half, y).max())
    toy_plane.contours(axes, toy, highest * np.linspace(0, 1, 16)[1:] ** 2)  # denser below, where the runs are
    axes.plot(bottom, y, zorder=2, **BOTTOM)
    for i, (label, path) in enumerate(paths.items()):
        axes.plot(*path, zorder=3 + i, **_look(looks[label], i))
    toy_plane.mark_start(axes, next(iter(paths.values())))


def _surface(axes: Any, toy: toys.Toy, paths: Paths, looks: Mapping[str, style.Look]) -> None:
    half, (low, high) = _limits(toy, paths)
    # A strip along the bottom, so that it ends at the same height on both sides.
    offset, y = np.meshgrid(np.linspace(-half, half, 41), np.linspace(low, high, 61))
    x = toys.bottom(toy, y) + offset
    z = toys.loss(toy, x, y)
    look: dict[str, Any] = {"rstride": 1, "cstride": 1, "linewidth": 0, "antialiased": False, "shade": False}
    axes.plot_surface(x, y, z, cmap=SHADES, zorder=1, **look)
    axes.plot_wireframe(x, y, z, rstride=6, cstride=5, color="#8C8C8C", linewidth=0.35, zorder=1.5)
    middle = offset.shape[1] // 2
    axes.plot(x[:, middle], y[:, middle], z[:, middle], zorder=2, **BOTTOM)
    for i, (label, (px, py)) in enumerate(paths.items()):
        axes.plot(px, py, toys.loss(toy, px, py), zorder=3 + i, **_look(looks[label], i))
    axes.view_init(**VIEW)
    axes.set_box_aspect((1.2, 1.5, 0.8), zoom=1.2)
    axes.set_xlabel("x", labelpad=-6)
    axes.set_ylabel("y", labelpad=-4)
    axes.set_zlabel("L(x, y)", labelpad=-6)
    axes.tick_params(labelsize=6.5, pad=-2)
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_major_locator(MaxNLocator(4))
