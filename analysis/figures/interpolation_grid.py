"""Final training loss and test accuracy over the weights of an update's two components (Zakarin & Singh, figure 4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isnan, nan

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from analysis.figures import drawing, style
from analysis.runs.measures import final
from analysis.runs.numbers import NOTHING
from analysis.runs.panels import Member, Panel
from sharpflat.errors import InputError

WEIGHTS = ("alpha_dom", "beta_bulk")
ALPHA, BETA = r"$\alpha_\mathrm{dom}$", r"$\beta_\mathrm{bulk}$"
NAMED = {(1.0, 1.0): "SGD", (1.0, 0.0): "Dom-SGD", (0.0, 1.0): "Bulk-SGD"}  # by (α_dom, β_bulk)
COLOURS = "cividis"  # its lightness is even, so it holds in grey prints and for colour-blind readers
HATCH: style.Look = {"facecolor": "#F2F2F2", "edgecolor": "#9A9A9A", "hatch": "////", "linewidth": 0}
NOT_RUN, BEST = "not run", "*"
CELL, BESIDE, ABOVE = 0.55, 1.45, 1.9  # inches: a cell; axis and colour scale; axis, heading and description
SMALLEST = 3.3  # inches, of a map's side: with few cells they are larger
VALUE, WORD = 7.5, 6.2  # font sizes in a cell


@dataclass(frozen=True)
class Cell:
    """The result of the seeds with one pair of weights.

    Attributes:
        mean: mean over the seeds; NaN if one diverged or ended without a value.
        diverged: number of seeds that diverged.
        seeds: number of seeds.
    """

    mean: float
    diverged: int
    seeds: int


Cells = dict[tuple[float, float], Cell]  # by (α_dom, β_bulk)


@dataclass(frozen=True)
class Map:
    """A quantity that is shown after multiplication by `factor`. `best` is "lowest" or "highest"."""

    variable: str
    name: str
    best: str
    factor: float
    in_words: Callable[[float], str]


MAPS = (
    Map("loss", "final training loss", "lowest", 1, lambda value: f"{value:#.3g}".rstrip(".")),
    Map("test_accuracy", "final test accuracy (%)", "highest", 100, lambda value: f"{value:.1f}"),
)


def draw(panels: Sequence[Panel]) -> Figure:
    """Two maps over α_dom and β_bulk, one row for each setting: the loss on a log colour scale, and the accuracy.

    A cell shows the mean over the seeds. If a seed diverged, the cell is hatched and shows how many did. SGD, Dom-SGD
    and Bulk-SGD are outlined and named. The best cell of each map has a star.

    Raises:
        InputError: a panel's runs do not all vary in both weights.
    """
    figure, rows = style.rows_of_panels(len(panels), len(MAPS))
    widest = 0
    for row, panel in zip(rows, panels, strict=True):
        members = _members(panel)
        seeds = len({member.varied.get("seed") for member in members})
        note = f", mean over {seeds} seeds" if seeds > 1 else ""
        headings = [f"({'ab'[i]}) {kind.name}{note} ({BEST} {kind.best})" for i, kind in enumerate(MAPS)]
        runs = [member.run for member in members]
        more = [_how_weighted(members), *drawing.refreshes_in_words(runs), *drawing.tested_in_words(runs)]
        style.describe(row[0], drawing.title_of(panel), members[0].run, heading=headings[0], more=more)
        style.head(row[1], headings[1])
        for axes, kind in zip(row, MAPS, strict=True):
            cells = cells_of(members, kind)
            widest = max(widest, *(len({weights[i] for weights in cells}) for i in (0, 1)))
            _draw_map(figure, axes, cells, kind)
    side = max(CELL * widest, SMALLEST)
    figure.set_size_inches((side + BESIDE) * len(MAPS), (side + ABOVE) * len(panels))
    return figure


def cells_of(members: Sequence[Member], kind: Map) -> Cells:
    """The final values of the runs, by their weights."""
    found: dict[tuple[float, float], list[xr.Dataset]] = {}
    for member in members:
        found.setdefault((member.varied["alpha_dom"], member.varied["beta_bulk"]), []).append(member.run)
    return {
        weights: Cell(
            kind.factor * float(np.mean([_final(run, kind.variable) for run in runs])),
            sum(run.attrs["status"] == "diverged" for run in runs),
            len(runs),
        )
        for weights, runs in found.items()
    }


def _final(run: xr.Dataset, variable: str) -> float:
    """The final value; NaN if the run diverged or ended without one."""
    try:
        return final(run, variable)
    except InputError:
        return nan


def _members(panel: Panel) -> list[Member]:
    members = [member for family in drawing.every_run(panel).values() for member in family]
    if not members or not all(name in member.varied for member in members for name in WEIGHTS):
        raise InputError(
            f"setting {panel.setting}: this figure shows a grid; all of its runs must vary in {' and '.join(WEIGHTS)}"
        )
    return members


def _how_weighted(members: Sequence[Member]) -> str:
    """The updates before and after the switch."""
    switch = max(members[0].run.attrs["switches"], default=0)
    last = max(int(member.run.attrs["last_step"]) for member in members)  # a diverged run's is an earlier one
    before = f"SGD up to step {switch:,}, then " if switch else ""
    return f"{before}−η ({ALPHA} Pₖ g + {BETA} (I − Pₖ) g) up to step {last:,}"


def _draw_map(figure: Figure, axes: Axes, cells: Cells, kind: Map) -> None:
    columns, rows = (sorted({weights[i] for weights in cells}) for i in (0, 1))
    means = np.full((len(rows), len(columns)), nan)
    for (alpha, beta), reached in cells.items():
        means[rows.index(beta), columns.index(alpha)] = reached.mean
    known = means[~np.isnan(means)]
    best = (np.min if kind.best == "lowest" else np.max)(known) if len(known) else nan
    mesh = axes.pcolormesh(
        np.ma.masked_invalid(means),
        cmap=COLOURS,
        norm=_scale(known, kind),
        edgecolors="white",
        linewidth=0.6,
        label=kind.name,
    )
    for x, alpha in enumerate(columns):
        for y, beta in enumerate(rows):
            name, cell = NAMED.get((alpha, beta), ""), cells.get((alpha, beta))
            colour = _write(axes, (x, y), cell, best, kind, mesh, named=bool(name))
            if name:
                _mark(axes, (x, y), name, colour, hatched=cell is not None and cell.diverged > 0)
    _name_axes(axes, columns, rows)
    bar = figure.colorbar(mesh, ax=axes, fraction=0.05, pad=0.02)
    bar.ax.yaxis.set_minor_locator(NullLocator())
    if kind.variable == "loss":
        wide = len(known) and known.max() > 8 * known.min()
        bar.ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if wide else (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)))
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:g}"))


def _scale(known: np.ndarray, kind: Map) -> Normalize:
    """The colour scale over all known values. It has a positive width even with one value or none."""
    if kind.variable == "loss":
        positive = known[known > 0]
        low, high = (float(positive.min()), float(positive.max())) if len(positive) else (1.0, 1.0)
        return LogNorm(low / (1.05 if low == high else 1), high * (1.05 if low == high else 1), clip=True)
    low, high = (float(known.min()), float(known.max())) if len(known) else (50.0, 50.0)
    return Normalize(low - (low == high), high + (low == high))


def _write(
    axes: Axes, place: tuple[int, int], cell: Cell | None, best: float, kind: Map, mesh: QuadMesh, *, named: bool
) -> str:
    """Writes a cell's value, or why it has none, and returns a text colour that is legible there."""
    x, y = place
    text: style.Look = {"ha": "center", "va": "center", "fontsize": WORD, "color": style.BLACK}
    low = y + (0.36 if named else 0.5)  # below the name
    if cell is None:
        axes.text(x + 0.5, low, NOT_RUN, **text | {"color": style.GREY})
    elif cell.diverged:
        axes.add_patch(Rectangle(place, 1, 1, zorder=1.5, **HATCH))
        said = style.DIVERGED if cell.seeds == 1 else f"{cell.diverged} of {cell.seeds}\n{style.DIVERGED}"
        written = axes.text(x + 0.5, low, said, **text)
        written.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.85})
    elif isnan(cell.mean):
        axes.text(x + 0.5, low, NOTHING, **text)
    else:
        star = cell.mean == best
        text["color"] = _legible_on(mesh.to_rgba(np.array([cell.mean]))[0])
        said = kind.in_words(cell.mean) + (BEST if star else "")
        axes.text(x + 0.5, low, said, **text | {"fontsize": VALUE, "fontweight": "bold" if star else "normal"})
    return str(text["color"])


