"""Figures of Zakarin & Singh: what is drawn is what was measured, its fits and means, and what went wrong is shown."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from functools import cache
from importlib import import_module
from itertools import combinations

import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm, to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures import drawing, energies, instability, interpolation_grid, style
from analysis.plan.outputs import figure_modules
from analysis.runs.measures import growth_rate
from analysis.runs.panels import Member, Panel, concatenate
from sharpflat.errors import InputError
from tests.covering import pairs
from tests.unit.examples import diverge, unknown
from tests.unit.test_figures import segment, without_rows

Change = Callable[[xr.Dataset], xr.Dataset]
LAST = 40


def same(one: xr.Dataset) -> xr.Dataset:
    return one


def specified(one: xr.Dataset, alpha_dom: float = 1.0, beta_bulk: float = 1.0, every: int = 10) -> xr.Dataset:
    """With 7 examples held out, and a filter if the weights differ."""
    planned = json.loads(one.attrs["specification"])
    planned["problem"]["data"]["holdout"] = 7
    weights = {"alpha_dom": alpha_dom, "beta_bulk": beta_bulk, "k": None, "refresh_every": every}
    planned["filter"] = None if alpha_dom == beta_bulk else weights
    return one.assign_attrs(specification=json.dumps(planned))


def growing(one: xr.Dataset, rate: float, seed: int = 0) -> xr.Dataset:
    """λ_1 = 4 exp(rate (step − 10)) and ‖∇L‖ half that, both with noise that differs from seed to seed."""
    generator = np.random.default_rng(seed)
    for dimension in ("spectrum_step", "step"):
        steps = one[dimension].values
        values = 4 * np.exp(rate * (steps - 10) + 0.01 * generator.standard_normal(len(steps)))
        if dimension == "step":
            one = one.assign(gradient_norm=("step", values / 2))
        else:
            eigenvalues = one.eigenvalues.values.copy()
            eigenvalues[:, 0] = values
            one = one.assign(eigenvalues=(("spectrum_step", "index"), eigenvalues))
    return one


def unstable(seeds: int = 1, change: Change = same, begin: Change = same) -> Panel:
    """SGD (rate 0) and Bulk-SGD (rate 0.02) from step 10 on, the last segments changed by `change`."""
    rates, weights = {"SGD": 0.0, "Bulk-SGD": 0.02}, {"SGD": (1.0, 1.0), "Bulk-SGD": (0.0, 1.0)}
    families: dict[str, list[Member]] = {label: [] for label in rates}
    for seed in range(seeds):
        start = begin(specified(growing(segment("start", 0, 10), 0.1, seed)))
        for i, (label, rate) in enumerate(rates.items()):
            after = growing(segment(label, 10, LAST), rate, 10 + 2 * seed + i)
            run = concatenate([start, change(specified(after, *weights[label]))])
            families[label].append(Member({"seed": seed}, run, []))
    return Panel("mlp", "MLP", {}, {}, families=families)


VALUES = (0.0, 0.5, 1.0, 2.0)


def reached(alpha: float, beta: float, seed: int) -> tuple[float, float]:
    """A made-up final loss, lowest at (0.5, 2), and accuracy, highest at (1, 1)."""
    loss = 0.05 + 0.1 * (2 - beta) + 0.01 * abs(alpha - 0.5) + 0.001 * seed
    return loss, 0.9 - 0.1 * ((alpha - 1) ** 2 + (beta - 1) ** 2) - 0.001 * seed


def grid(
    seeds: int = 1,
    diverged: Callable[[float, float, int], bool] = lambda alpha, beta, seed: False,
    change: Change = same,
    begin: Change = same,
    values: tuple[float, ...] = VALUES,
) -> Panel:
    members = []
    template = specified(segment("cell", 10, 14), 0.0, 1.0)
    run = concatenate([begin(specified(segment("start", 0, 10))), change(template)])
    for seed in range(seeds):
        for alpha in values:
            for beta in values:
                if alpha == beta == 0:
                    continue
                loss, accuracy = reached(alpha, beta, seed)  # at the last step; elsewhere there are others
                cell = run.assign(
                    loss=run.loss * (loss / float(template.loss[-1])),
                    test_accuracy=run.test_accuracy * xr.where(run.test_step == 10, 2 * accuracy, 0.5),
                )
                if diverged(alpha, beta, seed):
                    cell = diverge(cell)
                members.append(Member({"seed": seed, "alpha_dom": alpha, "beta_bulk": beta}, cell, []))
    return Panel("mlp", "MLP", {}, {}, families={"interpolated": members})


OPERATORS = ("H", "H_o", "H_f")
SNAPSHOTS = np.array([0, 10, 20])


def with_energies(run: xr.Dataset, scale: float = 1.0) -> xr.Dataset:
    size = scale * np.array([10.0, 9.0, 0.5])
    dominant = size * np.array([[1.0], [2.0], [3.0]])
    bulk = size * np.array([0.1, 0.05, 2.0]) * np.array([[1.0], [0.8], [0.6]])
    error = 0.05 * bulk
    fraction = dominant / (dominant + bulk)
    points = np.linspace(-1, 1, 201) * np.array([10.0, 9.0, 1.0])[:, None]
    density = np.exp(-0.5 * (points / 0.3) ** 2) + 1e-4 * np.exp(-0.5 * ((points - 8) / 0.3) ** 2)
    along = ("snapshot_step", "operator")
    measured = xr.Dataset(
        {
            "energy_dominant": (along, dominant),
            "energy_bulk": (along, bulk),
            "energy_bulk_se": (along, error),
            "energy_total": (along, dominant + bulk),
            "fraction_dominant": (along, fraction),
            "fraction_dominant_se": (along, dominant * error / (dominant + bulk) ** 2),
            "density": ((*along, "point"), np.stack([density, 2 * density, 3 * density])),
            "density_eigenvalue": ((*along, "point"), np.stack([points, points, points])),
            "dominant_converged": ("snapshot_step", np.ones(3, dtype=np.int64)),
        },
        coords={"snapshot_step": SNAPSHOTS, "operator": list(OPERATORS)},
    )
    return run.merge(measured, combine_attrs="override")


def energetic(seeds: int = 1, change: Change = same, begin: Change = same) -> Panel:
    members = []
    for seed in range(seeds):
        run = concatenate([begin(specified(segment("sgd", 0, 20)))])
        members.append(Member({"seed": seed}, change(with_energies(run, 1 + 0.5 * seed)), []))
    return Panel("mlp", "MLP", {}, {}, families={"SGD": members})


PANELS: dict[str, Callable[..., Panel]] = {
    "energies": energetic,
    "instability": unstable,
    "interpolation_grid": grid,
}


def drawn(module: str, panels: list[Panel], laid_out: bool = False) -> Figure:
    """A test that reads positions needs the layout, which takes most of the time."""
    with style.applied():
        figure = import_module(f"analysis.figures.{module}").draw(panels)
        if laid_out:
            figure.draw_without_rendering()
    return figure


@cache
def usual(module: str, seeds: int = 1) -> Figure:
    """A figure of ordinary runs, for tests that do not change it."""
    return drawn(module, [PANELS[module](seeds)])


def of_colour(axes: Axes, colour: str) -> list[Line2D]:
    return [line for line in axes.lines if to_hex(line.get_color()) == to_hex(colour)]


def words(axes: Axes) -> list[str]:
    return [t.get_text() for t in axes.texts]


def legend(figure: Figure) -> list[str]:
    return [t.get_text() for one in figure.legends for t in one.get_texts()]


# ---------------------------------------------------------------- what several figures say
def test_a_run_of_its_own_is_a_family_of_one():
    one = unstable()
    run = one.families["SGD"][0].run
    mixed = replace(
        one, runs={"SGD": run}, segments={"SGD": ["a", "b"]}, families={"Bulk-SGD": one.families["Bulk-SGD"]}
    )
    found = drawing.every_run(mixed)
    assert list(found) == ["SGD", "Bulk-SGD"]
    assert found["SGD"] == [Member({}, run, ["a", "b"])]
    assert found["Bulk-SGD"] is one.families["Bulk-SGD"]


@pytest.mark.parametrize("module", PANELS)
@pytest.mark.slow
def test_the_title_says_k_and_how_many_seeds(module: str):
    titles = [usual(module, seeds).axes[0].get_title(loc="left") for seeds in (1, 3)]
    assert titles == ["MLP (k = 2)", "MLP (k = 2, 3 seeds)"]


@pytest.mark.parametrize("module", PANELS)
def test_the_description_says_what_was_run(module: str):
    text = "\n".join(words(usual(module).axes[0]))
    assert "P = 1,234" in text
    assert "Hessian on the last 7" in text
    assert "lr 0.25, batch 5" in text
    assert ("dominant subspace refreshed every 10 steps" in text) == (module != "energies")


@pytest.mark.parametrize(
    ("intervals", "says"),
    [
        ([], []),
        ([1, 1], ["dominant subspace refreshed every step"]),
        ([1000], ["dominant subspace refreshed every 1,000 steps"]),
        ([100, 1], ["dominant subspace refreshed every 1, 100 steps"]),
    ],
)
def test_how_often_the_subspace_is_refreshed(intervals: list[int], says: list[str]):
    start = specified(segment("start", 0, 4))
    runs = [concatenate([start, specified(segment("a", 4, 8), 0.0, 1.0, every)]) for every in intervals]
    assert drawing.refreshes_in_words([concatenate([start]), *runs]) == says


# ---------------------------------------------------------------- instability
def table(axes: Axes) -> dict[str, list[str]]:
    """Rows below the axes, by their first column."""
    rows: dict[float, list] = {}
    for text in axes.texts:
        if text.xyann[1] < -10:
            rows.setdefault(text.xyann[1], []).append(text)
    found = [[t.get_text() for t in sorted(row, key=lambda t: t.xyann[0])] for _, row in sorted(rows.items())[::-1]]
    return {row[0]: [text for text in row[1:] if text] for row in found}


def in_words(number: float) -> str:
    return f"{Decimal(number):.1E}".replace("E+", "E").replace("E", "e").replace("-", "−")


def test_sharpness_and_gradient_norm_as_they_were_measured():
    one = unstable()
    figure = drawn("instability", [one])
    left, right = figure.axes
    sgd, bulk = (one.families[label][0].run for label in ("SGD", "Bulk-SGD"))
    for axes, values in (
        (left, lambda run: run.eigenvalues.sel(index=1)),
        (right, lambda run: run.gradient_norm),
    ):
        assert axes.get_yscale() == "log"
        (whole,), (after,) = of_colour(axes, style.BLUE), of_colour(axes, style.GREEN)
        expected = values(sgd)
        np.testing.assert_array_equal(whole.get_xdata(), expected[expected.dims[0]])
        np.testing.assert_array_equal(whole.get_ydata(), expected)
        expected = values(bulk)[values(bulk)[values(bulk).dims[0]] >= 10]
        np.testing.assert_array_equal(after.get_xdata(), expected[expected.dims[0]])
        np.testing.assert_array_equal(after.get_ydata(), expected)
        assert after.get_xdata()[0] == 10
        assert after.is_dashed()
        assert "switch at 10" in words(axes)
    assert legend(figure) == ["SGD", "Bulk-SGD", "exponential fitted from the switch on", "2/η"]


def test_the_threshold_stands_beside_the_sharpness_alone():
    left, right = usual("instability").axes

    def thresholds(axes: Axes) -> list[Line2D]:
        return [line for line in of_colour(axes, style.GREY) if list(line.get_ydata()) != [0, 1]]

    (line,) = thresholds(left)
    assert line.is_dashed()
    assert set(line.get_ydata()) == {8.0}
    assert thresholds(right) == []


@pytest.mark.parametrize("seeds", [1, 3])
def test_exponentials_are_fitted_from_the_switch_on(seeds: int):
    one = unstable(seeds)
    axes = drawn("instability", [one]).axes[0]
    fits = of_colour(axes, style.BLACK)
    assert len(fits) == 2 * seeds
    rows = table(axes)
    assert rows.pop("growth of ln λ₁") == ["per step", "99 % interval", "R²"]
    members = [(label, m) for label, family in one.families.items() for m in family]
    assert len(rows) == len(members)
    for fit, (name, row), (label, member) in zip(fits, rows.items(), members, strict=True):
        after = member.run.sel(spectrum_step=slice(10, None))
        steps, values = after.spectrum_step.values, after.eigenvalues.sel(index=1).values
        assert fit.get_xdata().tolist() == [10, LAST]
        slope, constant = np.polyfit(steps, np.log(values), 1)
        np.testing.assert_allclose(fit.get_ydata(), np.exp(constant + slope * np.array([10, LAST])))
        assert not fit.is_dashed()
        assert name == (label if seeds == 1 else f"{label}, seed {member.varied['seed']}")
        rate = growth_rate(steps, values)
        expected = [
            in_words(rate.rate),
            f"[{in_words(rate.low)}, {in_words(rate.high)}]",
            f"{rate.r_squared:.2f}",
        ]
        assert row == expected


def test_the_gradient_norms_rates_are_its_own():
    one = unstable()
    rows = table(drawn("instability", [one]).axes[1])
    after = one.families["Bulk-SGD"][0].run.sel(step=slice(10, None))
    rate = growth_rate(after.step.values, after.gradient_norm.values).rate
    assert rows["Bulk-SGD"][0] == in_words(rate)
    assert rate == pytest.approx(0.02, rel=0.1)
    assert "growth of ln ‖∇L‖" in rows


@pytest.mark.parametrize(
    ("number", "text"), [(4.23e-4, "4.2e−4"), (-1e-10, "−1.0e−10"), (0.0, "0.0e0"), (25.0, "2.5e1")]
)
def test_rates_in_words(number: float, text: str):
    assert instability._short(number) == text


def test_every_seed_has_its_lines():
    one = unstable(3)
    figure = drawn("instability", [one])
    for axes in figure.axes:
        assert [len(of_colour(axes, colour)) for colour in (style.BLUE, style.GREEN)] == [3, 3]
    lines = of_colour(figure.axes[1], style.GREEN)
    for line, member in zip(lines, one.families["Bulk-SGD"], strict=True):
        np.testing.assert_array_equal(line.get_ydata(), member.run.gradient_norm.sel(step=slice(10, None)))


def test_a_diverged_run_says_so_in_the_table_and_in_the_panels():
    one = unstable(2)
    member = one.families["Bulk-SGD"][1]
    one.families["Bulk-SGD"][1] = replace(member, run=member.run.assign_attrs(status="diverged", diverged_at=33))
    figure = drawn("instability", [one])
    for axes in figure.axes:
        assert [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "x"] == [33]
        assert list(table(axes))[1:] == ["SGD, seed 0", "SGD, seed 1", "Bulk-SGD, seed 0", "Bulk-SGD, seed 1, diverged"]
        assert len(table(axes)["Bulk-SGD, seed 1, diverged"]) == 3
    assert legend(figure)[-1] == "diverged"


def test_where_nothing_can_be_fitted_it_says_why():
    rows = table(drawn("instability", [unstable(change=lambda s: diverge(without_rows(s)))]).axes[0])
    assert rows["Bulk-SGD, diverged"] == ["no fit: found 1 of at least 5 values"]  # the parent's last row
    rows = table(drawn("instability", [unstable(change=unknown)]).axes[1])
    assert rows["Bulk-SGD"] == ["no fit: found nan at step 10"]


# ---------------------------------------------------------------- interpolation grid
def mesh_of(axes: Axes) -> QuadMesh:
    (mesh,) = [c for c in axes.collections if isinstance(c, QuadMesh)]
    return mesh


def maps(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.get_xlabel()]


def in_cells(axes: Axes) -> dict[tuple[float, float], list]:
    """Texts by the (α_dom, β_bulk) of the cell in which their middle lies."""
    found: dict[tuple[float, float], list] = {}
    for text in axes.texts:
        if text.get_transform() is axes.transData or text.get_transform() == axes.transData:
            x, y = (int(np.floor(c)) for c in text.get_position())
            found.setdefault((VALUES[x], VALUES[y]), []).append(text)
    return found


def mean_over(seeds: int, which: int) -> np.ndarray:
    """[β, α]; NaN at (0, 0)."""
    means = np.full((4, 4), np.nan)
    for row, beta in enumerate(VALUES):
        for column, alpha in enumerate(VALUES):
            if alpha or beta:
                means[row, column] = np.mean([reached(alpha, beta, seed)[which] for seed in range(seeds)])
    return means


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.slow
def test_cells_have_the_mean_final_loss_and_accuracy(seeds: int):
    figure = drawn("interpolation_grid", [grid(seeds)])
    for axes, which, factor in zip(maps(figure), (0, 1), (1, 100), strict=True):
        expected = factor * mean_over(seeds, which)
        np.testing.assert_allclose(mesh_of(axes).get_array().filled(np.nan), expected)
        assert [t.get_text() for t in axes.get_xticklabels()] == ["0", "0.5", "1", "2"]
        assert [t.get_text() for t in axes.get_yticklabels()] == ["0", "0.5", "1", "2"]
        for (alpha, beta), texts in in_cells(axes).items():
            if alpha or beta:
                value = expected[VALUES.index(beta), VALUES.index(alpha)]
                printed = float(texts[0].get_text().rstrip("*"))
                assert printed == pytest.approx(value, abs=0.051 if which else 0.006 * value)
    note = ", mean over 3 seeds" if seeds == 3 else ""
    left, right = maps(figure)
    assert f"(a) final training loss{note} (* lowest)" in words(left)
    assert f"(b) final test accuracy (%){note} (* highest)" in words(right)


def test_the_losses_colours_are_logarithmic_the_accuracys_linear():
    left, right = maps(usual("interpolation_grid"))
    assert isinstance(mesh_of(left).norm, LogNorm)
    assert not isinstance(mesh_of(right).norm, LogNorm)
    losses = mean_over(1, 0)
    assert (mesh_of(left).norm.vmin, mesh_of(left).norm.vmax) == pytest.approx((np.nanmin(losses), np.nanmax(losses)))


def test_colours_get_lighter_evenly():
    from matplotlib import colormaps

    shades = np.array([luminance(colour) for colour in colormaps[interpolation_grid.COLOURS](np.linspace(0, 1, 50))])
    assert (np.diff(shades) > 0).all()


def luminance(colour) -> float:
    """WCAG 2's relative luminance."""
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_every_value_is_legible_on_its_colour():
    for axes in maps(usual("interpolation_grid")):
        mesh = mesh_of(axes)
        for (alpha, beta), texts in in_cells(axes).items():
            if alpha == beta == 0:
                continue
            value = mesh.get_array()[VALUES.index(beta), VALUES.index(alpha)]
            below = luminance(mesh.to_rgba(np.array([value]))[0])
            for text in texts:
                light, dark = sorted((luminance(text.get_color()), below), reverse=True)
                assert (light + 0.05) / (dark + 0.05) > 4.5


