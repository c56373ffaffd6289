"""The one style: fonts, sizes, colours that colour-blind readers and grey prints tell apart, and file formats."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import seaborn as sns
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from analysis.store import write_atomically
from analysis.trajectory import how_it_was_run, what_was_run

# Okabe & Ito's palette. A run's label always has the same colour and dashes.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#6E6E6E"
VERMILION = "#D55E00"
FIRST_K, NEXT_K, AVERAGE = BLUE, ORANGE, ORANGE

RUNS: dict[str, dict[str, Any]] = {
    "SGD": {"color": BLUE, "linestyle": "-"},
    "GD": {"color": ORANGE, "linestyle": "-"},
    "Dom-SGD": {"color": VERMILION, "linestyle": (0, (5, 1.5))},
    "Bulk-SGD": {"color": GREEN, "linestyle": (0, (1.2, 1.2))},
}

PANEL_WIDTH, PANEL_HEIGHT = 3.5, 3.4  # inches
LEGEND_HEIGHT = 0.35
DPI = 160

_RC = {
    "axes.grid": True,
    "axes.labelsize": 9,
    "axes.titlesize": 9.5,
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same on every machine
    "font.size": 9,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.5,
    "pdf.fonttype": 42,
    "svg.hashsalt": "sharp-and-flat",
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
}


@contextmanager
def applied() -> Iterator[None]:
    """The style, for as long as the context lasts; whatever the user's matplotlibrc says."""
    with mpl.rc_context():
        mpl.rcdefaults()
        sns.set_theme(context="paper", style="ticks", rc=_RC)
        yield


def panels_in_a_row(count: int) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels side by side, with room below for one legend."""
    figure = Figure(figsize=(PANEL_WIDTH * count, PANEL_HEIGHT + LEGEND_HEIGHT), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, count, squeeze=False)[0]
    return figure, list(axes)


def describe(axes: Axes, title: str, run: xr.Dataset) -> None:
    """The panel's title: the setting, and how it was really run."""
    lines = [*what_was_run(run).splitlines(), how_it_was_run(run)]
    axes.set_title(title, fontweight="bold", fontsize=10, loc="left", pad=6 + 9 * len(lines))
    axes.annotate(
        "\n".join(lines),
        (0, 1),
        xycoords="axes fraction",
        xytext=(0, 4),
        textcoords="offset points",
        fontsize=6.8,
        color="#404040",
        va="bottom",
        linespacing=1.25,
    )
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    sns.despine(ax=axes)


def log_axis(axes: Axes) -> None:
    """A log axis with its numbers written out, also where it spans less than a decade."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(
        LogLocator(subs=(1, 2, 5) if high / low > 8 else (1, 1.5, 2, 3, 4, 5, 6, 8), numticks=12)
    )
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def mark_switch(axes: Axes, run: xr.Dataset) -> None:
    """A vertical line where the run's last segment begins, with its step."""
    for step in run.attrs["switches"][-1:]:
        axes.axvline(step, color=GREY, linewidth=0.9, linestyle=(0, (4, 2)), zorder=1)
        left = step > sum(axes.get_xlim()) / 2
        axes.annotate(
            f"switch at {step:,}",
            (step, 0.985),
            xycoords=("data", "axes fraction"),
            xytext=(-3 if left else 3, 0),
            textcoords="offset points",
            ha="right" if left else "left",
            va="top",
            rotation=90,
            fontsize=7,
            color=GREY,
        )


def mark_divergence(axes: Axes, run: xr.Dataset, color: str) -> None:
    """A cross on the step axis where the run diverged, if it did."""
    if run.attrs["status"] == "diverged":
        axes.plot(
            run.attrs["diverged_at"],
            0.02,
            marker="x",
            color=color,
            transform=axes.get_xaxis_transform(),
            clip_on=False,
        )


def legend_below(figure: Figure, entries: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    """One legend under all panels, where it covers nothing."""
    handles = [Line2D([], [], label=label, **look) for label, look in entries]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)


def save(figure: Figure, outputs: Mapping[str, Path]) -> None:
    """Write the figure, with nothing in the files that another run would write differently."""
    metadata: dict[str, dict[str, None]] = {
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
        "png": {"Software": None},
    }
    for kind, path in outputs.items():
        write_atomically(path, partial(figure.savefig, format=kind, dpi=DPI, metadata=metadata[kind]))
