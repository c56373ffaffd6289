"""The style of all figures: fonts, sizes, file formats, and colours for colour-blind readers and grey prints."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import seaborn as sns
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, fontManager
from matplotlib.lines import Line2D
from matplotlib.textpath import TextToPath
from matplotlib.ticker import MaxNLocator

from analysis.figures.reading import panels_of
from analysis.runs.panels import Panel
from analysis.runs.words import how_they_were_run, rule_name, rules, what_was_run
from analysis.specs import StoppedBy
from analysis.store.atomic import write_atomically
from analysis.store.drawn import with_panels
from sharpflat.errors import InputError

# Okabe & Ito's palette.
BLUE, SKY, ORANGE, GREEN, GREY = "#0072B2", "#56B4E9", "#E69F00", "#009E73", "#6E6E6E"
VERMILION, BLACK = "#D55E00", "#000000"
FIRST_K, NEXT_K = BLUE, ORANGE

Look = dict[str, Any]
SOLID, DASHED, DOTTED, DASH_DOTTED = "-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5))
BASE: Look = {"color": BLUE, "linestyle": SOLID}
DOMINANT: Look = {"color": VERMILION, "linestyle": DASHED}
BULK: Look = {"color": GREEN, "linestyle": DOTTED}
GD: Look = {"color": BLACK, "linestyle": SOLID}  # shown next to SGD
METHODS: dict[str, Look] = {  # with and without momentum: set apart by their dashes in grey print
    "GD(−m)": {"color": BLUE, "linestyle": SOLID},
    "GD(+m)": {"color": SKY, "linestyle": DASHED},
    "Adam(−m)": {"color": VERMILION, "linestyle": DOTTED},
    "Adam(+m)": {"color": BLACK, "linestyle": DASH_DOTTED},
}
RULES = ("SGD", "GD", "SAM", "Adam")  # alone in their figures or next to GD, so all except GD look alike
FILTERED = {"Dom": DOMINANT, "Bulk": BULK}
_COLORS, _DASHES = (SKY, ORANGE, VERMILION, GREEN, BLACK, BLUE, GREY), (DASHED, DASH_DOTTED, DOTTED, SOLID)
OTHERS: list[Look] = [  # of labels without a look of their own: neighbours differ in both
    {"color": color, "linestyle": _DASHES[(place + turn) % len(_DASHES)]}
    for turn in range(len(_DASHES))
    for place, color in enumerate(_COLORS)
]
# Of numbers: ever darker, so grey prints keep the order; never as dark as black, which is a reference's.
SHADES = LinearSegmentedColormap.from_list("shades", ["#F5B22D", "#E0602F", "#A82468", "#3D1B75"])

FRACTION = -0.03, 1.03  # limits of an axis from 0 to 1, on which a line at 0 is visible above the spine

PANEL_WIDTH, PANEL_HEIGHT = 3.5, 3.4  # inches
LEGEND_HEIGHT = 0.35
TITLE_GAP, LINE_HEIGHT, HEADING_HEIGHT = 6, 9, 13  # points
ROOM = 0.06  # for a switch's text, above the lines, as a fraction of what they span
FONT = "DejaVu Sans"
DESCRIPTION_SIZE = 6.8  # points
AXIS_WIDTH = 0.85  # inches, that the numbers and the label of a vertical axis take at most
USUAL_LINES = 3  # of a panel's description; more of them make the figure taller
DIVERGED = "diverged"
DPI = 160

_RC = {
    "axes.grid": True,
    "axes.labelsize": 9,
    "axes.titlesize": 9.5,
    "font.family": FONT,  # ships with matplotlib: the same on every machine
    "font.size": 9,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.5,
    "pdf.compression": 0,  # by the machine's zlib, of which not every version gives the same bytes
    "pdf.fonttype": 42,
    "svg.hashsalt": "sharp-and-flat",
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
}


@contextmanager
def applied() -> Iterator[None]:
    """Applies the style within the context, independently of the user's matplotlibrc and list of fonts."""
    _use_own_fonts()
    with mpl.rc_context():
        mpl.rcdefaults()
        sns.set_theme(context="paper", style="ticks", rc=_RC)
        yield


@cache
def _use_own_fonts() -> None:
    """Keep to the fonts that matplotlib ships.

    The machine may have others of the same name, and the cached list of fonts in the user's home may be of another
    environment or lack some: the figures would then differ from the recorded ones.
    """
    fontManager.ttflist.clear()
    for font in sorted(Path(mpl.get_data_path(), "fonts", "ttf").glob("*.ttf")):
        fontManager.addfont(font)


def looks_of(labels: Iterable[str]) -> dict[str, Look]:
    """Distinct colours and dashes for the runs of one figure.

    An update rule ("SGD"), a filtered one ("Dom-SGD", "Bulk-SGD"), one after another ("SGD to GD") and the methods of
    `METHODS` always have the same look, unless an earlier label of the figure has it. Any other label has the next free
    look of `OTHERS`.
    """
    labels = list(dict.fromkeys(labels))
    looks: dict[str, Look] = {}
    for label in labels:
        look = _usual_look(label)
        if look is not None and look not in looks.values():
            looks[label] = look
    for label in labels:
        if label not in looks:
            looks[label] = _free_look(list(looks.values()))
    return {label: looks[label] for label in labels}