def test_what_was_not_run_is_blank_and_says_so():
    for axes in maps(usual("interpolation_grid")):
        assert [t.get_text() for t in in_cells(axes)[0.0, 0.0]] == ["not run"]
        assert mesh_of(axes).get_array().mask[0, 0]


def test_the_three_methods_are_outlined_and_named():
    for axes in maps(usual("interpolation_grid")):
        outlines = [p for p in axes.patches if not p.get_fill()]
        at = {(VALUES[int(p.get_x())], VALUES[int(p.get_y())]) for p in outlines}
        assert at == {(1.0, 1.0), (1.0, 0.0), (0.0, 1.0)}
        assert {to_hex(p.get_edgecolor()) for p in outlines} == {"#000000"}
        names = {cell: [t.get_text() for t in texts][1:] for cell, texts in in_cells(axes).items() if len(texts) > 1}
        assert names == {(1.0, 1.0): ["SGD"], (1.0, 0.0): ["Dom-SGD"], (0.0, 1.0): ["Bulk-SGD"]}


def stars(axes: Axes) -> list[tuple[float, float]]:
    return [c for c, texts in in_cells(axes).items() if any(t.get_text().endswith("*") for t in texts)]


def test_the_best_cell_has_a_star():
    left, right = maps(drawn("interpolation_grid", [grid(2)]))
    assert stars(left) == [(0.5, 2.0)]
    assert stars(right) == [(1.0, 1.0)]


