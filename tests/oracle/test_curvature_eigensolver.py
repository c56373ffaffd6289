"""The eigensolver against dense matrices with planted spectra."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from analysis.curvature import DominantSubspace, top_eigenspace


class Dense:
    """A dense matrix as an operator, which counts its products."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix
        self.size, self.dtype, self.device = len(matrix), matrix.dtype, matrix.device
        self.products = 0

    def matmat(self, V: Tensor) -> Tensor:
        self.products += V.shape[1]
        return self.matrix @ V


def planted(spectrum: list[float], seed: int = 0) -> Tensor:
    """A float64 symmetric matrix with these eigenvalues."""
    q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(spectrum), len(spectrum))))
    return torch.from_numpy(q * np.array(spectrum) @ q.T)


BULK = list(np.linspace(-0.5, 0.9, 90))
SPECTRA = {
    "separated": [9, 8, 7, 6, 5, *BULK],
    "cluster": [5, 5, 5, 5, 5, *BULK],
    "tight": [5.0, 4.0, 3.0, 2.0, 1.001, 1.0, 1.0, *BULK],
    "negative": [-1.0, -1.1, -1.2, -2.0, -3.0, *np.linspace(-90, -5, 50)],
    "mostly negative": [2.0, 1.0, -0.5, -0.7, -0.9, *np.linspace(-9, -2, 50)],
    "low rank": [3.0, 2.0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
}


@pytest.mark.parametrize("name", SPECTRA)
def test_planted_spectra_from_a_cold_start(name: str) -> None:
    matrix = planted(SPECTRA[name])
    operator = Dense(matrix)
    r = top_eigenspace(operator, k=5, tol=1e-7, max_products=2000)
    assert r.converged
    assert r.products == operator.products
    expected = np.linalg.eigvalsh(matrix.numpy())[::-1][:5]
    np.testing.assert_allclose(r.eigenvalues.numpy(), expected, atol=1e-8 * 90)
    torch.testing.assert_close(r.eigenvectors.T @ r.eigenvectors, torch.eye(5, dtype=torch.float64))
    defect = torch.linalg.vector_norm(matrix @ r.eigenvectors - r.eigenvectors * r.eigenvalues, dim=0)
    torch.testing.assert_close(r.residuals, defect, rtol=1e-3, atol=1e-9)


def test_a_warm_start_costs_one_block_and_stays_right() -> None:
    matrix = planted(SPECTRA["separated"])
    first = top_eigenspace(Dense(matrix), k=5, tol=1e-6)
    moved = matrix + 1e-3 * planted(list(np.linspace(-1, 1, 95)), seed=1)
    r = top_eigenspace(Dense(moved), k=5, init=first.basis, tol=1e-2)
    assert r.converged
    assert r.products == first.basis.shape[1] == 7
    dense = torch.linalg.eigh(moved).eigenvectors.flip(1)[:, :5]
    assert DominantSubspace(r.eigenvectors).overlap(DominantSubspace(dense)) > 0.99999
