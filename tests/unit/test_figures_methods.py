"""Figures and tables that compare methods or paths, and the published numbers next to ours."""

from __future__ import annotations

import csv
import io
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure
from matplotlib.text import Text

from analysis.figures import draw_figures, effective_rates, loss_comparison, path_distance, style
from analysis.figures.published import EFFECTIVE_RATES, TABLE_OF_SETTING, effective_rates_of
from analysis.runs.measures import mean_effective_rates
from analysis.runs.panels import Panel
from analysis.specs.panels import FigureSpec, PanelSpec
from analysis.store.netcdf import write_dataset
from sharpflat.errors import InputError
from tests.unit.test_figures import panel, segment

METHODS = ("GD(−m)", "GD(+m)", "Adam(−m)", "Adam(+m)")
GD = {"batch_size": None, "learning_rate": 0.01}
ADAM = {"kind": "adam", "batch_size": None, "learning_rate": 0.001, "beta2": 0.999}
RULES = (GD, {**GD, "momentum": 0.9}, {**ADAM, "momentum": 0.0}, {**ADAM, "momentum": 0.9})


def methods(last: int = 20, setting: str = "mlp", diverged: str = "") -> Panel:
    """Losses offset by 0, 1, 2, 3 and effective learning rates by 0, 1, 2, 3 too."""
    return panel(
        {
            label: [segment(label, 0, last, float(i), label == diverged, rule, rates=(0.25 + i, 0.5 + i))]
            for i, (label, rule) in enumerate(zip(METHODS, RULES, strict=True))
        },
        setting,
    )


# ---------------------------------------------------------------- losses
def test_losses_of_the_four_methods_from_the_first_step():
    figure = loss_comparison.draw([methods()])
    (axes,) = figure.axes
    assert axes.get_yscale() == "log"
    assert axes.get_xlabel() == "step"
    assert axes.get_ylabel() == "training loss"
    assert len(axes.lines) == 4
    for i, (label, line) in enumerate(zip(METHODS, axes.lines, strict=True)):
        assert line.get_xdata().tolist() == list(range(21))
        np.testing.assert_allclose(line.get_ydata(), np.exp(-0.1 * np.arange(21)) + i)
        assert to_hex(line.get_color()) == to_hex(style.look_of(label)["color"])
    assert [t.get_text() for t in figure.legends[0].get_texts()] == list(METHODS)


def test_methods_of_two_segments_have_no_switch_and_are_whole():
    runs = zip(METHODS, ([segment("a", 0, 10, rule=r), segment("b", 10, 20, rule=r)] for r in RULES), strict=True)
    (axes,) = loss_comparison.draw([panel(dict(runs))]).axes
    assert [line.get_xdata().tolist() for line in axes.lines] == [list(range(21))] * 4


def test_every_methods_rule_is_told():
    (axes,) = loss_comparison.draw([methods()]).axes
    description = "\n".join(t.get_text() for t in axes.texts)
    for line in (
        "GD(−m): lr 0.01, full batch",
        "GD(+m): lr 0.01, full batch, momentum 0.9",
        "Adam(−m): Adam, lr 0.001, full batch",
        "Adam(+m): Adam, lr 0.001, full batch, momentum 0.9",
    ):
        assert line in description.splitlines()


# ---------------------------------------------------------------- effective learning rates
def words(figure: Figure) -> list[str]:
    return [t.get_text() for t in figure.findobj(Text) if t.get_text()]


def test_the_measure_is_mean_and_population_deviation_of_the_first_steps():
    run = methods(2000).runs["GD(−m)"]
    steps = np.arange(0, 1000, 2)
    found = mean_effective_rates(run)
    assert found.count == 500
    deviation = np.sqrt(np.average((steps - 499.0) ** 2, weights=[1.5] + 498 * [2] + [1.5]))
    assert found.dom_mean == pytest.approx(0.25 + 0.01 * 499)
    assert found.dom_std == pytest.approx(0.01 * deviation)
    assert found.bulk_mean == pytest.approx(0.5 + 0.02 * 499)
    assert found.bulk_std == pytest.approx(0.02 * deviation)
    assert mean_effective_rates(run, steps=6).count == 3


def test_rows_of_the_table():
    rows = effective_rates.table([methods(setting="cnn"), methods(setting="mine")])
    assert [(r["setting"], r["method"]) for r in rows] == [(s, m) for s in ("cnn", "mine") for m in METHODS]
    row = rows[3]
    assert row["steps_measured"] == 10  # steps 0, 2, …, 18: mean 9, variance 579/19
    assert row["dom_lr_mean"] == pytest.approx(3.25 + 0.09)
    assert row["dom_lr_std"] == pytest.approx(0.01 * math.sqrt(579 / 19))
    assert row["bulk_lr_mean"] == pytest.approx(3.5 + 0.18)
    assert row["bulk_lr_std"] == pytest.approx(0.02 * math.sqrt(579 / 19))
    published = [row[f"published_{x}"] for x in ("dom_lr_mean", "dom_lr_std", "bulk_lr_mean", "bulk_lr_std")]
    assert published == [0.0046, 0.0026, 0.0802, 0.0194]
    assert row["published_dom_lr_difference"] == pytest.approx((3.34 - 0.0046) / 0.0026)
    assert row["published_bulk_lr_difference"] == pytest.approx((3.68 - 0.0802) / 0.0194)
    plain = {rows[0][key] for key in row if key.endswith("_difference")}
    assert plain == {""}  # the published deviation is 0
    assert {rows[7][key] for key in row if key.startswith("published_")} == {""}
    text = io.StringIO()
    writer = csv.DictWriter(text, list(row))
    writer.writerows(rows)  # all rows have the same keys
    assert len(text.getvalue().splitlines()) == 8