def hatched(axes: Axes) -> set[tuple[float, float]]:
    return {(VALUES[int(p.get_x())], VALUES[int(p.get_y())]) for p in axes.patches if p.get_hatch()}


def test_a_cell_that_diverged_in_any_seed_is_hatched_says_so_and_has_no_value():
    """Among them the best of all, and Bulk-SGD."""
    gone = {(0.5, 2.0): {0, 1, 2}, (0.0, 1.0): {1}, (0.0, 2.0): {0, 2}}
    one = grid(3, lambda alpha, beta, seed: seed in gone.get((alpha, beta), ()))
    left, right = maps(drawn("interpolation_grid", [one]))
    for axes in (left, right):
        assert hatched(axes) == set(gone)
        said = {cell: [t.get_text() for t in texts] for cell, texts in in_cells(axes).items() if cell in gone}
        assert said == {
            (0.5, 2.0): ["3 of 3\ndiverged"],
            (0.0, 1.0): ["1 of 3\ndiverged", "Bulk-SGD"],
            (0.0, 2.0): ["2 of 3\ndiverged"],
        }
        masked = {(VALUES[x], VALUES[y]) for y, x in np.argwhere(mesh_of(axes).get_array().mask)}
        assert masked == {*gone, (0.0, 0.0)}
    assert stars(left) == [(1.0, 2.0)]


