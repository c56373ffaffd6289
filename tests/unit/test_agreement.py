"""A run compared with the archived one: what agrees, what differs, and from which step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from analysis.agreement import ROUNDING, ComparedVerdict, _compare, _differences, agree, for_report
from analysis.archive import read_archive

REFERENCE = Path(__file__).parents[2] / "results" / "reference"
SPECIFICATION = '{"seed": 0, "rule": {"kind": "sgd"}, "parent": "one"}'


def curve(values: list[float], steps: list[int] | None = None) -> xr.DataArray:
    return xr.DataArray(values, coords={"step": steps or [10 * i for i in range(len(values))]}, dims="step")


def trajectory(values: list[float], specification: str = SPECIFICATION) -> xr.Dataset:
    return xr.Dataset({"loss": curve(values)}, attrs={"specification": specification})


@pytest.mark.parametrize(
    ("own", "archived", "step"),
    [
        ([1.0, 0.5, 0.2], [1.0, 0.5, 0.2], None),
        ([1.0, 0.5, 0.2], [1.0, 0.5 + 1e-6, 0.2], None),
        ([1.0, 0.5, 0.2], [1.0, 0.51, 0.2], 10),
        ([1.0, 0.5, 0.2], [1.0, 0.5, np.nan], 20),
        ([1.0, np.nan, 0.2], [1.0, np.nan, 0.2], None),
        ([1.0, 1e-9, 0.2], [1.0, 2e-9, 0.2], None),  # small compared with the curve
        ([1.0, 0.5], [1.0, 0.5, 0.2], 20),  # one ends earlier
        ([1.0, 0.5, 1e-2], [1.0, 0.5, 1.1e-2], 20),
    ],
)
def test_the_first_step_at_which_a_curve_leaves_the_archived_one(
    own: list[float], archived: list[float], step: int | None
) -> None:
    departure, largest, otherwise = _compare(trajectory(own), trajectory(archived))
    assert (departure and departure.step) == step
    assert (largest > ROUNDING) is (step is not None)
    assert not otherwise


def test_rows_of_eigenvalues_are_compared_with_their_largest() -> None:
    rows = xr.DataArray([[10.0, 1e-4], [20.0, 1.0]], coords={"step": [0, 5]}, dims=("step", "index"))
    steps, found = _differences(rows, rows + xr.DataArray([[0.0, 1e-5], [0.0, 0.1]], dims=("step", "index")))
    assert steps.tolist() == [0, 5]
    assert found == pytest.approx([1e-6, 0.1 / 20], rel=1e-3)


def test_what_was_configured_otherwise_is_not_compared_but_parents_may_have_other_names() -> None:
    assert _compare(trajectory([1.0]), trajectory([2.0], SPECIFICATION.replace('"seed": 0', '"seed": 1')))[2]
    assert not _compare(trajectory([1.0]), trajectory([1.0], SPECIFICATION.replace("one", "two")))[2]


@pytest.mark.parametrize(
    ("own", "archived", "difference"),
    [
        ("at step 1,000", "at step 1,000", 0.0),
        ("median 0.50", "median 0.40", 0.2),
        ("−2 %", "-2 %", 0.0),
        ("R² 0.7", "no fit", np.inf),
    ],
)
def test_numbers_of_a_verdict_are_compared(own: str, archived: str, difference: float) -> None:
    verdict = ComparedVerdict("song-1", "mlp", ("holds", own), ("holds", archived))
    assert verdict.agrees
    assert verdict.difference == pytest.approx(difference)


@pytest.mark.slow
def test_a_figure_is_compared_with_the_archived_figure_and_not_with_a_claim_of_its_name() -> None:
    """`open-optimizers`: the figure has one seed, and the claim has three."""
    archive = REFERENCE / "quick"
    manifest = read_archive(archive)
    whole = manifest.plan()
    figure = whole.figures["open-optimizers"].spec
    report = whole.report.spec.model_copy(update={"figures": (figure,), "claims": (), "base": ""})
    found = agree(report, archive, manifest, archive)
    assert (len(found.runs), found.alone, found.departed) == (len(figure.panels[0].runs), 0, ())


@pytest.mark.slow
def test_the_archive_agrees_with_itself_and_a_changed_curve_is_found(tmp_path: Path) -> None:
    from analysis.store.netcdf import read_dataset, write_dataset

    archive = REFERENCE / "quick"
    manifest = read_archive(archive)
    whole = manifest.plan()
    name = "zs-fig04"
    report = whole.report.spec.model_copy(update={"figures": (whole.figures[name].spec,), "claims": (), "base": ""})
    (tmp_path / "energies").symlink_to(archive / "energies")
    (tmp_path / "segments").mkdir()
    for segment in (archive / "segments").iterdir():
        (tmp_path / "segments" / segment.name).symlink_to(segment)
    found = agree(report, tmp_path, manifest, archive)
    assert found.departed == ()
    assert found.alone == 0
    assert "within rounding" in found.in_one_line()

    changed = report.figures[0].panels[0].paths()[-1][-1]
    dataset = read_dataset(archive / "segments" / changed / "trajectory.nc")
    step = int(dataset.step.values[1])
    dataset["loss"][1] *= 1.01
    (tmp_path / "segments" / changed).unlink()
    write_dataset(dataset, tmp_path / "segments" / changed / "trajectory.nc")
    found = agree(report, tmp_path, manifest, archive)
    assert [run.departure.step for run in found.departed if run.departure] == [step]
    assert f"1 of {len(found.runs)} runs differ beyond rounding, first at step {step:,}" in found.in_one_line()
    assert any(found.departed[0].name in line for line in found.lines())


def test_a_report_is_compared_where_there_is_an_archive_and_it_is_the_runs_own(tmp_path: Path) -> None:
    """What cannot be compared is no reason for a run to fail."""
    from tests.unit.report_example import REPORT

    results, archive = tmp_path / "quick", tmp_path / "reference" / "quick"
    assert for_report(REPORT, results) is None, "nothing is archived"
    archive.mkdir(parents=True)
    (archive / "manifest.json").write_text("{")
    found = for_report(REPORT, results)
    assert isinstance(found, str)
    assert f"{archive}/manifest.json: cannot be read" in found
    assert for_report(REPORT.model_copy(update={"base": "../"}), results) is None, "made from an archive"
