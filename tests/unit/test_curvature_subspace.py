"""Projections, alignment and overlap."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from sharpflat import effective_learning_rates
from sharpflat.curvature.subspace import DominantSubspace
from sharpflat.errors import InputError

PLANE = DominantSubspace(torch.eye(4, dtype=torch.float64)[:, :2])
V = torch.tensor([3.0, 0.0, 4.0, 0.0], dtype=torch.float64)


def test_a_vector_is_the_sum_of_its_parts() -> None:
    assert PLANE.project(V).tolist() == [3, 0, 0, 0]
    assert PLANE.project_out(V).tolist() == [0, 0, 4, 0]
    both = torch.stack([V, 2 * V], dim=1)
    assert torch.equal(PLANE.project(both), torch.stack([PLANE.project(V), 2 * PLANE.project(V)], dim=1))


def test_alignment() -> None:
    assert PLANE.alignment(V).item() == pytest.approx(0.6)
    assert PLANE.alignment(torch.zeros(4, dtype=torch.float64)).item() == 0
    columns = torch.stack([V, 0 * V, PLANE.project(V), PLANE.project_out(V)], dim=1)
    assert PLANE.alignment(columns).tolist() == pytest.approx([0.6, 0, 1, 0])
    assert math.isnan(PLANE.alignment(torch.full((4,), torch.nan, dtype=torch.float64)))


def test_alignment_of_small_numbers() -> None:
    """Smaller than the least normal number of float16, which χ must not be divided by."""
    plane = DominantSubspace(PLANE.basis.half())
    assert plane.alignment(torch.tensor([3e-6, 0.0, 4e-6, 0.0]).half()).item() == pytest.approx(0.6, abs=0.02)


def test_nothing_is_left_of_a_vector_in_the_whole_space() -> None:
    turned = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(0))).Q
    assert DominantSubspace(turned).project_out(V.float()).tolist() == [0, 0, 0, 0]


def test_effective_rates_without_a_component_are_nan() -> None:
    """Up to rounding: of g in S_k, project_out leaves 1e-16 ‖g‖, and a rate of that would be an arbitrary number."""
    basis = torch.linalg.qr(torch.randn(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))).Q
    subspace, g = DominantSubspace(basis), basis.sum(1)
    assert subspace.project_out(g).norm() > 0
    dominant, bulk = effective_learning_rates(-0.1 * g, gradient=g, subspace=subspace)
    assert dominant == pytest.approx(0.1)
    assert math.isnan(bulk)
    outside = subspace.project_out(torch.ones(50, dtype=torch.float64))
    dominant, bulk = effective_learning_rates(-0.1 * outside, gradient=outside, subspace=subspace)
    assert math.isnan(dominant)
    assert bulk == pytest.approx(0.1)


@pytest.mark.parametrize("wrong", [V[:3], V[:, None], V.float(), V.to_sparse(), V.tolist()])
def test_effective_rates_need_vectors_of_the_subspace(wrong: torch.Tensor) -> None:
    for update, gradient in ((wrong, V), (V, wrong)):
        with pytest.raises(InputError, match=r"expected a tensor"):
            effective_learning_rates(update, gradient=gradient, subspace=PLANE)


@pytest.mark.parametrize("v", [V.to_sparse(), V.float(), V[:3], V[None, None], [3.0, 0.0, 4.0, 0.0]])
def test_vectors_of_another_kind_are_refused(v: torch.Tensor) -> None:
    for use in (PLANE.project, PLANE.project_out, PLANE.alignment):
        with pytest.raises(InputError, match=r"expected a tensor"):
            use(v)


def test_overlap_needs_subspaces_of_one_space() -> None:
    with pytest.raises(InputError, match=r"expected a tensor \[4, 'K'\]"):
        PLANE.overlap(DominantSubspace(torch.eye(5, dtype=torch.float64)[:, :2]))


def test_overlap() -> None:
    angle = 0.3
    tilted = DominantSubspace(
        torch.tensor([[1, 0, 0, 0], [0, math.cos(angle), math.sin(angle), 0]], dtype=torch.float64).T
    )
    assert PLANE.overlap(PLANE) == 1
    assert PLANE.overlap(tilted) == pytest.approx((1 + math.cos(angle) ** 2) / 2)
    assert PLANE.overlap(DominantSubspace(PLANE.basis[:, :1])) == 1
    assert PLANE.overlap(DominantSubspace(torch.eye(4, dtype=torch.float64)[:, 2:])) == 0
    assert (PLANE.k, PLANE.size) == (2, 4)


def test_an_overlap_is_at_most_1() -> None:
    """Also in float32, in which the squared cosines of a basis with itself may add up to more."""
    for seed in range(20):
        basis = torch.linalg.qr(torch.randn(50, 3, generator=torch.Generator().manual_seed(seed))).Q
        assert DominantSubspace(basis).overlap(DominantSubspace(basis)) <= 1
    assert math.isnan(DominantSubspace(basis).overlap(DominantSubspace(basis * math.nan, verify=False)))


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize(
    "basis", [[[1.0], [0.0]], np.eye(3)[:, :1], torch.eye(3).long(), torch.eye(3) + 0j, torch.eye(3).to_sparse()]
)
def test_a_basis_must_be_a_tensor_of_real_numbers(basis: Any, verify: bool) -> None:
    with pytest.raises(InputError, match=r"the basis must be a dense tensor of real numbers"):
        DominantSubspace(basis, verify=verify)


@pytest.mark.parametrize("basis", [torch.ones(4, 2), torch.full((4, 1), torch.nan), torch.eye(4)[:, :2] * 1.01])
def test_a_basis_must_be_orthonormal(basis: torch.Tensor) -> None:
    with pytest.raises(InputError, match="the basis is not orthonormal"):
        DominantSubspace(basis)


def test_a_basis_must_be_a_matrix() -> None:
    with pytest.raises(InputError, match=r"the basis must be a matrix \[P, k\], not \[4\]"):
        DominantSubspace(torch.ones(4))