def look_of(label: str) -> Look:
    """Colour and dashes of a single run."""
    return looks_of([label])[label]


def _usual_look(label: str) -> Look | None:
    if label in METHODS:
        return METHODS[label]
    first, _, rule = label.rpartition("-")
    if first in FILTERED:
        return FILTERED[first]
    if any(name not in RULES for name in label.split(" to ")):
        return None
    return GD if rule == "GD" else BASE


def _free_look(taken: Sequence[Look]) -> Look:
    """A look whose colour and dashes are both unused; if there is none, an unused pair."""
    colors, dashes = ([look[part] for look in taken] for part in ("color", "linestyle"))
    apart = (look for look in OTHERS if look["color"] not in colors and look["linestyle"] not in dashes)
    free = (look for look in OTHERS if look not in taken)
    return next(apart, None) or next(free, OTHERS[len(taken) % len(OTHERS)])


def shades_of(count: int) -> list[str]:
    """Colours for `count` numbers in ascending order, from light to dark."""
    return [to_hex(SHADES(i / max(count - 1, 1))) for i in range(count)]


def panels_in_a_row(count: int) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels side by side, with room below for one legend."""
    figure, rows = rows_of_panels(1, count)
    return figure, rows[0]


def rows_of_panels(rows: int, columns: int) -> tuple[Figure, list[list[Axes]]]:
    """A figure of `rows` × `columns` panels, with room below for one legend."""
    figure = empty_figure(PANEL_WIDTH * columns, PANEL_HEIGHT * rows)
    return figure, [list(row) for row in figure.subplots(rows, columns, squeeze=False)]


def empty_figure(width: float, height: float) -> Figure:
    """A figure without panels, of this size in inches and room below for one legend."""
    figure = Figure(figsize=(width, height + LEGEND_HEIGHT), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def describe(
    axes: Axes,
    title: str,
    runs: xr.Dataset | Mapping[str, xr.Dataset],
    heading: str | None = None,
    more: Sequence[str] = (),
) -> None:
    """Writes the panel's title: the setting, and how its run or runs (by label) were made.

    Args:
        axes: the panel.
        title: the title of the setting.
        runs: the runs.
        heading: what this panel shows, if several panels side by side share the description.
        more: further lines of the description.
    """
    runs = {"": runs} if isinstance(runs, xr.Dataset) else runs
    if not runs:
        raise InputError(
            f"panel {title!r} has no run that stands alone: its runs vary (see panel.families); "
            'panel.alike("learning_rate") separates them by that number'
        )
    what = what_was_run(next(iter(runs.values())))
    entitle(axes, title, [*what.splitlines(), *how_they_were_run(runs).splitlines(), *more], heading)


def entitle(axes: Axes, title: str, lines: Sequence[str], heading: str | None = None) -> None:
    """Writes the panel's title as `describe` does, with `lines` as the description."""
    above = 0 if heading is None else HEADING_HEIGHT
    lines = [part for line in lines for part in _broken(line, _inches_to_the_edge(axes))]
    axes.set_title(title, fontweight="bold", fontsize=10, loc="left", pad=TITLE_GAP + LINE_HEIGHT * len(lines) + above)
    description = axes.annotate(
        "\n".join(lines),
        (0, 1),
        xycoords="axes fraction",
        xytext=(0, 4 + above),
        textcoords="offset points",
        fontsize=DESCRIPTION_SIZE,
        color="#404040",
        va="bottom",
        linespacing=1.25,
    )
    if heading is not None:
        description.set_in_layout(False)  # it may reach over the next panel, whose title is lower
        _head(axes, heading)
    over_steps(axes)
    figure = axes.get_figure(root=True)
    assert figure is not None
    taller = (LINE_HEIGHT * (len(lines) - USUAL_LINES) + above) / 72
    figure.set_figheight(max(figure.get_figheight(), PANEL_HEIGHT + LEGEND_HEIGHT + taller))


def _inches_to_the_edge(axes: Axes) -> float:
    """Approximate distance from a panel's left axis to the figure's right edge. The layout is made later."""
    figure, place = axes.get_figure(root=True), axes.get_subplotspec()
    assert figure is not None
    before = 0.0 if place is None else place.colspan.start / place.get_gridspec().ncols
    return figure.get_figwidth() * (1 - before) - AXIS_WIDTH


def _broken(line: str, inches: float) -> list[str]:
    """The line of a description, broken after commas into several lines if it is too long."""
    lines: list[str] = []
    for part in line.split(", "):
        longer = f"{lines[-1]}, {part}" if lines else part
        if lines and _text_inches(longer) > inches:
            lines[-1] += ","
            lines.append(f"   {part}")
        else:
            lines[-1:] = [longer]
    return lines


