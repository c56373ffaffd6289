"""Distances between two runs, from snapshots in several segments."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from analysis.distances import measure_distances
from analysis.errors import InputError
from analysis.store import write_dataset

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