def test_the_table_is_written_as_csv_beside_the_figure(tmp_path: Path):
    runs = [[label, [label]] for label in METHODS]
    files = {label: tmp_path / f"{i}.nc" for i, label in enumerate(METHODS)}
    for (label, path), rule in zip(files.items(), RULES, strict=True):
        write_dataset(segment(label, 0, 20, rule=rule), path)
    panel = PanelSpec(setting="mlp", title="MLP", runs=runs, families=())
    spec = FigureSpec(name="table", module="effective-rates", caption="", panels=(panel,))
    draw_figures([spec], files, [tmp_path / "table.csv", tmp_path / "table.png"])
    rows = list(csv.DictReader((tmp_path / "table.csv").open(encoding="utf-8")))
    assert [row["method"] for row in rows] == list(METHODS)
    assert float(rows[2]["dom_lr_mean"]) == pytest.approx(0.34)
    assert rows[2]["published_dom_lr_mean"] == "0.3317"
    assert (tmp_path / "table.png").stat().st_size > 1000


def test_the_drawn_table_has_both_told_apart():
    figure = effective_rates.draw([methods()])
    (axes,) = figure.axes
    at = {t.get_text(): t.get_position() for t in axes.texts}
    assert at["3.3400 (0.0552)"][1] == at["0.0356 (0.0194)"][1] == at["Adam(+m)"][1]
    assert at["3.6800 (0.1104)"][1] == at["0.7301 (0.4717)"][1] == at["+6.25"][1]  # (3.68 − 0.7301) / 0.4717
    for text in ("lr 0.01, full batch, momentum 0.9", "Adam, lr 0.001, full batch", "10 of 20", "MLP"):
        assert text in words(figure)
    (shade,) = axes.patches
    left, right = shade.get_x(), shade.get_x() + shade.get_width()
    figure.canvas.draw()

    def ends(text: str) -> tuple[float, float]:
        (found,) = [t for t in axes.texts if t.get_text() == text]
        box = found.get_window_extent().transformed(axes.transData.inverted())
        return box.x0, box.x1

    for text in ("published (Song et al., table 2)", "0.0356 (0.0194)", "0.7301 (0.4717)"):
        assert left < ends(text)[0] < ends(text)[1] < right
    for text in ("measured here", "3.3400 (0.0552)", "3.6800 (0.1104)", "Adam(+m)"):
        assert ends(text)[1] < left
    for text in ("difference", "+6.25"):
        assert ends(text)[0] > right
    assert shade.get_facecolor() != to_rgba("white")
    note = next(t for t in words(figure) if t.startswith("Published: "))
    assert "MLP on MNIST-5k, GD lr 0.01, Adam lr 0.001" in note


def test_methods_that_were_not_run_are_named():
    whole = methods()
    part = replace(whole, runs={label: whole.runs[label] for label in METHODS[::2]}, absent=METHODS[1::2])
    for module in (effective_rates, loss_comparison):
        assert "not run: GD(+m), Adam(+m)" in "\n".join(words(module.draw([part])))
        assert "not run" not in "\n".join(words(module.draw([whole])))


def test_a_table_for_each_setting():
    figure = effective_rates.draw([methods(setting=s) for s in ("mlp", "cnn", "transformer", "mine")])
    assert len(figure.axes) == 4
    assert [t for t in words(figure) if t.startswith("published")] == [
        f"published (Song et al., table {n})" for n in (2, 3, 1)
    ], "a setting without published numbers has no columns for them"
    assert words(figure).count("difference") == 3
    assert words(figure).count("–") == 3 * 2  # of plain GD two differences


def test_only_the_first_thousand_steps_count():
    assert "500 of 1,000" in words(effective_rates.draw([methods(2000)]))


def test_a_diverged_method_is_told_in_the_table():
    found = words(effective_rates.draw([methods(diverged="GD(+m)")]))
    assert found.count("10 of 20 (diverged)") == 1
    assert found.count("10 of 20") == 3


def test_rates_that_were_not_measured():
    without = methods()
    for label, run in without.runs.items():
        without.runs[label] = run.isel(rate_step=slice(0, 0))
    rows = effective_rates.table([without])
    assert {r["steps_measured"] for r in rows} == {0}
    assert all(math.isnan(r["dom_lr_mean"]) and math.isnan(r["bulk_lr_std"]) for r in rows)
    assert math.isnan(rows[1]["published_dom_lr_difference"])
    found = words(effective_rates.draw([without]))
    assert found.count("–") == 16
    assert found.count("0 of 20") == 4


