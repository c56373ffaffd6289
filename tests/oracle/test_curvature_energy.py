"""Energies, traces and spectral densities against dense matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from sharpflat.curvature.eigensolver import top_eigenspace
from sharpflat.curvature.energy import energy_decomposition
from sharpflat.curvature.operators import Hessian
from sharpflat.curvature.spectrum import spectral_density
from sharpflat.curvature.subspace import DominantSubspace
from sharpflat.curvature.symmetric import NonFiniteProductError
from sharpflat.errors import InputError
from tests.oracle.conftest import Problem, make
from tests.oracle.test_curvature_eigensolver import Dense, planted

ESTIMATED = {"energy_bulk": "energy_bulk_se", "trace_bulk": "trace_bulk_se"}


def dominant(problem: Problem, k: int) -> DominantSubspace:
    return DominantSubspace(torch.linalg.eigh(problem.dense["H"]).eigenvectors.flip(1)[:, :k])


def exact(M: Tensor, U: Tensor) -> dict[str, float]:
    bulk = torch.eye(len(M), dtype=M.dtype) - U @ U.T
    values = {
        "energy_dominant": (M @ U).square().sum(),
        "energy_bulk": (M @ bulk).square().sum(),
        "energy_total": M.square().sum(),
        "trace_dominant": (U.T @ M @ U).trace(),
        "trace_bulk": (bulk @ M @ bulk).trace(),
    }
    result = {name: float(value) for name, value in values.items()}
    result["fraction_dominant"] = result["energy_dominant"] / result["energy_total"]
    return result


def test_energies_agree_with_the_dense_matrices(problem: Problem) -> None:
    objective, S = problem.objective(3), dominant(problem, 3)
    ds = energy_decomposition(objective, objective.theta, S, probes=400)
    for name in ("H", "H_o", "H_f"):
        row = {str(key): float(value) for key, value in ds.sel(operator=name).data_vars.items()}
        expected = exact(problem.dense[name], S.basis)
        for key in ("energy_dominant", "trace_dominant"):
            np.testing.assert_allclose(row[key], expected[key], rtol=1e-9, atol=1e-12)
        for key, error in ESTIMATED.items():
            assert abs(row[key] - expected[key]) < 5 * row[error], (name, key)
        assert row["energy_total"] == row["energy_dominant"] + row["energy_bulk"]
        assert row["fraction_dominant"] == row["energy_dominant"] / row["energy_total"]
        assert abs(row["fraction_dominant"] - expected["fraction_dominant"]) < 5 * row["fraction_dominant_se"]
        assert row["energy_bulk_se"] < 0.3 * row["energy_bulk"]
    assert ds.attrs == {"k": 3, "probes": 400, "products": 403}


@pytest.mark.slow
def test_standard_errors_cover_the_truth_as_often_as_they_claim() -> None:
    """Over 400 seeds: 2 standard errors hold the exact value in about 95 of 100, and predict the spread."""
    problem = make("mlp")
    objective, S = problem.objective(), dominant(problem, 3)
    seeds = 400
    rows: dict[str, list[np.ndarray]] = {}
    for seed in range(seeds):
        generator = torch.Generator().manual_seed(seed)
        ds = energy_decomposition(objective, objective.theta, S, probes=24, generator=generator)
        for key in ("energy_bulk", "trace_bulk", "fraction_dominant"):
            rows.setdefault(key, []).append(ds[key].values)
            rows.setdefault(key + "_se", []).append(ds[key + "_se"].values)
    for i, name in enumerate(("H", "H_o", "H_f")):
        expected = exact(problem.dense[name], S.basis)
        for key in ("energy_bulk", "trace_bulk", "fraction_dominant"):
            values = np.array(rows[key])[:, i]
            errors = np.array(rows[key + "_se"])[:, i]
            covered = float(np.mean(np.abs(values - expected[key]) < 2 * errors))
            # The claim for normal means is 94.3 of 100 with 24 probes; the sampling error over seeds is 1.1.
            assert 0.88 < covered < 0.985, (name, key, covered)
            assert 0.85 < np.sqrt(np.mean(errors**2)) / values.std(ddof=1) < 1.15, (name, key)
            if key != "fraction_dominant":  # a ratio: unbiased to first order only
                bias = values.mean() - expected[key]
                assert abs(bias) < 4 * values.std(ddof=1) / np.sqrt(seeds), (name, key)


def test_probes_stay_in_the_bulk() -> None:
    """With all of H's large eigenvalues in the subspace, what is left must be small, not a leak of them."""
    problem = make("mlp")
    values, vectors = torch.linalg.eigh(problem.dense["H"])
    objective, S = problem.objective(), DominantSubspace(vectors[:, values.abs().argsort()[20:]])
    ds = energy_decomposition(objective, objective.theta, S, probes=8).sel(operator="H")
    expected = exact(problem.dense["H"], S.basis)
    assert expected["energy_bulk"] < 1e-3 * expected["energy_total"], "the test needs a small bulk"
    assert float(ds.energy_bulk) < 3 * expected["energy_bulk"]