def test_with_one_seed_a_diverged_cell_says_just_that():
    axes = maps(drawn("interpolation_grid", [grid(1, lambda alpha, beta, seed: beta == 2)]))[0]
    assert hatched(axes) == {(alpha, 2.0) for alpha in VALUES}
    assert [t.get_text() for t in in_cells(axes)[1.0, 2.0]] == ["diverged"]


def test_cells_whose_runs_ended_without_a_value_are_told_from_diverged_ones():
    axes = maps(drawn("interpolation_grid", [grid(change=unknown)]))[1]
    assert [t.get_text() for t in in_cells(axes)[2.0, 2.0]] == ["–"]
    assert hatched(axes) == set()


@pytest.mark.parametrize("values", [VALUES, (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)])
@pytest.mark.slow
def test_texts_lie_within_their_cells(values: tuple[float, ...]):
    one = grid(3, lambda alpha, beta, seed: seed == 0 and (alpha == 0 or alpha == beta == 1), values=values)
    figure = drawn("interpolation_grid", [one], laid_out=True)
    for axes in maps(figure):
        for text in axes.texts:
            if text.get_transform() == axes.transData:
                x, y = (np.floor(c) for c in text.get_position())
                cell = axes.transData.transform([(x, y), (x + 1, y + 1)])
                box = text.get_window_extent()
                assert cell[0, 0] <= box.x0, text.get_text()
                assert cell[0, 1] <= box.y0, text.get_text()
                assert box.x1 <= cell[1, 0], text.get_text()
                assert box.y1 <= cell[1, 1], text.get_text()


