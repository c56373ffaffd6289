"""Distances between two runs, from their snapshots of θ (Song et al., section G.2)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from analysis.store.netcdf import read_dataset, write_dataset
from analysis.store.words import STEP, Words, describe
from sharpflat.errors import InputError

if TYPE_CHECKING:
    from analysis.plan.plan import PlannedDistances

SCHEMA = "distances-1"
DISTANCES = Words(
    "Distances between two runs", "Euclidean norms; attribute `specification`, in JSON: the runs as paths of segments"
)
VARIABLES = {
    "between": Words("distance between the two runs", "|theta_1 - theta_2| of the first and the second run"),
    "first": Words("distance of the first run", "|theta_1 - theta_0| of the first run from its start"),
    "second": Words("distance of the second run", "|theta_2 - theta_0| of the second run from its start"),
}


def write_distances(
    pairs: Sequence[PlannedDistances], snapshots: Iterable[str | Path], outputs: Sequence[str | Path]
) -> None:
    """Measures the distances of planned pairs of runs, and writes them.

    Args:
        pairs: the planned pairs.
        snapshots: files of all segments involved, each in a folder that has the segment's id as its name.
        outputs: one path for each pair.

    Raises:
        InputError: as for `measure_distances`, or an output cannot be written.
    """
    of = {Path(file).parent.name: Path(file) for file in snapshots}
    for pair, output in zip(pairs, outputs, strict=True):
        first, second = ([of[i] for i in run] for run in pair.spec.runs)
        specification = json.dumps(pair.spec.model_dump(), sort_keys=True)
        measured = measure_distances(first, second).assign_attrs(id=pair.id, specification=specification)
        write_dataset(measured, Path(output), {"fingerprint": pair.fingerprint})


def measure_distances(first: Sequence[Path], second: Sequence[Path]) -> xr.Dataset:
    """Distances between two runs from one initialisation, and of each from their common start.

    Args:
        first: snapshot files of the first run's segments, from its first step.
        second: snapshot files of the second run.

    Returns:
        Along `step`, the steps at which both were taken: `between` ‖θ_1 − θ_2‖, `first` ‖θ_1 − θ_0‖ and `second`
        ‖θ_2 − θ_0‖, float64.

    Raises:
        InputError: a file is missing or damaged, or the runs do not start from the same θ.
    """
    runs = [_snapshots(paths) for paths in (first, second)]
    steps = sorted(set(runs[0]) & set(runs[1]))
    starts = [run[min(run)] for run in runs if run]
    if len(starts) == 2 and (min(runs[0]) != min(runs[1]) or not np.array_equal(starts[0], starts[1])):
        raise InputError(f"{first[0]} and {second[0]}: the two runs do not begin at the same point")
    rows = [
        (_distance(runs[0][s], runs[1][s]), *(_distance(run[s], a) for run, a in zip(runs, starts, strict=True)))
        for s in steps
    ]
    values = np.asarray(rows, dtype=np.float64).reshape(len(steps), 3)
    measured = xr.Dataset(
        {name: ("step", values[:, i]) for i, name in enumerate(VARIABLES)},
        coords={"step": np.asarray(steps, dtype=np.int64)},
        attrs={**DISTANCES.of_dataset(), "schema": SCHEMA},
    )
    return describe(measured, {**VARIABLES, "step": STEP})


def _snapshots(paths: Iterable[Path]) -> dict[int, np.ndarray]:
    """θ [P] by step. Where two segments meet, both have the same θ."""
    datasets = [read_dataset(path) for path in paths]
    return {
        int(step): theta
        for dataset in datasets
        for step, theta in zip(dataset.snapshot_step.values, dataset.theta.values, strict=True)
    }


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.linalg.norm(one.astype(np.float64) - other.astype(np.float64)))
