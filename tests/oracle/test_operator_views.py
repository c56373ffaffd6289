"""`H @ v`, `H @ V` and the SciPy view of every operator, against the dense matrix and SciPy's eigsh in float64."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import nn

from sharpflat.curvature.base import Operator
from sharpflat.curvature.closure import LossHessian
from sharpflat.curvature.eigensolver import top_eigenspace
from sharpflat.curvature.objective import Objective
from sharpflat.curvature.operators import FunctionalHessian, GaussNewton, Hessian
from sharpflat.errors import InputError

KINDS = ["Hessian", "GaussNewton", "FunctionalHessian", "LossHessian"]


def operator(kind: str, dtype: torch.dtype = torch.float64) -> Operator:
    generator = torch.Generator().manual_seed(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).to(dtype)
    inputs = torch.randn(20, 3, dtype=torch.float64, generator=generator).to(dtype)
    targets = torch.randint(2, (20,), generator=generator)
    if kind == "LossHessian":
        return LossHessian(lambda: nn.functional.cross_entropy(model(inputs), targets), model.parameters())
    objective = Objective(model, "cross_entropy", inputs, targets, chunk_size=7)
    kinds = {"Hessian": Hessian, "GaussNewton": GaussNewton, "FunctionalHessian": FunctionalHessian}
    return kinds[kind](objective, objective.theta)


@pytest.mark.parametrize("kind", KINDS)
def test_at_is_matvec_and_matmat_to_the_bit(kind: str) -> None:
    H = operator(kind)
    V = torch.randn(H.size, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    assert H.shape == (H.size, H.size) == (26, 26)
    assert torch.equal(H @ V, H.matmat(V))
    assert torch.equal(H @ V[:, 0], H.matvec(V[:, 0]))
    torch.testing.assert_close(H @ V[:, 0], (H @ V)[:, 0], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_the_scipy_view_multiplies_as_the_operator_does(kind: str) -> None:
    H = operator(kind)
    view = H.to_scipy()
    assert isinstance(view, LinearOperator)
    assert (view.shape, view.dtype) == ((26, 26), np.float64)
    V = np.random.default_rng(2).standard_normal((26, 5))
    V.setflags(write=False)
    expected = H.matmat(torch.from_numpy(V.copy())).numpy()
    np.testing.assert_array_equal(view.matmat(V), expected)
    np.testing.assert_array_equal(view @ V, expected)
    vector = H.matvec(torch.from_numpy(V[:, 0].copy())).numpy()
    for product in (view.matvec, view.rmatvec):
        np.testing.assert_array_equal(product(V[:, 0]), vector)
        np.testing.assert_allclose(product(V[:, :1]), vector[:, None], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_eigsh_finds_what_ours_finds(kind: str) -> None:
    H = operator(kind)
    dense = (H @ torch.eye(H.size, dtype=torch.float64)).numpy()
    expected = np.linalg.eigvalsh((dense + dense.T) / 2)[::-1][:3]
    values, vectors = eigsh(H.to_scipy(), k=3, which="LA", tol=1e-12)
    np.testing.assert_allclose(values[::-1], expected, rtol=1e-9, atol=1e-12)
    ours = top_eigenspace(H, 3, tolerance=1e-10, max_products=2000)
    np.testing.assert_allclose(ours.eigenvalues.numpy(), expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(np.abs(vectors[:, ::-1].T @ ours.eigenvectors.numpy()), np.eye(3), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_other_shapes_and_types_are_refused(kind: str) -> None:
    H = operator(kind)
    for shape in ((25,), (25, 2), (26, 2, 2), (), (2, 26)):
        with pytest.raises(InputError, match=r"^expected a tensor \[26"):
            H @ torch.zeros(shape, dtype=torch.float64)
    with pytest.raises(InputError, match=r"of torch.float64 on cpu, not .* of torch.float32"):
        H @ torch.zeros(26)
    with pytest.raises(InputError, match=r"^expected a tensor, not a ndarray; to_scipy\(\) takes NumPy arrays$"):
        H @ np.zeros(26)
    view = H.to_scipy()
    with pytest.raises(ValueError, match="dimension mismatch"):
        view.matvec(np.zeros(25))
    with pytest.raises(InputError, match="the operator is real"):
        view @ np.zeros(26, dtype=complex)


def test_what_scipy_cannot_have_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert operator("Hessian", torch.float32).to_scipy().dtype == np.float32
    with pytest.raises(InputError, match=r"NumPy has no dtype like torch.bfloat16"):
        operator("Hessian", torch.bfloat16).to_scipy()
    monkeypatch.setitem(sys.modules, "scipy.sparse.linalg", None)
    with pytest.raises(InputError, match=r"^to_scipy\(\) needs SciPy: pip install scipy$"):
        operator("Hessian").to_scipy()