def test_the_updates_are_told():
    text = "\n".join(words(maps(usual("interpolation_grid"))[0]))
    assert "SGD up to step 10, then −η (" in text
    assert "up to step 14" in text


def test_a_zero_loss_is_drawn():
    one = grid(change=lambda cell: cell.assign(loss=0 * cell.loss))
    assert [t.get_text() for t in in_cells(maps(drawn("interpolation_grid", [one]))[0])[0.5, 0.5]] == ["0.00*"]


@pytest.mark.parametrize("missing", ["alpha_dom", "beta_bulk"])
def test_runs_that_do_not_vary_in_both_weights_are_refused(missing: str):
    one = grid()
    members = [
        replace(m, varied={n: v for n, v in m.varied.items() if n != missing}) for m in one.families["interpolated"]
    ]
    with pytest.raises(InputError, match=r"^setting mlp: .* vary in alpha_dom and beta_bulk$"):
        interpolation_grid.draw([replace(one, families={"interpolated": members})])


# ---------------------------------------------------------------- energies
LOOKS = {name: energies.OPERATORS[name]["color"] for name in OPERATORS}


@pytest.mark.parametrize("seeds", [1, 2])
def test_six_lines_of_energy_a_seed(seeds: int):
    one = energetic(seeds)
    axes = drawn("energies", [one]).axes[0]
    assert axes.get_yscale() == "log"
    assert len(axes.lines) == 6 * seeds
    for name, colour in LOOKS.items():
        lines = of_colour(axes, colour)
        for i, member in enumerate(one.families["SGD"]):
            own = member.run.sel(operator=name)
            for line, variable in zip(lines[2 * i : 2 * i + 2], ("energy_dominant", "energy_bulk"), strict=True):
                assert line.get_xdata().tolist() == SNAPSHOTS.tolist()
                np.testing.assert_array_equal(line.get_ydata(), own[variable])
                assert line.is_dashed() == (variable == "energy_bulk")


