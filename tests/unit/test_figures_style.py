"""What holds for every figure: looks, descriptions, layout, divergence and gaps (bytes: workflow/test_archive.py)."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from importlib import import_module
from itertools import combinations, product
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from analysis.figures import log_scale, style
from analysis.plan.outputs import figure_modules
from analysis.runs.panels import Panel, concatenate
from analysis.runs.words import how_it_was_run, how_they_were_run, rule_name
from tests.covering import pairs, some
from tests.unit.examples import diverge, unknown
from tests.unit.test_figures import panel, segment, without_rows
from tests.unit.test_figures_methods import METHODS, RULES

FULL = {"batch_size": None}
SAM = {"kind": "sam", "batch_size": None, "rho": 0.1}
Paths = dict[str, list[xr.Dataset]]


def branched(*labels: str, rule: dict | None = None) -> Paths:
    start = segment("start", 0, 10, rule=rule)
    return {label: [start, segment(label, 10, 20, 0.1 * i, rule=rule)] for i, label in enumerate(labels)}


# What each module draws; those of other families have tests of their own.
PATHS: dict[str, Paths] = {
    "alignment": {"GD": [segment("a", 0, 20, rule=FULL)]},
    "alignment_switch": {"GD to SGD": [segment("a", 0, 10, rule=FULL), segment("b", 10, 20)]},
    "around_switch": {"SGD to GD": [segment("a", 0, 10), segment("b", 10, 20, rule=FULL)]},
    "distance": branched("SGD", "Dom-SGD", "Bulk-SGD"),
    "edge": branched("SAM", "Dom-SAM", "Bulk-SAM", rule=SAM),
    "effective_rates": {m: [segment(m, 0, 20, rule=r)] for m, r in zip(METHODS, RULES, strict=True)},
    "eigenvalues": {"SAM": [segment("a", 0, 20, rule=SAM)]},
    "loss_comparison": {m: [segment(m, 0, 20, rule=r)] for m, r in zip(METHODS, RULES, strict=True)},
    "path_distance": {"GD": [segment("a", 0, 20, rule=FULL)], "SGD": [segment("b", 0, 20)]},
    "training_loss": branched("SGD", "Dom-SGD"),
}


def with_distances(one: Panel) -> Panel:
    first, second = list(one.runs.values())[:2]
    steps = np.intersect1d(first.step, second.step)
    values = {name: ("step", factor * steps) for name, factor in (("between", 0.1), ("first", 1.0), ("second", 1.1))}
    return replace(one, distances=xr.Dataset(values, coords={"step": steps}))


def same(one: xr.Dataset) -> xr.Dataset:
    return one


def panel_of(module: str, change: Callable[[xr.Dataset], xr.Dataset] = same, last_only: bool = False) -> Panel:
    """What the module draws, with every segment changed, or the last of each run."""
    paths = {
        label: [*(path[:-1] if last_only else map(change, path[:-1])), change(path[-1])]
        for label, path in PATHS[module].items()
    }
    made = panel(paths)
    return with_distances(made) if module == "path_distance" else made


def drawn(module: str, panels: list[Panel]) -> Figure:
    figure = import_module(f"analysis.figures.{module}").draw(panels)
    figure.canvas.draw()
    return figure


@cache
def drawn_once(
    module: str, change: Callable[[xr.Dataset], xr.Dataset] = same, last_only: bool = False, count: int = 1
) -> Figure:
    """For tests that look at it; the panel as `panel_of` makes it, so many times."""
    with style.applied():
        return drawn(module, [panel_of(module, change, last_only)] * count)


def test_every_module_of_the_family_is_tested_here():
    assert {m.replace("_", "-") for m in PATHS} <= set(figure_modules())


# ---------------------------------------------------------------- looks
@pytest.mark.parametrize("rule", ["SGD", "GD", "SAM", "Adam"])
def test_a_rule_is_solid_its_parts_dashed_and_dotted(rule: str):
    base, dom, bulk = (style.look_of(f"{part}{rule}") for part in ("", "Dom-", "Bulk-"))
    assert [look["color"] for look in (base, dom, bulk)] == [
        style.BLACK if rule == "GD" else style.BLUE,  # GD and SGD are in one panel
        style.VERMILION,
        style.GREEN,
    ]
    (_, (dash, _)), (_, (dot, _)) = dom["linestyle"], bulk["linestyle"]
    assert base["linestyle"] == "-"
    assert dash > 2 * dot


@pytest.mark.parametrize("label", ["SGD to GD", "GD to SGD"])
def test_a_switched_run_looks_like_a_rule(label: str):
    assert style.look_of(label) == style.look_of("SGD")


def test_the_four_methods_are_told_apart_by_dashes_alone_and_by_colour_alone():
    looks = [style.look_of(method) for method in METHODS]
    assert len({str(look["linestyle"]) for look in looks}) == 4
    assert len({to_hex(look["color"]) for look in looks}) == 4


@pytest.mark.parametrize(
    "labels", [["SGD", "Adam", "SAM"], ["GD", "SignGD", "Lion", "SGD to"], ["Dom-SGD", "Dom-Lion"]]
)
def test_runs_of_one_figure_look_different(labels: list[str]):
    """In colour and in dashes; what has a look of its own keeps it."""
    looks = style.looks_of(labels)
    assert list(looks) == labels
    for part in ("color", "linestyle"):
        assert len({str(look[part]) for look in looks.values()}) == len(labels), part
    assert looks[labels[0]] == style.look_of(labels[0])
    assert looks == style.looks_of(labels), "the same each time"


def test_many_runs_look_different():
    looks = style.looks_of(f"run {i}" for i in range(len(style.OTHERS)))
    assert len({str(look) for look in looks.values()}) == len(style.OTHERS) == 28
    assert len(style.looks_of(f"run {i}" for i in range(100))) == 100


# ---------------------------------------------------------------- how it was run
@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ({}, "lr 0.25, batch 5"),
        ({"momentum": 0, "replacement": False}, "lr 0.25, batch 5"),
        ({"replacement": True}, "lr 0.25, batch 5 with replacement"),
        ({**FULL, "replacement": True}, "lr 0.25, full batch"),
        ({**FULL, "momentum": 0.9}, "lr 0.25, full batch, momentum 0.9"),
        ({**SAM, "learning_rate": 0.01}, "SAM, ρ = 0.1, lr 0.01, full batch"),
        ({"kind": "adam", "momentum": 0.0, "learning_rate": 1e-3, **FULL}, "Adam, lr 0.001, full batch"),
        ({"kind": "adam", "momentum": 0.0, "beta2": 0.999, **FULL}, "Adam, lr 0.25, full batch"),
        ({"kind": "adam", "momentum": 0.9, "beta2": 0.99}, "Adam, lr 0.25, batch 5, momentum 0.9, β₂ = 0.99"),
    ],
)
def test_a_rule_in_words(rule: dict, says: str):
    assert how_it_was_run(segment("a", 0, 4, rule=rule)) == says
    assert how_it_was_run(concatenate([segment("a", 0, 4, rule=rule), segment("b", 4, 8, rule=rule)])) == says


def test_rules_one_after_another():
    path = [segment("a", 0, 4), segment("b", 4, 8), segment("c", 8, 12, rule=FULL)]
    assert how_it_was_run(concatenate(path)) == "lr 0.25, batch 5, then lr 0.25, full batch"


def test_rules_side_by_side():
    same, other = segment("a", 0, 4), segment("b", 0, 4, rule={"learning_rate": 0.5})
    assert how_they_were_run({"SGD": same, "Dom-SGD": same}) == "lr 0.25, batch 5"
    assert how_they_were_run({"A": same, "B": other, "C": same}) == "A, C: lr 0.25, batch 5\nB: lr 0.5, batch 5"


@pytest.mark.parametrize(
    ("rule", "name"),
    [({}, "SGD"), (FULL, "GD"), (SAM, "SAM"), ({"kind": "adam"}, "Adam"), ({"kind": "sam", "rho": 1}, "SAM")],
)
def test_names_of_rules(rule: dict, name: str):
    assert rule_name({"kind": "sgd", "learning_rate": 0.25, "batch_size": 5, **rule}) == name


@pytest.mark.parametrize("module", PATHS)
def test_every_figure_says_how_it_was_run(module: str):
    one = panel_of(module)
    texts = [t.get_text() for axes in drawn_once(module).axes for t in axes.texts]
    for run in one.runs.values():
        assert any(how_it_was_run(run) in text for text in texts)
        assert any("P = 1,234" in text for text in texts)


# ---------------------------------------------------------------- layout
@pytest.mark.parametrize(
    ("module", "count"),  # the most for each module, and one or two
    some([(m, n) for i, m in enumerate(PATHS) for n in (1 + i % 2, 4)], product(PATHS, (1, 2, 4))),
)
@pytest.mark.slow
def test_nothing_is_clipped_and_no_texts_overlap(module: str, count: int):
    figure = drawn_once(module, diverge, last_only=True, count=count)
    texts = [t for axes in figure.axes for t in (*axes.texts, axes.xaxis.label, axes.yaxis.label, axes._left_title)]
    texts += [t for legend in figure.legends for t in legend.get_texts()]
    boxes = [(t.get_text(), t.get_window_extent()) for t in texts if t.get_text()]
    boxes += [("ticks", axes.xaxis.get_tightbbox()) for axes in figure.axes if axes.axison]
    for text, box in boxes:
        assert box.x0 >= -1, text
        assert box.y0 >= -1, text
        assert box.x1 <= figure.bbox.x1 + 1, text
        assert box.y1 <= figure.bbox.y1 + 1, text
    written = [pair for pair in boxes if pair[0] != "ticks"]
    for (text, box), (other, its) in combinations(written, 2):
        wide = min(box.x1, its.x1) - max(box.x0, its.x0)
        high = min(box.y1, its.y1) - max(box.y0, its.y0)
        assert wide < 1 or high < 1, (text, other)


def inches(figure: Figure) -> list[tuple[float, float]]:
    return [(axes.bbox.width / figure.dpi, axes.bbox.height / figure.dpi) for axes in figure.axes]


@pytest.mark.slow
def test_a_long_description_takes_nothing_from_the_panels():
    same = {method: [segment(method, 0, 20, rule=RULES[0])] for method in METHODS}
    (short,) = inches(drawn("loss_comparison", [panel(same)]))
    (long,) = inches(drawn("loss_comparison", [panel_of("loss_comparison")]))
    assert long == pytest.approx(short, abs=0.15)
    wide = branched(
        "SAM", "Dom-SAM", "Bulk-SAM", rule={**SAM, "rho": 1.23456e-300, "batch_size": 2**31 - 1, "replacement": True}
    )
    usual = inches(drawn("edge", [panel_of("edge")]))
    for one, other in zip(inches(drawn("edge", [panel(wide)])), usual, strict=True):
        assert one == pytest.approx(other, abs=0.05)


def test_a_description_ends_before_the_edge_also_beside_wide_numbers_of_an_axis():
    figure = style.empty_figure(style.PANEL_WIDTH, 3.0)
    axes = figure.subplots()
    axes.plot([0, 1000], [0.0005, 1])
    axes.set_yticks([0.0005, 1], labels=["0.0005", "1"])
    axes.set_ylabel("training loss")
    style.entitle(axes, "MLP", ["Shampoo: Shampoo, lr 0.01, full batch, roots every 10 steps"])
    figure.draw_without_rendering()
    (description,) = (text for text in axes.texts if "Shampoo" in text.get_text())
    assert description.get_window_extent().x1 <= figure.bbox.x1


# ---------------------------------------------------------------- what went wrong
def marks(figure: Figure) -> list[int]:
    return [int(line.get_xdata()[0]) for axes in figure.axes for line in axes.lines if line.get_marker() == "x"]


@pytest.mark.parametrize("module", sorted(PATHS.keys() - {"effective_rates"}))
def test_divergence_is_marked_in_every_panel_where_it_was(module: str):
    figure = drawn_once(module, diverge, last_only=True)
    expected = 10 if module == "distance" else 20  # counted from the switch
    assert set(marks(figure)) == {expected}
    assert all(any(line.get_marker() == "x" for line in axes.lines) for axes in figure.axes)
    assert [t.get_text() for t in figure.legends[0].get_texts()].count("diverged") == 1
    clean = drawn_once(module)
    assert marks(clean) == []
    assert not [t for legend in clean.legends for t in legend.get_texts() if t.get_text() == "diverged"]


CHANGES = {"without rows": without_rows, "NaN": unknown, "diverged at once": lambda s: diverge(without_rows(s))}


@pytest.mark.parametrize(("module", "change", "last_only"), pairs(PATHS, CHANGES, [True, False]))
def test_gaps_are_drawn_without_complaint(module: str, change: str, last_only: bool):
    made = panel_of(module, CHANGES[change], last_only)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert drawn(module, [made]).axes


def test_drawing_leaves_no_global_state():
    before, figures = dict(mpl.rcParams), plt.get_fignums()
    with style.applied():
        for module in PATHS:
            import_module(f"analysis.figures.{module}").draw([panel_of(module)])
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == figures


def test_the_last_bits_of_a_logarithm_change_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """They differ between processors. Tiny ranges amplify them."""

    def write(name: str) -> bytes:
        with style.applied():
            figure, rows = style.rows_of_panels(1, 3)
            for i, axes in enumerate(rows[0]):
                axes.plot([0, 1], [0.23, 0.2301 + 0.002 * i])
                log_scale.log_axis(axes)
            style.save(figure, {"pdf": tmp_path / name})
        return (tmp_path / name).read_bytes()

    usual = write("usual.pdf")
    for function in (np.log10, np.exp):
        monkeypatch.setattr(np, function.__name__, lambda x, of=function: np.nextafter(of(x), np.inf))
    assert write("other.pdf") == usual


def test_numbers_at_ticks():
    assert [log_scale.tick(value, 5e-4, 2e6) for value in (0.001, 0.25, 5, 20000)] == ["0.001", "0.25", "5", "20,000"]
    small = [log_scale.tick(value, 1e-6, 3) for value in (0, 1e-5, 2e-5, 0.01, 1)]
    assert small == ["0", "$10^{-5}$", r"$2\times10^{-5}$", "$10^{-2}$", "$10^{0}$"]
    assert [log_scale.tick(value, 10, 1e8) for value in (100, 2.5e7)] == ["$10^{2}$", r"$2.5\times10^{7}$"]


@pytest.mark.parametrize("span", [1.3, 1.9, 3, 30, 1e3, 1e6])
def test_log_axes_have_a_few_numbers(span: float):
    with style.applied():
        _, rows = style.rows_of_panels(1, 1)
        (axes,) = rows[0]
        axes.plot([0, 1], [0.07, 0.07 * span])
        log_scale.log_axis(axes)
        axes.figure.canvas.draw()
        (low, high) = axes.get_ylim()
        shown = [t for t in axes.yaxis.get_ticklabels() if low <= t.get_position()[1] <= high and t.get_text()]
        assert 3 <= len(shown) <= 10