def test_the_whole_space_has_no_bulk() -> None:
    problem = make("mlp")
    objective = problem.objective()
    S = DominantSubspace(torch.eye(objective.size, dtype=torch.float64))
    ds = energy_decomposition(objective, objective.theta, S, probes=2)
    for key in ("energy_bulk", "energy_bulk_se", "trace_bulk", "trace_bulk_se", "fraction_dominant_se"):
        assert not ds[key].any(), key
    np.testing.assert_allclose(ds.fraction_dominant, 1)


def test_the_generator_decides_the_probes() -> None:
    problem = make("mlp")
    objective, S = problem.objective(), dominant(problem, 3)

    def bulk(seed: int | None) -> float:
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        ds = energy_decomposition(objective, objective.theta, S, probes=4, generator=generator)
        return float(ds.energy_bulk[0])

    before = torch.random.get_rng_state()
    assert bulk(None) == bulk(None)
    assert bulk(1) == bulk(1) != bulk(2)
    assert torch.equal(before, torch.random.get_rng_state())


def test_energy_refusals() -> None:
    objective = make("mlp").objective()
    S = DominantSubspace(torch.eye(5, 2, dtype=torch.float64))
    with pytest.raises(InputError, match=r"the subspace lies in R\^5, theta in R\^64"):
        energy_decomposition(objective, objective.theta, S)
    with pytest.raises(InputError, match="probes must be an integer of at least 2, not 1"):
        energy_decomposition(objective, objective.theta, S, probes=1)


# ---------------------------------------------------------------- spectral density


def test_quadrature_is_exact_for_polynomials_of_each_probe() -> None:
    """m nodes integrate polynomials up to degree 2m − 1 against the probe's own measure."""
    matrix = planted(list(np.linspace(-2, 5, 40)))
    ds = spectral_density(Dense(matrix), probes=3, steps=4)
    start = torch.randn(3, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(20240603))
    assert ds.attrs["products"] == 12
    for p in range(3):
        v = (start[p] / start[p].norm()).numpy()
        for degree in range(8):
            moment = v @ np.linalg.matrix_power(matrix.numpy(), degree) @ v
            quadrature = float((ds.weights[p] * ds.nodes[p] ** degree).sum())
            np.testing.assert_allclose(quadrature, moment, rtol=1e-9)


def test_density_of_a_planted_spectrum() -> None:
    spectrum = [30.0, 20.0, *np.linspace(-1, 1, 98)]
    ds = spectral_density(Dense(planted(spectrum)), probes=60, steps=60, width=0.5)
    x, density = ds.eigenvalue.values, ds.density.values
    exact_density = np.exp(-0.5 * ((x[:, None] - spectrum) / 0.5) ** 2).mean(1) / (0.5 * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(np.trapezoid(density, x), 1, rtol=1e-3)
    inside = exact_density > 1e-3 * exact_density.max()
    assert (np.abs(density - exact_density) < 5 * ds.density_se.values + 1e-6)[inside].all()
    assert (ds.density_se.values[inside] < 0.5 * exact_density[inside]).all()


def test_exhausted_krylov_spaces_end_early() -> None:
    ds = spectral_density(Dense(planted([2.0, 2.0, 2.0, -1.0])), probes=2, steps=4)
    np.testing.assert_allclose(ds.weights.sum("step"), 1)
    assert ((ds.weights > 1e-12).sum("step") <= 2).all()
    zero = spectral_density(Dense(torch.zeros(4, 4, dtype=torch.float64)), probes=2, steps=3)
    assert np.isfinite(zero.density).all()
    assert zero.attrs["products"] == 2


def test_groups_of_probes_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from sharpflat.curvature import spectrum

    operator = Dense(planted(list(np.linspace(-2, 5, 40))))
    together = spectral_density(operator, probes=5, steps=6)
    monkeypatch.setattr(spectrum, "_BASIS_BYTES", 2 * 6 * 40 * 8)
    apart = spectral_density(operator, probes=5, steps=6)
    np.testing.assert_allclose(apart.density, together.density, rtol=1e-9, atol=1e-12)
    assert apart.attrs["products"] == together.attrs["products"] == 30


def test_density_of_a_hessian_and_its_extremes() -> None:
    problem = make("transformer")
    objective = problem.objective()
    operator = Hessian(objective, objective.theta)
    ds = spectral_density(operator, probes=4, steps=40)
    sharpness = float(top_eigenspace(operator, k=1, tolerance=1e-6).eigenvalues[0])
    np.testing.assert_allclose(float(ds.nodes.max()), sharpness, rtol=1e-6)
    mean = float((ds.weights * ds.nodes).sum("step").mean())
    trace = float(problem.dense["H"].trace()) / objective.size
    assert abs(mean - trace) < 1.0 * abs(trace) + 0.05


def test_density_refusals() -> None:
    operator = Dense(planted([1.0, 2.0]))
    for wrong in ({"probes": 0}, {"steps": 0}, {"steps": 2.0}, {"grid": 0}):
        with pytest.raises(InputError, match=f"^{next(iter(wrong))} must be an integer of at least 1, not"):
            spectral_density(operator, **wrong)
    for width in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match=f"^width must be positive and finite, not {width}"):
            spectral_density(operator, width=width)
    with pytest.raises(NonFiniteProductError, match="product 1 with the operator is not finite"):
        spectral_density(Dense(torch.full((2, 2), torch.nan)))