def bands(axes: Axes) -> dict[str, np.ndarray]:
    """Low and high along the snapshots, by colour."""
    found = {}
    for band in axes.collections:
        points = band.get_paths()[0].vertices
        ends = [(points[points[:, 0] == step, 1].min(), points[points[:, 0] == step, 1].max()) for step in SNAPSHOTS]
        found[to_hex(band.get_facecolor()[0])] = np.array(ends)
    return found


def test_bands_are_two_standard_errors_to_each_side():
    one = energetic()
    run = one.families["SGD"][0].run
    figure = drawn("energies", [one])
    for axes, variable in zip(figure.axes, ("energy_bulk", "fraction_dominant"), strict=False):
        found = bands(axes)
        for name, colour in LOOKS.items():
            own = run.sel(operator=name)
            value, error = own[variable].values, own[f"{variable}_se"].values
            expected = np.stack([value - 2 * error, value + 2 * error], axis=1)
            np.testing.assert_allclose(
                found[to_hex(colour)], np.clip(expected, 0, 1 if axes is figure.axes[1] else None)
            )
    assert any("±2 standard errors" in text for text in words(figure.axes[0]))


def test_a_band_that_reaches_below_zero_ends_at_the_axis():
    def uncertain(run: xr.Dataset, factor: float) -> xr.Dataset:
        return run.assign(energy_bulk_se=factor * run.energy_bulk)

    without, with_errors = (
        drawn("energies", [energetic(change=lambda run, f=f: uncertain(run, f))]).axes[0] for f in (0, 1)
    )
    lowest = with_errors.get_ylim()[0]
    assert lowest == without.get_ylim()[0]
    for band in bands(with_errors).values():
        assert band[:, 0] == pytest.approx(lowest)


