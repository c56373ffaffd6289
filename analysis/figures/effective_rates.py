"""Mean effective learning rates of several methods (Song et al., tables 1–3), next to the published ones."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import nan
from typing import Any

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from analysis.figures import drawing, style
from analysis.figures.published import effective_rates_of
from analysis.runs.measures import RATE_STEPS, EffectiveRates, mean_effective_rates
from analysis.runs.numbers import difference, with_deviation
from analysis.runs.panels import Panel
from analysis.runs.words import how_it_was_run, what_was_run
from sharpflat.errors import InputError

NOT_PUBLISHED = ""
Value = str | float | int

# Inches: left ends of the first two columns and of the shade, its right end, right ends of the other columns.
WIDTH, LINE, MARGIN = 11.3, 0.22, 0.12
METHOD, RULE, STEPS_MEASURED, DOM, BULK = 0.0, 0.9, 4.65, 5.8, 6.95
PUBLISHED, PUBLISHED_DOM, PUBLISHED_BULK, PUBLISHED_END = 7.03, 8.13, 9.2, 9.28
DIFFERENCE_DOM, DIFFERENCE_BULK = 10.1, 11.06
HEAD, FOOT = 5.4, 3.15  # lines above and below the rows
SHADE = "#EFEFEF"
SMALL: dict[str, Any] = {"fontsize": 6.8, "color": "#404040"}


def table(panels: Sequence[Panel]) -> list[dict[str, Value]]:
    """A row for each method in each setting, with the measured values (NaN if there are none) and the published ones
    ("" if there are none). The differences are measured means less published ones, in published standard deviations
    ("" if that is 0)."""
    rows: list[dict[str, Value]] = []
    for panel in panels:
        published = effective_rates_of(panel.setting)
        for method, run in panel.runs.items():
            rates = _measured(run)
            printed = published.rates.get(method) if published else None
            rows.append(
                {
                    "setting": panel.setting,
                    "method": method,
                    "steps_measured": rates.count,
                    "dom_lr_mean": rates.dom_mean,
                    "dom_lr_std": rates.dom_std,
                    "bulk_lr_mean": rates.bulk_mean,
                    "bulk_lr_std": rates.bulk_std,
                    "published_dom_lr_mean": printed.dom_mean if printed else NOT_PUBLISHED,
                    "published_dom_lr_std": printed.dom_std if printed else NOT_PUBLISHED,
                    "published_bulk_lr_mean": printed.bulk_mean if printed else NOT_PUBLISHED,
                    "published_bulk_lr_std": printed.bulk_std if printed else NOT_PUBLISHED,
                    "published_dom_lr_difference": _difference(rates.dom_mean, printed and printed[:2]),
                    "published_bulk_lr_difference": _difference(rates.bulk_mean, printed and printed[2:]),
                }
            )
    return rows


def draw(panels: Sequence[Panel]) -> Figure:
    """The tables of all settings, one below the other, with our numbers on white and the paper's on grey."""
    lines = [HEAD + len(panel.runs) + FOOT for panel in panels]
    figure = Figure(figsize=(WIDTH, sum(lines) * LINE))
    FigureCanvasAgg(figure)
    rows = figure.subplots(len(panels), squeeze=False, height_ratios=lines)[:, 0]
    figure.subplots_adjust(left=MARGIN / WIDTH, right=1 - MARGIN / WIDTH, bottom=0, top=1, hspace=0)
    for axes, panel, height in zip(rows, panels, lines, strict=True):
        axes.set(xlim=(0, WIDTH - 2 * MARGIN), ylim=(height, 0))
        axes.set_axis_off()
        _draw_table(axes, panel)
    return figure


def _measured(run: xr.Dataset) -> EffectiveRates:
    """The rates of the first steps; NaN if none was measured, for example because the run diverged at once."""
    try:
        return mean_effective_rates(run, steps=RATE_STEPS)
    except InputError:
        return EffectiveRates(nan, nan, nan, nan, 0)


def _difference(measured: float, published: tuple[float, float] | None) -> Value:
    if published is None or published[1] == 0:
        return NOT_PUBLISHED
    mean, deviation = published
    return (measured - mean) / deviation