def _legible_on(colour: np.ndarray) -> str:
    """Black or white, whichever stands out more from an sRGB colour (by WCAG's contrast)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return style.BLACK if (luminance + 0.05) ** 2 > 0.05 * 1.05 else "#FFFFFF"


def _mark(axes: Axes, place: tuple[int, int], name: str, colour: str, *, hatched: bool) -> None:
    """Outlines a cell, in black within white, and names it."""
    inset = 0.045
    outline = Rectangle(
        (place[0] + inset, place[1] + inset),
        1 - 2 * inset,
        1 - 2 * inset,
        fill=False,
        edgecolor=style.BLACK,
        linewidth=1.5,
        zorder=3,
    )
    outline.set_path_effects([withStroke(linewidth=3, foreground="white")])
    axes.add_patch(outline)
    x, y = place[0] + 0.5, place[1] + 0.86
    written = axes.text(x, y, name, ha="center", va="top", fontsize=WORD, fontweight="bold", color=colour, zorder=4)
    if hatched:
        written.set_path_effects([withStroke(linewidth=2, foreground="white")])


def _name_axes(axes: Axes, columns: Sequence[float], rows: Sequence[float]) -> None:
    axes.set_xticks(np.arange(len(columns)) + 0.5, [f"{value:g}" for value in columns])
    axes.set_yticks(np.arange(len(rows)) + 0.5, [f"{value:g}" for value in rows])
    axes.tick_params(length=0)
    axes.set_xlabel(f"{ALPHA}, weight of the dominant component")
    axes.set_ylabel(f"{BETA}, weight of the bulk component")
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