def test_fractions_in_the_dominant_subspace():
    one = energetic()
    axes = drawn("energies", [one]).axes[1]
    for name, colour in LOOKS.items():
        (line,) = of_colour(axes, colour)
        np.testing.assert_array_equal(line.get_ydata(), one.families["SGD"][0].run.fraction_dominant.sel(operator=name))
        assert not line.is_dashed()
    assert axes.get_ylim() == style.FRACTION


def test_densities_of_the_last_snapshot():
    one = energetic()
    axes = drawn("energies", [one]).axes[2]
    last = one.families["SGD"][0].run.isel(snapshot_step=-1)
    lowest, highest = axes.get_ylim()
    assert lowest == pytest.approx(0.1 * 3 / 1234, rel=1e-3)  # a tenth of the peak over P
    assert highest > 3
    for name, colour in LOOKS.items():
        (line,) = of_colour(axes, colour)
        own = last.sel(operator=name)
        np.testing.assert_array_equal(line.get_xdata(), own.density_eigenvalue)
        seen = own.density.values > lowest
        np.testing.assert_array_equal(line.get_ydata()[seen], own.density.values[seen])
        assert (line.get_ydata()[~seen] <= lowest).all()
    assert axes.get_yscale() == "log"
    assert axes.get_xscale() == "linear"
    assert axes.get_xlim()[1] > float(last.density_eigenvalue.max())
    assert axes.get_xlabel() == "eigenvalue λ"
    assert axes.get_ylabel() == "density φ(λ) at step 20"


