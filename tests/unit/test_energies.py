"""The curvature stage against dense matrices, from snapshots that training left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from analysis.measurement.energies import energies_along, measure_energies
from analysis.specs import EnergiesSpec
from analysis.training.problem import make_problem
from analysis.training.segment import train_segment
from tests.specs import probes
from tests.unit.test_segment import TEST, TRAIN, K, Reference, spec

HOLDOUT = 9
SEGMENT = spec(holdout=HOLDOUT, probes=probes(loss=5, test=5, spectrum=5, snapshots=5))
SPEC = EnergiesSpec(
    problem=SEGMENT.problem, segment="x", seed=3, probes=400, density_probes=3, density_steps=55, tolerance=1e-9
)


@pytest.fixture(scope="module")
def snapshots() -> xr.Dataset:
    taken = train_segment(SEGMENT, "x", TRAIN, TEST, None).snapshots
    assert taken is not None
    return taken


@pytest.fixture(scope="module")
def energies(snapshots: xr.Dataset) -> xr.Dataset:
    return energies_along(SPEC, make_problem(SPEC.problem, TRAIN, TEST, 7), snapshots)


def dense(theta: torch.Tensor) -> dict[str, np.ndarray]:
    """H, H_o, H_f on the held-out examples, by definition: MSE's H_o is the mean of JᵀJ."""
    reference = Reference(HOLDOUT)
    H = torch.func.hessian(reference.loss)(theta, reference.curved).numpy()

    def outputs(at: torch.Tensor) -> torch.Tensor:
        named, start = {}, 0
        for name, p in reference.model.named_parameters():
            named[name] = at[start : start + p.numel()].view(p.shape)
            start += p.numel()
        return torch.func.functional_call(reference.model, named, (reference.x[reference.curved],))

    J = torch.func.jacrev(outputs)(theta).reshape(HOLDOUT * K, -1).numpy()
    outer = J.T @ J / HOLDOUT
    return {"H": H, "H_o": outer, "H_f": H - outer}


def test_energies_equal_those_of_dense_matrices(snapshots: xr.Dataset, energies: xr.Dataset) -> None:
    assert energies.snapshot_step.values.tolist() == snapshots.snapshot_step.values.tolist() == [0, 5, 10]
    for i, values in enumerate(snapshots.theta.values):
        matrices = dense(torch.from_numpy(values))
        top, vectors = np.linalg.eigh(matrices["H"])
        np.testing.assert_allclose(energies.dominant_eigenvalues[i], top[::-1][:K], rtol=1e-6)
        assert int(energies.dominant_converged[i]) == 1
        U = vectors[:, ::-1][:, :K]
        for name, M in matrices.items():
            row = energies.isel(snapshot_step=i).sel(operator=name)
            dominant, total = np.square(M @ U).sum(), np.square(M).sum()
            np.testing.assert_allclose(row.energy_dominant, dominant, rtol=1e-6)
            assert abs(row.energy_bulk - (total - dominant)) <= 5 * row.energy_bulk_se + 1e-9 * total
            assert row.energy_bulk_se < 0.2 * row.energy_bulk
            np.testing.assert_allclose(row.trace_dominant, np.trace(U.T @ M @ U), rtol=1e-6)


def test_densities_are_those_of_the_three_operators(snapshots: xr.Dataset, energies: xr.Dataset) -> None:
    """As many Lanczos steps as parameters: the nodes are eigenvalues, so the density's mean and spread are the
    matrix's, up to the few random vectors."""
    matrices = dense(torch.from_numpy(snapshots.theta.values[-1]))
    for name, M in matrices.items():
        row = energies.isel(snapshot_step=-1).sel(operator=name)
        grid, density = row.density_eigenvalue.values, row.density.values
        np.testing.assert_allclose(np.trapezoid(density, grid), 1, rtol=0.02)
        values = np.linalg.eigvalsh(M)
        assert grid[0] < values[0]
        assert values[-1] < grid[-1]
        mean = np.trapezoid(density * grid, grid)
        assert abs(mean - values.mean()) < 0.5 * values.std()


@pytest.mark.slow
def test_products_and_random_vectors(snapshots: xr.Dataset, energies: xr.Dataset) -> None:
    problem = make_problem(SPEC.problem, TRAIN, TEST, 7)
    again = energies_along(SPEC, problem, snapshots)
    xr.testing.assert_identical(again, energies)
    other = energies_along(SPEC.model_copy(update={"seed": 4}), problem, snapshots)
    np.testing.assert_array_equal(other.energy_dominant, energies.energy_dominant)
    assert not np.array_equal(other.energy_bulk, energies.energy_bulk)
    # Each snapshot has vectors of its own, whatever others there are.
    alone = energies_along(SPEC, problem, snapshots.isel(snapshot_step=[1]))
    np.testing.assert_allclose(alone.energy_bulk[0], energies.energy_bulk[1], rtol=1e-7)
    twice = snapshots.isel(snapshot_step=[1, 1]).assign_coords(snapshot_step=[5, 6])
    same = energies_along(SPEC, problem, twice)
    np.testing.assert_allclose(same.energy_dominant[0], same.energy_dominant[1], rtol=1e-6)
    assert not np.isclose(same.energy_bulk[0], same.energy_bulk[1], rtol=1e-6).any()
    least = K + 3 * (K + SPEC.probes) + 3 * SPEC.density_probes
    assert (energies.energy_products >= least).all()


def test_snapshots_of_a_diverged_run_are_left_out(snapshots: xr.Dataset, energies: xr.Dataset) -> None:
    problem = make_problem(SPEC.problem, TRAIN, TEST, 7)
    broken = snapshots.copy(deep=True)
    broken.theta[2, 0] = np.nan
    found = energies_along(SPEC, problem, broken)
    xr.testing.assert_identical(found, energies.isel(snapshot_step=slice(2)))
    broken.theta[:] = np.inf
    nothing = energies_along(SPEC, problem, broken)
    assert nothing.sizes["snapshot_step"] == 0
    # It has the same variables, shapes and types, so it can be joined with an earlier segment's.
    xr.testing.assert_identical(nothing, energies.isel(snapshot_step=slice(0)))
    assert {n: v.dtype for n, v in nothing.items()} == {n: v.dtype for n, v in energies.items()}


def test_from_files_to_files(tmp_path: Path, snapshots: xr.Dataset, energies: xr.Dataset) -> None:
    from analysis.plan.plan import PlannedEnergies
    from analysis.store.netcdf import PROVENANCE, read_dataset, write_dataset

    for name, dataset in {"train": TRAIN, "test": TEST, "snapshots": snapshots}.items():
        write_dataset(dataset, tmp_path / f"{name}.nc")
    measure_energies(
        [PlannedEnergies(id="e", spec=SPEC, fingerprint="f")],
        data=[str(tmp_path / "train.nc"), str(tmp_path / "test.nc")],
        snapshots=[str(tmp_path / "snapshots.nc")],
        outputs=[str(tmp_path / "e.nc")],
        threads=1,
    )
    found = read_dataset(tmp_path / "e.nc")
    assert found.attrs.pop(PROVENANCE)
    xr.testing.assert_allclose(found.drop_attrs(), energies.drop_attrs())