# ---------------------------------------------------------------- published
def test_published_tables_are_those_of_the_settings():
    assert TABLE_OF_SETTING == {"transformer": "song-table1", "mlp": "song-table2", "cnn": "song-table3"}
    assert [EFFECTIVE_RATES[f"song-table{n}"].number for n in (1, 2, 3)] == [1, 2, 3]
    for table in EFFECTIVE_RATES.values():
        assert tuple(table.rates) == METHODS
    assert effective_rates_of("mlp-cross-entropy") is None
    assert effective_rates_of("transformer") is EFFECTIVE_RATES["song-table1"]
    # From the paper's pages.
    assert EFFECTIVE_RATES["song-table1"].rates["Adam(+m)"] == (0.0004, 0.0101, 2.6639, 1.2480)
    assert EFFECTIVE_RATES["song-table2"].rates["GD(+m)"] == (0.0012, 0.0092, 0.1005, 0.0068)
    assert EFFECTIVE_RATES["song-table3"].rates["Adam(−m)"] == (0.0191, 0.0020, 0.0289, 0.0053)


def test_published_plain_gd_has_its_learning_rate():
    for name, rate in (("song-table1", 0.01), ("song-table2", 0.01), ("song-table3", 0.001)):
        assert EFFECTIVE_RATES[name].rates["GD(−m)"] == (rate, 0, rate, 0)
        assert f"GD lr {rate:g}, " in EFFECTIVE_RATES[name].ran


@pytest.mark.slow
def test_published_and_measures_need_no_torch():
    code = "import sys, analysis.figures.published, analysis.figures.effective_rates; print('torch' in sys.modules)"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, text=True, capture_output=True, check=True)
    assert done.stdout == "False\n"


# ---------------------------------------------------------------- paths
def paired(**values: list[float]) -> Panel:
    runs = panel({"GD": [segment("gd", 0, 20, rule=GD)], "SGD": [segment("sgd", 0, 20)]})
    steps = np.arange(0, 10 * len(values["first"]), 10)
    distances = xr.Dataset({name: ("step", np.array(row)) for name, row in values.items()}, coords={"step": steps})
    return replace(runs, distances=distances)


DISTANCES = {"between": [0.0, 0.5, 0.3], "first": [0.0, 1.0, 2.0], "second": [0.0, 1.5, 2.5]}


def ratio(figure: Figure) -> str:
    (text,) = [t for t in words(figure) if t.startswith(("at step", "no step"))]
    return text


def test_the_three_distances():
    figure = path_distance.draw([paired(**DISTANCES)] * 2)
    for axes in figure.axes:
        for line, name in zip(axes.lines, ("between", "first", "second"), strict=True):
            assert line.get_xdata().tolist() == [0, 10, 20]
            assert line.get_ydata().tolist() == DISTANCES[name]
        assert len({(to_hex(line.get_color()), line.get_linestyle()) for line in axes.lines}) == 3
    assert [t.get_text() for t in figure.legends[0].get_texts()] == [
        "‖θ(GD) − θ(SGD)‖",
        "‖θ(GD) − θ₀‖",
        "‖θ(SGD) − θ₀‖",
    ]
    assert figure.legends[0].get_lines()[0].get_color() == figure.axes[0].lines[0].get_color()
    lines = "\n".join(t.get_text() for t in figure.axes[0].texts).splitlines()
    assert {"GD: lr 0.01, full batch", "SGD: lr 0.25, batch 5"} <= set(lines)


def test_the_ratio_at_the_end_is_stated_above_the_lines():
    figure = path_distance.draw([paired(**DISTANCES)])
    assert ratio(figure) == "at step 20:\n‖θ(GD) − θ(SGD)‖ = 0.15 · ‖θ(GD) − θ₀‖"
    figure.canvas.draw()
    (axes,) = figure.axes
    (text,) = [t for t in axes.texts if t.get_text().startswith("at step")]
    assert text.get_window_extent().y0 > axes.transData.transform((0, 2.5))[1]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_the_ratio_is_that_of_the_last_step_known(bad: float):
    known = {**DISTANCES, "between": [0.0, 0.5, bad]}
    assert ratio(path_distance.draw([paired(**known)])).startswith("at step 10:\n‖θ(GD) − θ(SGD)‖ = 0.5 ·")
    known = {**DISTANCES, "first": [0.0, 1.0, bad]}
    assert ratio(path_distance.draw([paired(**known)])).startswith("at step 10:\n‖θ(GD) − θ(SGD)‖ = 0.5 ·")


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_no_ratio_where_nothing_is_known(rows: int):
    figure = path_distance.draw([paired(**{name: [np.nan] * rows for name in DISTANCES})])
    figure.canvas.draw()
    assert ratio(figure) == "no step at which both are known"


def test_a_panel_without_distances_is_refused():
    with pytest.raises(InputError, match="mlp: found no distances between two runs' paths to draw"):
        path_distance.draw([replace(paired(**DISTANCES), distances=None)])
