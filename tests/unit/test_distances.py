"""Distances between two runs, from snapshots in several segments."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr

from analysis.measurement.distances import measure_distances, write_distances
from analysis.plan.plan import PlannedDistances
from analysis.store.netcdf import PROVENANCE, read_dataset, write_dataset
from sharpflat.errors import InputError

PATHS = np.random.default_rng(0).normal(size=(2, 31, 7)).astype(np.float32)
PATHS[1, 0] = PATHS[0, 0]


@pytest.fixture
def snapshots(tmp_path):
    def write(run: int, steps: list[int], start: int = 0):
        path = tmp_path / f"{run}-{steps[0]}.nc"
        theta = PATHS[run, steps] + np.float32(start)
        write_dataset(
            xr.Dataset({"theta": (("snapshot_step", "parameter"), theta)}, coords={"snapshot_step": steps}), path
        )
        return path

    return write


def test_they_equal_the_norms_at_common_steps(snapshots):
    first = [snapshots(0, [0, 10, 20, 30])]
    second = [snapshots(1, [0, 10, 14]), snapshots(1, [14, 20, 27])]
    found = measure_distances(first, second)
    assert found.step.values.tolist() == [0, 10, 20]
    wide = PATHS.astype(np.float64)
    for i, step in enumerate([0, 10, 20]):
        a, b = wide[0, step], wide[1, step]
        expected = [np.sqrt(((x - y) ** 2).sum()) for x, y in ((a, b), (a, wide[0, 0]), (b, wide[1, 0]))]
        np.testing.assert_allclose([found[n][i] for n in ("between", "first", "second")], expected, rtol=1e-12)


def test_runs_that_begin_apart_are_refused(snapshots):
    with pytest.raises(InputError, match="the two runs do not begin at the same point"):
        measure_distances([snapshots(0, [0, 10])], [snapshots(1, [0, 10], start=1)])
    with pytest.raises(InputError, match="the two runs do not begin at the same point"):
        measure_distances([snapshots(0, [0, 10])], [snapshots(1, [10, 20])])


def test_a_run_without_snapshots_gives_no_rows(snapshots, tmp_path):
    """As a segment that begins at a diverged parent leaves it."""
    empty = xr.Dataset({"theta": (("snapshot_step", "parameter"), np.zeros((0, 0)))}, coords={"snapshot_step": []})
    write_dataset(empty, tmp_path / "empty.nc")
    assert measure_distances([snapshots(0, [0, 10])], [tmp_path / "empty.nc"]).sizes["step"] == 0


def test_each_pair_is_written_under_its_name(snapshots, tmp_path):
    """From files in any order: the folder says whose they are."""
    files = {}
    for run, steps in ((0, [0, 10]), (1, [0, 10]), (1, [10, 20])):
        name = f"{run}-{steps[0]}"
        (tmp_path / name).mkdir()
        files[name] = snapshots(run, steps).rename(tmp_path / name / "snapshots.nc")
    pairs = {"one": [["0-0"], ["1-0"]], "other": [["1-0"], ["0-0"]], "longer": [["1-0", "1-10"], ["0-0"]]}
    planned = [PlannedDistances(id=i, fingerprint=f"of {i}", spec={"runs": runs}) for i, runs in pairs.items()]
    outputs = [tmp_path / f"{i}.nc" for i in pairs]
    write_distances(planned, reversed(files.values()), outputs)
    for output, (name, (first, second)) in zip(outputs, pairs.items(), strict=True):
        found = read_dataset(output)
        assert (found.attrs["id"], json.loads(found.attrs["specification"])) == (name, {"runs": pairs[name]})
        assert json.loads(found.attrs[PROVENANCE])["fingerprint"] == f"of {name}"
        expected = measure_distances([files[i] for i in first], [files[i] for i in second])
        xr.testing.assert_equal(found, expected)
    assert not read_dataset(outputs[0]).equals(read_dataset(outputs[1]))