def _draw_table(axes: Axes, panel: Panel) -> None:
    published = effective_rates_of(panel.setting)
    write = partial(axes.text, va="center")
    end, width = HEAD + len(panel.runs), axes.get_xlim()[1]
    right = width if published else BULK
    if published:
        shade = PUBLISHED_END - PUBLISHED, end - HEAD + 2.4
        axes.add_patch(Rectangle((PUBLISHED, HEAD - 2.2), *shade, color=SHADE, linewidth=0))
    for y, thickness in ((HEAD - 2.2, 1.0), (HEAD - 0.1, 0.6), (end + 0.2, 1.0)):
        axes.plot([0, right], [y, y], color=style.BLACK, linewidth=thickness, clip_on=False)

    write(0, 0.8, panel.title, fontweight="bold", fontsize=10)
    for line, text in enumerate(what_was_run(next(iter(panel.runs.values()))).splitlines()):
        write(0, 1.65 + 0.75 * line, text, **SMALL)

    means = {DOM: "dom_lr", BULK: "bulk_lr"}
    differences = {}
    heads = [((STEPS_MEASURED + BULK) / 2, "measured here")]
    if published:
        means |= {PUBLISHED_DOM: "published_dom_lr", PUBLISHED_BULK: "published_bulk_lr"}
        differences = {DIFFERENCE_DOM: "dom_lr", DIFFERENCE_BULK: "bulk_lr"}
        heads.append(((PUBLISHED + PUBLISHED_END) / 2, f"published (Song et al., table {published.number})"))
        heads.append(((PUBLISHED_END + width) / 2, "difference"))
    for x, text in heads:
        write(x, HEAD - 1.6, text, fontweight="bold", fontsize=8, ha="center")
    for x, text in ((METHOD, "method"), (RULE, "run as")):
        write(x, HEAD - 0.65, text, fontsize=8)
    write(STEPS_MEASURED, HEAD - 0.65, "steps measured", fontsize=8, ha="right")
    for before, columns in (("mean ", means), ("", differences)):
        for x, rate in columns.items():
            write(x, HEAD - 0.65, before + ("Dom-LR" if "dom" in rate else "Bulk-LR"), fontsize=8, ha="right")

    for line, row in enumerate(table([panel])):
        run, y = panel.runs[str(row["method"])], HEAD + line + 0.5
        write(METHOD, y, str(row["method"]), fontsize=8.5)
        write(RULE, y, how_it_was_run(run), fontsize=7.5)
        write(STEPS_MEASURED, y, _steps(run, row["steps_measured"]), fontsize=8, ha="right")
        for x, rate in means.items():
            mean, deviation = (_number(row[f"{rate}_{of}"]) for of in ("mean", "std"))
            write(x, y, with_deviation(mean, deviation), fontsize=8.5, ha="right")
        for x, rate in differences.items():
            write(x, y, difference(_number(row[f"published_{rate}_difference"])), fontsize=8.5, ha="right")

    over = f"the first {RATE_STEPS:,} steps (or all, if fewer), each counted as the nearest measured one"
    lacking = "".join(f" Methods {words}." for words in drawing.absent_in_words(panel))
    write(0, end + 0.8, f"Mean (standard deviation) of the effective learning rates over {over}.{lacking}", **SMALL)
    if published:
        note = f"Published: {published.ran}; (+m) has momentum 0.9; full batch. The paper's own run, none of ours."
        write(0, end + 1.55, note, **SMALL)
        note = "Difference: measured mean less published mean, in published standard deviations (none where that is 0)."
        write(0, end + 2.3, note, **SMALL)


def _steps(run: xr.Dataset, measured: Value) -> str:
    """The number of measured steps, and the number of steps that count."""
    made = f"{measured:,} of {min(RATE_STEPS, int(run.attrs['last_step'])):,}"
    return f"{made} ({style.DIVERGED})" if run.attrs["status"] == "diverged" else made


def _number(cell: Value) -> float:
    return cell if isinstance(cell, float) else nan
