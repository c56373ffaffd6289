"""Inner products, norms and subspaces of millions of parameters in float32, where plain sums are wrong by 1e-3."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from analysis.rules.sam import Numbers, Rule
from analysis.training.probes import Moment
from analysis.training.probes.loss import Probe
from sharpflat.curvature import inner
from sharpflat.curvature.eigensolver import top_eigenspace
from sharpflat.curvature.inner import _one_by_one, _together, inner_products, norms
from sharpflat.curvature.orthonormal import orthonormal
from sharpflat.curvature.spectrum import spectral_density
from sharpflat.curvature.subspace import DominantSubspace

P = 3_000_000
ACCURATE = 1e-5


@pytest.fixture(scope="module")
def basis() -> Tensor:
    """Orthonormal up to rounding [P, 2]."""
    made = torch.randn(P, 2, generator=torch.Generator().manual_seed(0))
    wide = made.double()
    triangle = torch.linalg.cholesky(wide.T @ wide, upper=True)
    return torch.linalg.solve_triangular(triangle, wide, upper=True, left=False).float()


def deviation(basis: Tensor) -> float:
    """From orthonormal columns, computed in float64."""
    wide = basis.double()
    return float((wide.T @ wide - torch.eye(basis.shape[1], dtype=torch.float64)).abs().max())


WAYS = pytest.mark.parametrize("inner_products", [_one_by_one, _together])  # on a CPU, and elsewhere


@WAYS
@pytest.mark.parametrize("by_rows", [False, True])
def test_inner_products_and_norms(basis: Tensor, inner_products: Callable[[Tensor, Tensor], Tensor], by_rows: bool):
    basis = basis.T.contiguous().T if by_rows else basis.contiguous()
    found = inner_products(basis, basis)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, torch.eye(2, dtype=torch.float64), atol=ACCURATE, rtol=0)
    torch.testing.assert_close(norms(basis), torch.ones(2, dtype=torch.float64), atol=ACCURATE, rtol=0)


@WAYS
@pytest.mark.parametrize("size", [0, 1, 2**14, 2**14 + 1])
def test_inner_products_of_any_size(inner_products: Callable[[Tensor, Tensor], Tensor], size: int):
    A, B = torch.randn(size, 3, dtype=torch.float64), torch.randn(size, 2, dtype=torch.float64)
    torch.testing.assert_close(inner_products(A, B), A.T @ B)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_inner_products_in_half_precision_do_not_overflow(dtype: torch.dtype):
    vectors = 1000 * torch.ones(2**14, 1, dtype=dtype)
    assert float(inner_products(vectors, vectors)) == pytest.approx(2**14 * 1e6, rel=1e-2)


def test_only_a_cpu_multiplies_piece_by_piece(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(inner, "_one_by_one", None)
    V = torch.empty(5, 2, device="meta")
    assert inner_products(V, V).shape == (2, 2)


def test_a_subspace_of_millions_of_parameters(basis: Tensor):
    for laid_out in (basis.contiguous(), basis.T.contiguous().T):
        subspace = DominantSubspace(laid_out)  # is accepted
        first = laid_out[:, 0]
        assert float(norms(subspace.project(first) - first)) < ACCURATE
        assert float(norms(subspace.project_out(first))) < ACCURATE
        assert float(subspace.alignment(first)) == pytest.approx(1, abs=ACCURATE)
        assert subspace.overlap(subspace) == pytest.approx(1, abs=ACCURATE)


def test_rows_are_made_orthonormal(basis: Tensor):
    mixed = torch.stack([basis[:, 0] + 0.5 * basis[:, 1], 3 * basis[:, 1]])
    assert deviation(orthonormal(mixed, None).T) < ACCURATE


class Outer:
    """basis · diag(2, 1) · basisᵀ."""

    def __init__(self, basis: Tensor) -> None:
        self.basis, self.size, self.dtype, self.device = basis, len(basis), basis.dtype, basis.device

    def matmat(self, V: Tensor, /) -> Tensor:
        return self.basis @ (torch.tensor([[2.0], [1.0]]) * inner_products(self.basis, V).float())


def test_the_eigensolver_with_millions_of_parameters(basis: Tensor):
    found = top_eigenspace(Outer(basis), 2, guard=0)
    assert found.converged
    torch.testing.assert_close(found.eigenvalues, torch.tensor([2.0, 1.0]), atol=ACCURATE, rtol=0)
    assert deviation(found.eigenvectors) < ACCURATE
    assert deviation(found.start) < ACCURATE


class TwoEigenvalues:
    """A diagonal matrix of 3 and 1 in turn: Lanczos finds both in two steps."""

    size, dtype, device = P, torch.float32, torch.device("cpu")
    diagonal = torch.tensor([3.0, 1.0]).repeat(P // 2)

    def matmat(self, V: Tensor, /) -> Tensor:
        return self.diagonal[:, None] * V


def test_the_spectral_density_with_millions_of_parameters():
    found = spectral_density(TwoEigenvalues(), probes=1, steps=2)
    assert sorted(found["nodes"].values[0]) == pytest.approx([1, 3], abs=ACCURATE)


def test_sam_ascends_by_its_radius(basis: Tensor):
    seen: list[Tensor] = []

    def gradient(theta: Tensor) -> Tensor:
        seen.append(theta)
        return basis[:, 0]

    Rule(Numbers(learning_rate=1, rho=2, batch_size=50)).update(torch.zeros(P), gradient, {})
    assert float(seen[1].double().norm()) == pytest.approx(2, rel=ACCURATE)


def test_the_norms_that_the_loss_probe_measures(basis: Tensor):
    moment: Moment = SimpleNamespace(
        value_and_gradient=lambda: (torch.tensor(1.0), basis[:, 0]), theta=basis[:, 0], start=3 * basis[:, 0]
    )  # type: ignore[assignment]
    row = Probe(None, {}).measure(moment)
    assert row["gradient_norm"] == pytest.approx(1, abs=ACCURATE)
    assert row["distance"] == pytest.approx(2, rel=ACCURATE)