def _text_inches(text: str) -> float:
    font = FontProperties(family=FONT, size=DESCRIPTION_SIZE)
    width: float = TextToPath().get_text_width_height_descent(text, font, ismath=False)[0]
    return width / 72


def head(axes: Axes, heading: str, *, steps: bool = True) -> None:
    """Heads a panel that shares the description of the panel to its left. By default its axis counts steps."""
    _head(axes, heading)
    if steps:
        over_steps(axes)
    sns.despine(ax=axes)


def _head(axes: Axes, heading: str) -> None:
    axes.annotate(
        heading,
        (0, 1),
        xycoords="axes fraction",
        xytext=(0, 4),
        textcoords="offset points",
        fontsize=8.5,
        va="bottom",
    )


def over_steps(axes: Axes) -> None:
    """The panel's horizontal axis counts steps."""
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    sns.despine(ax=axes)


def mark_switch(axes: Axes, run: xr.Dataset, *others: xr.Dataset, left: bool | None = None) -> None:
    """A vertical line where the run's last segment begins, with its step and, if the update rule changes, both names.
    "by steps" means that the alignment should have decided, and had not passed its threshold.

    Draw the panel's lines first, because the text needs room above them. If the run diverged earlier, there was no
    switch, and nothing is marked.

    Args:
        axes: the panel.
        run: the run, with its switches.
        others: runs with other seeds, which may have switched at other steps. Each has a line, and the text gives the
            first and last step.
        left: whether the text is to the left of the line; None means the side with more room.
    """
    if run.attrs.get("stopped_by") == StoppedBy.EARLIER_DIVERGENCE:
        return
    steps = sorted({int(step) for one in (run, *others) for step in one.attrs["switches"][-1:]})
    if steps:
        _make_room_above(axes)
        for step in steps:
            axes.axvline(step, color=GREY, linewidth=0.9, linestyle=(0, (4, 2)), zorder=1)
        before, after = (rule_name(rule) for rule in rules(run)[-2:])
        left = steps[0] > sum(axes.get_xlim()) / 2 if left is None else left
        where = " to ".join(f"{step:,}" for step in dict.fromkeys((steps[0], steps[-1])))
        if any(step in one.attrs.get("late_switches", ()) for one in (run, *others) for step in steps):
            where += " (by steps)"
        axes.annotate(
            f"switch at {where}" if before == after else f"{before} → {after} at {where}",
            (steps[0] if left else steps[-1], 1),
            xycoords=("data", "axes fraction"),
            xytext=(-3 if left else 3, -1),
            textcoords="offset points",
            ha="right" if left else "left",
            va="top",
            fontsize=7,
            color=GREY,
        )


def _make_room_above(axes: Axes) -> None:
    scale = axes.yaxis.get_transform()
    low, high = scale.transform(axes.get_ylim())
    axes.set_ylim(top=float(scale.inverted().transform([high + ROOM * (high - low)])[0]))


def mark_divergence(axes: Axes, run: xr.Dataset, color: str, origin: int = 0) -> None:
    """A cross on the step axis, which counts from `origin`, where the run diverged, if it did."""
    if run.attrs["status"] == "diverged":
        axes.plot(
            run.attrs["diverged_at"] - origin,
            0.02,
            marker="x",
            linestyle="none",
            color=color,
            label=DIVERGED,
            transform=axes.get_xaxis_transform(),
            clip_on=False,
        )


def legend_below(figure: Figure, entries: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    """One legend below all panels, in as few rows as possible.

    It also explains the mark of a divergence, if there is one.
    """
    handles = [Line2D([], [], label=label, **look) for label, look in entries]
    if any(line.get_label() == DIVERGED for axes in figure.axes for line in axes.lines):
        handles.append(Line2D([], [], label=DIVERGED, marker="x", linestyle="none", color=GREY))
    for rows in range(1, len(handles) + 1):
        columns = -(-len(handles) // rows)
        legend = figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False)
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            break
        legend.remove()


def legend_of_runs(figure: Figure, panels: Sequence[Panel]) -> None:
    """The legend of the runs' labels, without repetitions."""
    legend_below(figure, list(looks_of(label for panel in panels for label in (*panel.runs, *panel.families)).items()))


def save(figure: Figure, outputs: Mapping[str, Path]) -> None:
    """Writes the figure. The files contain nothing that differs between runs.

    The PNG file also holds the values of the lines and maps that have a label (`analysis.store.drawn`).
    """
    metadata: dict[str, dict[str, None]] = {
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
        "png": {"Software": None},
    }
    for kind, path in outputs.items():
        write = partial(figure.savefig, format=kind, dpi=DPI, metadata=metadata[kind])
        write_atomically(path, partial(_write_readable, figure, write) if kind == "png" else write)


def _write_readable(figure: Figure, write: Callable[[Path], object], path: Path) -> None:
    write(path)
    if panels := panels_of(figure):
        path.write_bytes(with_panels(path.read_bytes(), panels))