def test_operators_and_subspaces_are_told_apart_without_colour():
    figure = usual("energies")
    for axes in figure.axes:
        assert len({line.get_marker() for line in axes.lines}) == 3
    names = legend(figure)
    assert names[0] == "$H$"
    assert names[-2:] == ["dominant subspace", "bulk subspace"]


def test_last_snapshots_that_differ_are_told():
    one = energetic(2)
    members = one.families["SGD"]
    members[1] = replace(members[1], run=members[1].run.isel(snapshot_step=slice(0, 2)))
    axes = drawn("energies", [one]).axes[2]
    assert axes.get_ylabel() == "density φ(λ) at the last snapshots, steps 10 to 20"


@pytest.mark.slow
def test_an_unconverged_subspace_is_told():
    one = energetic(2)
    assert not any("converge" in text for text in words(drawn("energies", [one]).axes[0]))
    run = one.families["SGD"][1].run
    run["dominant_converged"] = ("snapshot_step", [1, 0, 1])
    text = "\n".join(words(drawn("energies", [one]).axes[0]))
    assert "at 1 of 6 snapshots the eigensolver did not converge" in text


def test_a_run_without_energies_is_refused():
    one = energetic()
    run = one.families["SGD"][0].run.drop_vars("energy_dominant")
    with pytest.raises(InputError, match=r"^sgd: has no energies, from which this figure is drawn$"):
        energies.draw([replace(one, families={"SGD": [Member({}, run, [])]})])


# ---------------------------------------------------------------- what holds for all
def without_snapshots(run: xr.Dataset) -> xr.Dataset:
    empty = without_rows(run)
    return empty.isel(snapshot_step=slice(0, 0)) if "snapshot_step" in empty.dims else empty


def test_the_modules_can_be_named_in_a_configuration():
    assert {m.replace("_", "-") for m in PANELS} <= set(figure_modules())


CHANGES: dict[str, Change] = {
    "without rows": without_snapshots,
    "NaN": unknown,
    "diverged at once": lambda s: diverge(without_snapshots(s)),
    "diverged": diverge,
}


@pytest.mark.parametrize(("module", "change", "throughout"), pairs(PANELS, CHANGES, [False, True]))
def test_gaps_are_drawn_without_complaint(module: str, change: str, throughout: bool):
    begin = CHANGES[change] if throughout else same
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one = PANELS[module](2, change=CHANGES[change], begin=begin)
        assert drawn(module, [one], laid_out=True).axes


@pytest.mark.parametrize(("module", "seeds", "count"), pairs(PANELS, [1, 3], [1, 2]))
@pytest.mark.slow
def test_nothing_is_clipped_and_no_texts_overlap(module: str, seeds: int, count: int):
    one = PANELS[module](seeds, change=diverge)
    if module == "interpolation_grid":
        one = grid(seeds, lambda alpha, beta, seed: alpha < beta)
    figure = drawn(module, [one] * count, laid_out=True)
    texts = [t for axes in figure.axes for t in (*axes.texts, axes.xaxis.label, axes.yaxis.label, axes._left_title)]
    texts += [t for found in figure.legends for t in found.get_texts()]
    boxes = [(t.get_text(), t.get_window_extent()) for t in texts if t.get_text()]
    ticks = [axis.get_tightbbox() for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)]
    boxes += [("ticks", box) for box in ticks if box is not None]
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


@pytest.mark.parametrize("module", ["energies", "instability"])
@pytest.mark.slow
def test_more_seeds_take_nothing_from_the_panels(module: str):
    few, many = (drawn(module, [PANELS[module](seeds)], laid_out=True).axes for seeds in (1, 5))
    assert [axes.bbox.height for axes in many] == pytest.approx([axes.bbox.height for axes in few], rel=0.03)
