"""The (x, y) plane of a toy: the toy of a panel, a run's path, contours of L."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from analysis import toys
from analysis.runs.panels import Panel, specification
from analysis.specs.kinds import MODELS, read_numbers
from sharpflat.errors import InputError

Vector = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
CONTOUR: dict[str, Any] = {"color": "#9A9A9A", "linewidth": 0.6}


def toy_of(panel: Panel) -> toys.Toy:
    """The toy of a panel.

    Raises:
        InputError: its setting is a model of another kind.
    """
    model = specification(next(iter(panel.runs.values())))["problem"]["model"]
    numbers = read_numbers(MODELS, model)
    if numbers.takes != "toy":
        raise InputError(
            f"setting {panel.setting}: this figure shows a toy's plane, and a {model['kind']} is not a toy"
        )
    return cast("toys.Toy", numbers)


def path(run: xr.Dataset, first_step: int = 0) -> tuple[Vector, Vector]:
    """x and y of θ along a run, each [snapshots], from `first_step` on.

    Raises:
        InputError: the run has no snapshots of θ.
    """
    if "theta" not in run:
        raise InputError(f"{run.attrs['id']}: has no snapshots of theta, from which this figure is drawn")
    theta = run.theta.sel(snapshot_step=run.snapshot_step >= first_step).transpose("snapshot_step", "parameter").values
    return theta[:, 0], theta[:, 1]


def contours(axes: Axes, toy: toys.Toy, levels: Vector) -> None:
    """The contours of L at `levels` that lie within the axes' limits, which do not change."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    x, y = np.meshgrid(np.linspace(left, right, 400), np.linspace(low, high, 200))
    z = toys.loss(toy, x, y)
    found = levels[(levels > z.min()) & (levels < z.max())]
    if len(found):
        axes.contour(x, y, z, levels=found, colors=CONTOUR["color"], linewidths=CONTOUR["linewidth"], zorder=1)


def mark_start(axes: Axes, points: tuple[Vector, Vector]) -> None:
    """Marks the first point with a dot and a word."""
    place = (float(points[0][0]), float(points[1][0]))
    axes.plot(*place, color="black", marker="o", markersize=4, linestyle="none", zorder=9)
    axes.annotate("start", place, xytext=(0, -5), textcoords="offset points", ha="center", va="top", fontsize=7)


def name_axes(axes: Axes) -> None:
    """Labels the axes with x and y instead of steps."""
    axes.set_xlabel("x")
    axes.set_ylabel("y")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.grid(False)


def span(*values: Vector, margin: float = 0.06) -> tuple[float, float]:
    """Limits that hold all values, with a margin on both sides."""
    low, high = min(float(v.min()) for v in values), max(float(v.max()) for v in values)
    return low - margin * (high - low), high + margin * (high - low)
