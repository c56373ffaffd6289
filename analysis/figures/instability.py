"""Sharpness and gradient norm on log axes, with fitted exponential growth (Zakarin & Singh, section 3.3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures import drawing, log_scale, style
from analysis.runs.measures import growth_rate
from analysis.runs.numbers import signed
from analysis.runs.panels import Member, Panel
from sharpflat.errors import InputError

CONFIDENCE = 0.99
WIDTH = 4.3  # inches, of a panel
FIT: style.Look = {"color": style.BLACK, "linewidth": 0.7, "linestyle": style.SOLID}
MEASURED: style.Look = {"linewidth": 1.5, "alpha": 0.7}
THRESHOLD: style.Look = {"color": style.GREY, "linestyle": style.DASHED, "linewidth": 1.2}
QUANTITIES: dict[tuple[str, str], Callable[[xr.Dataset], xr.DataArray]] = {
    ("sharpness", "λ₁"): lambda run: run.eigenvalues.isel(index=0),
    ("gradient norm", "‖∇L‖"): lambda run: run.gradient_norm,
}

# The table of growth rates, in points below the axes: right ends of its columns of numbers.
TABLE_TOP, TABLE_LINE, TABLE_GAP, SIZE = 33, 10, 6, 7
REASON, RATE, INTERVAL, R_SQUARED = 108, 142, 224, 250
NO_FIT = "no fit"
Row = tuple[str, str, str, str]  # run, rate, interval, R²; a reason instead of the rate where there is none


def draw(panels: Sequence[Panel]) -> Figure:
    """λ_1 with the stability threshold, and ‖∇L‖, of every run; one row for each setting.

    The exponentials are fitted to the measurements from the switch on and drawn there. Below each panel are their rates
    with 99 % intervals. With several seeds, each has its own lines. The shared beginning is drawn as that of the first
    label.
    """
    figure, rows = style.rows_of_panels(len(panels), len(QUANTITIES))
    figure.set_figwidth(WIDTH * len(QUANTITIES))
    labels: dict[str, style.Look] = {}
    thresholds: dict[str, style.Look] = {}
    below = 0.0  # points that tables take
    for row, panel in zip(rows, panels, strict=True):
        families = drawing.every_run(panel)
        labels |= style.looks_of(families)
        first = next(iter(families.values()))[0].run
        threshold = drawing.threshold_of(first)
        thresholds[threshold] = THRESHOLD
        for axes, (names, values_of) in zip(row, QUANTITIES.items(), strict=True):
            name, symbol = names
            rates = _draw_quantity(axes, families, values_of)
            axes.set_ylabel(f"{name} {symbol}")
            if axes is row[0]:
                axes.plot(first.spectrum_step, first.stability_threshold, label=threshold, zorder=1.5, **THRESHOLD)
            log_scale.log_axis(axes)
            style.mark_switch(axes, first)
            _write_rates(axes, symbol, rates)
        below += TABLE_GAP + TABLE_LINE * (1 + len(rates))
        runs = {label: members[0].run for label, members in families.items()}
        more = drawing.refreshes_in_words(runs.values())
        style.describe(row[0], drawing.title_of(panel), runs, heading="(a) sharpness", more=more)
        style.head(row[1], "(b) gradient norm")
    figure.set_figheight(figure.get_figheight() + below / 72)
    fits = ("exponential fitted from the switch on", FIT)
    style.legend_below(figure, [*labels.items(), fits, *thresholds.items()])
    return figure


def _draw_quantity(
    axes: Axes, families: Mapping[str, Sequence[Member]], values_of: Callable[[xr.Dataset], xr.DataArray]
) -> list[Row]:
    """Draws a quantity and its fits, and returns the fits as text."""
    rows, looks = [], style.looks_of(families)
    for place, (label, members) in enumerate(families.items()):
        look = looks[label] | MEASURED
        for member in members:
            values = values_of(member.run)
            (dimension,) = values.dims
            after = values.sel({dimension: values[dimension] >= max(member.run.attrs["switches"], default=0)})
            shown = after if place else values
            name = f"{label}, seed {member.varied['seed']:g}" if len(members) > 1 else label
            axes.plot(shown[dimension], shown, label=name, **look)
            style.mark_divergence(axes, member.run, look["color"])
            if member.run.attrs["status"] == "diverged":
                name += f", {style.DIVERGED}"
            rows.append((name, *_fit(axes, after[dimension].values, after.values)))
    return rows


def _fit(axes: Axes, steps: np.ndarray, values: np.ndarray) -> tuple[str, str, str]:
    """Draws the exponential through the values, and returns rate, interval and R², or the reason why there is no
    fit."""
    try:
        found = growth_rate(steps, values, CONFIDENCE)
    except InputError as error:
        return f"{NO_FIT}: {str(error).partition(': ')[2].partition(';')[0]}", "", ""
    ends = np.array([found.first, found.last])
    axes.plot(ends, np.exp(np.log(values).mean() + found.rate * (ends - steps.mean())), zorder=3, **FIT)
    return _short(found.rate), f"[{_short(found.low)}, {_short(found.high)}]", f"{found.r_squared:.2f}"


def _short(number: float) -> str:
    """A number in the format 4.2e−4."""
    mantissa, _, exponent = f"{number:.1e}".partition("e")
    return signed(f"{mantissa}e{int(exponent)}")


def _write_rates(axes: Axes, symbol: str, rows: Sequence[Row]) -> None:
    """The rates as a table below the axes."""
    heads = (f"growth of ln {symbol}", "per step", f"{CONFIDENCE:.0%} interval".replace("%", " %"), "R²")
    for line, row in enumerate([heads, *rows]):
        reason = row[1].startswith(NO_FIT)
        for text, x, side in zip(row, (0, REASON if reason else RATE, INTERVAL, R_SQUARED), "lrrr", strict=True):
            axes.annotate(
                text,
                (0, 0),
                xycoords="axes fraction",
                xytext=(x, -TABLE_TOP - line * TABLE_LINE),
                textcoords="offset points",
                ha="left" if side == "l" or reason else "right",
                va="top",
                fontsize=SIZE,
                color="#404040" if line == 0 else style.BLACK,
            )
