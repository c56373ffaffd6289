"""The eigensolver against dense matrices with planted spectra."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.sparse.linalg import aslinearoperator
from torch import Tensor

from sharpflat.curvature.eigensolver import top_eigenspace
from sharpflat.curvature.estimators import diagonal, trace
from sharpflat.curvature.operators import Hessian
from sharpflat.curvature.searchspace import SearchSpace
from sharpflat.curvature.spectrum import spectral_density
from sharpflat.curvature.subspace import DominantSubspace
from sharpflat.curvature.symmetric import NonFiniteProductError
from sharpflat.errors import InputError
from tests.oracle.conftest import Problem


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


def top(matrix: Tensor, k: int) -> DominantSubspace:
    return DominantSubspace(torch.from_numpy(np.linalg.eigh(matrix.numpy())[1][:, ::-1][:, :k].copy()))


BULK = list(np.linspace(-0.5, 0.9, 90))
SPECTRA = {
    "separated": [9, 8, 7, 6, 5, *BULK],
    "cluster": [5, 5, 5, 5, 5, *BULK],
    "two clusters": [9, 9, 4, 4, 4, *BULK],
    "k-th close to the next": [5.0, 4.0, 3.0, 2.0, 1.001, 1.0, 1.0, *BULK],
    "all negative": [-1.0, -1.1, -1.2, -2.0, -3.0, *np.linspace(-90, -5, 50)],
    "larger negative ones": [2.0, 1.0, 0.5, 0.4, 0.3, *np.linspace(-9, -2, 50)],
    "low rank": [3.0, 2.0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    "zero": [0.0] * 30,
    "identity": [1.0] * 30,
    "graded": list(10.0 ** -np.arange(12.0)),
}


def test_pairs_beyond_k_have_a_tolerance_of_their_own() -> None:
    """The tolerance is relative to λ_1, and that of the first k is relative to λ_k: here 1e-3 · 3 and 0.05 · 50."""
    matrix = planted([50.0, 20.0, 3.0, 2.0, 1.5, 1.2, *BULK])
    operator = Dense(matrix)
    found = top_eigenspace(operator, 3, tolerance=1e-3, beyond=3, beyond_tolerance=0.05, block=1)
    exact = torch.linalg.eigvalsh(matrix).flip(0)
    assert found.converged
    assert found.eigenvalues.shape == found.residuals.shape == (6,)
    assert found.residuals[:3].max() <= 1e-3 * 3.0
    assert found.residuals[3:].max() <= 0.05 * 50.0
    assert found.residuals[3:].max() > 1e-2  # no more work than they ask for
    assert (found.eigenvalues - exact[:6]).abs().max() <= 0.05 * 50.0
    assert (found.eigenvalues[:3] - exact[:3]).abs().max() <= 1e-5
    tight = top_eigenspace(Dense(matrix), 6, tolerance=1e-3, block=1)
    assert operator.products == found.products < tight.products
    assert found.start.shape[1] >= 6


def test_no_pair_beyond_k_is_what_it_was_without() -> None:
    matrix = planted(SPECTRA["separated"])
    plain, none = (top_eigenspace(Dense(matrix), 5, **more) for more in ({}, {"beyond": 0, "beyond_tolerance": 0.5}))
    assert torch.equal(plain.eigenvectors, none.eigenvectors)
    assert plain.products == none.products


def test_pairs_beyond_k_that_are_missing_are_not_converged() -> None:
    found = top_eigenspace(
        Dense(planted(SPECTRA["separated"])), 2, tolerance=0.5, beyond=10, beyond_tolerance=1e-6, max_products=60
    )
    assert not found.converged
    assert found.residuals[:2].max() <= 0.5 * found.eigenvalues[1]
    assert found.residuals[2:].max() > 1e-6 * found.eigenvalues[0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"beyond": -1}, "beyond"),
        ({"beyond": 3, "beyond_tolerance": -0.1}, "tolerance must be a finite number of at least 0, not -0.1"),
        ({"beyond": 3, "max_products": 4}, "max_products (4) must be at least k + beyond (5)"),
    ],
)
def test_wrong_numbers_of_pairs_beyond_k_are_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        top_eigenspace(Dense(planted(SPECTRA["separated"])), 2, **wrong)


@pytest.mark.parametrize("name", SPECTRA)
def test_planted_spectra_from_a_cold_start(name: str) -> None:
    matrix = planted(SPECTRA[name])
    operator = Dense(matrix)
    r = top_eigenspace(operator, k=5, tolerance=1e-7, max_products=2000)
    assert r.converged
    assert r.products == operator.products
    spectrum = np.linalg.eigvalsh(matrix.numpy())[::-1]
    np.testing.assert_allclose(r.eigenvalues.numpy(), spectrum[:5], atol=1e-8 * np.abs(spectrum).max())
    torch.testing.assert_close(r.eigenvectors.T @ r.eigenvectors, torch.eye(5, dtype=torch.float64))
    defect = torch.linalg.vector_norm(matrix @ r.eigenvectors - r.eigenvectors * r.eigenvalues, dim=0)
    torch.testing.assert_close(r.residuals, defect, rtol=1e-3, atol=1e-12 * max(1, np.abs(spectrum).max()))


def test_the_subspace_is_right_where_there_is_a_gap() -> None:
    for name in ("separated", "cluster", "two clusters", "all negative", "larger negative ones"):
        matrix = planted(SPECTRA[name])
        r = top_eigenspace(Dense(matrix), k=5, tolerance=1e-6, max_products=2000)
        assert DominantSubspace(r.eigenvectors).overlap(top(matrix, 5)) > 1 - 1e-8, name


@pytest.mark.parametrize("k", [5, 6, 50])
def test_k_up_to_and_beyond_the_dimension(k: int) -> None:
    matrix = planted([3.0, 1.0, 0.0, -1.0, -7.0])
    r = top_eigenspace(Dense(matrix), k=k)
    assert r.converged
    assert r.eigenvectors.shape == r.start.shape == (5, 5)
    np.testing.assert_allclose(r.eigenvalues.numpy(), [3, 1, 0, -1, -7], atol=1e-12)


def test_two_dimensions() -> None:
    r = top_eigenspace(Dense(planted([2.0, -5.0])), k=1)
    assert r.converged
    assert r.eigenvectors.shape == (2, 1)
    np.testing.assert_allclose(r.eigenvalues.numpy(), [2.0], atol=1e-12)


def test_a_restart_loses_nothing() -> None:
    matrix = planted([*np.linspace(1.2, 1.0, 5), *np.linspace(-1, 0.99, 150)])
    operator = Dense(matrix)
    r = top_eigenspace(operator, k=5, tolerance=1e-6, max_products=5000, max_basis=25)
    assert r.converged
    assert DominantSubspace(r.eigenvectors).overlap(top(matrix, 5)) > 1 - 1e-6


def test_a_narrow_cold_start_needs_fewer_products() -> None:
    matrix = planted(SPECTRA["separated"])
    wide = top_eigenspace(Dense(matrix), k=5, tolerance=1e-4)
    narrow = top_eigenspace(Dense(matrix), k=5, tolerance=1e-4, block=1)
    assert wide.converged
    assert narrow.converged
    assert narrow.products < 0.7 * wide.products
    assert DominantSubspace(narrow.eigenvectors).overlap(top(matrix, 5)) > 1 - 1e-6


def test_a_warm_start_costs_one_block_and_stays_right() -> None:
    matrix = planted(SPECTRA["separated"])
    first = top_eigenspace(Dense(matrix), k=5, tolerance=1e-6)
    moved = matrix + 1e-3 * planted(list(np.linspace(-1, 1, 95)), seed=1)
    r = top_eigenspace(Dense(moved), k=5, start=first.start, tolerance=1e-2)
    assert r.converged
    assert r.products == first.start.shape[1] == 7
    assert DominantSubspace(r.eigenvectors).overlap(top(moved, 5)) > 0.99999


def test_the_basis_is_a_step_ahead_of_the_eigenvectors() -> None:
    matrix = planted(SPECTRA["separated"])
    r = top_eigenspace(Dense(matrix), k=5, tolerance=0.3, block=7)
    exact = top(matrix, 5)
    error = 1 - DominantSubspace(r.eigenvectors).overlap(exact)
    ahead = 1 - DominantSubspace(r.start[:, :5]).overlap(exact)
    assert error > 1e-6, "the test needs an error"
    assert ahead < 0.2 * error  # the bulk reaches to 0.9, λ_k is 5: (0.9/5)² at best


def test_a_search_ends_early_where_a_power_step_changes_little_enough() -> None:
    matrix = planted(SPECTRA["separated"])
    asked = []

    def enough(basis: Tensor, stepped: Tensor, remaining: float) -> bool:
        asked.append(1 - DominantSubspace(basis).overlap(DominantSubspace(stepped)))
        return asked[-1] < 1e-3

    r = top_eigenspace(Dense(matrix), k=5, tolerance=1e-9, block=2, enough=enough)
    exact = top_eigenspace(Dense(matrix), k=5, tolerance=1e-9, block=2)
    assert r.converged
    assert asked[-1] < 1e-3 <= asked[-2]  # not later, and not before
    assert r.products < exact.products
    assert 1 - DominantSubspace(r.start[:, :5]).overlap(top(matrix, 5)) < 1e-3
    # The first columns of `start` are just what the step makes of the eigenvectors, whatever its guard vectors are.
    step = DominantSubspace(torch.linalg.qr(matrix @ r.eigenvectors)[0])
    assert DominantSubspace(r.start[:, :5]).overlap(step) > 1 - 1e-12


@pytest.mark.parametrize("which", ["largest", "magnitude"])
@pytest.mark.parametrize("lowest", [0.0, -12.0])
def test_what_can_remain_after_a_power_step_is_not_less_than_what_does(which: str, lowest: float) -> None:
    """As angles, in the largest direction, at each round of a search among close eigenvalues."""
    matrix = planted([9, 8, 7, 6, 5, *np.linspace(4.9, 4.0, 20), *np.linspace(1.0, lowest, 30)])
    exact = top_eigenspace(Dense(matrix), k=5, tolerance=1e-9, which=which).eigenvectors
    seen = []

    def sine(a: Tensor, b: Tensor) -> float:
        return float(torch.linalg.matrix_norm(a - b @ (b.T @ a), ord=2))

    def enough(basis: Tensor, stepped: Tensor, remaining: float) -> bool:
        seen.append((sine(stepped, exact), remaining * sine(basis, stepped)))
        return False

    top_eigenspace(Dense(matrix), k=5, tolerance=1e-6, guard=0, which=which, enough=enough)
    close = [pair for pair in seen if pair[0] < 0.1]  # where Ritz values are near the eigenvalues
    assert len(close) > 2, "the test needs rounds"
    assert all(error <= 1.5 * bound for error, bound in close)
    assert any(error >= 0.05 * bound for error, bound in close), "the bound says something"


@pytest.mark.parametrize(
    ("spectrum", "magnitude", "expected"),
    [
        ([8.0, 4.0, 2.0, 0.0], False, 1.0),  # ρ = 2/4
        ([8.0, 4.0, 2.0, -12.0], False, 3.0),  # with σ = (−12 + 4)/2, ρ = (2 + 4)/(4 + 4)
        ([-8.0, 4.0, -3.0, 0.0], True, 3.0),  # ρ = 3/4
        ([8.0, 4.0, 4.0, 0.0], False, math.inf),
    ],
)
def test_what_can_remain_after_a_power_step(spectrum: list[float], magnitude: bool, expected: float) -> None:
    search = SearchSpace(Dense(torch.diag(torch.tensor(spectrum, dtype=torch.float64))), magnitude)
    axes = torch.eye(4, dtype=torch.float64)
    search.expand(axes[:2])
    assert search.remaining(2) == math.inf  # the third eigenvalue is not known
    search.expand(axes[2:])
    assert search.remaining(2) == pytest.approx(expected)
    assert search.remaining(4) == 0.0  # all of the space


def test_where_a_power_step_helps_nothing_it_ends_no_search() -> None:
    """All eigenvalues are far below zero and alike, so that wanted and unwanted vectors would shrink alike."""
    matrix = planted([*np.linspace(-80, -84, 5), *np.linspace(-85, -90, 50)])
    asked = []

    def enough(basis: Tensor, stepped: Tensor, remaining: float) -> bool:
        asked.append(basis)
        return True

    r = top_eigenspace(Dense(matrix), k=5, tolerance=1e-3, enough=enough)
    assert r.converged
    assert r.products > 7, "the test needs several rounds"
    assert not asked


@pytest.mark.slow
@pytest.mark.parametrize("lowest", [-0.5, -30.0])
def test_warm_starts_along_a_drift(lowest: float) -> None:
    """Also with eigenvalues far below −λ_k, which a plain power step would blow up (10 products a step)."""
    matrix = planted([9, 8, 7, 6, 5, *np.linspace(lowest, 0.9, 90)])
    drift = 0.02 * planted(list(np.linspace(-1, 1, 95)), seed=1)
    r = top_eigenspace(Dense(matrix), k=5)
    products = 0
    for step in range(1, 31):
        moved = matrix + step * drift
        r = top_eigenspace(Dense(moved), k=5, start=r.start, tolerance=0.05)
        products += r.products
        assert r.converged
        assert DominantSubspace(r.eigenvectors).overlap(top(moved, 5)) > 0.9999
    assert products <= 30 * 7 + 6  # one block a step


def test_a_vector_that_grows_into_the_top_is_found() -> None:
    """The sixth eigenvalue overtakes the fifth along the way."""
    matrix = planted([9, 8, 7, 6, 5, 3, *BULK])
    vector = torch.linalg.eigh(matrix).eigenvectors[:, -6]
    r = top_eigenspace(Dense(matrix), k=5)
    for step in range(1, 41):
        moved = matrix + 0.1 * step * torch.outer(vector, vector)
        r = top_eigenspace(Dense(moved), k=5, start=r.start, tolerance=0.05)
    np.testing.assert_allclose(r.eigenvalues.numpy(), [9, 8, 7, 7, 6], rtol=1e-3)


class Diagonal:
    """A diagonal matrix as an operator."""

    dtype, device = torch.float64, torch.device("cpu")

    def __init__(self, spectrum: Iterable[float]) -> None:
        self.diagonal = torch.tensor(list(spectrum), dtype=torch.float64)
        self.size = len(self.diagonal)

    def matmat(self, V: Tensor) -> Tensor:
        return self.diagonal[:, None] * V


@pytest.mark.parametrize("gap", [0.02, 0.045])
@pytest.mark.parametrize("largest", [[1.0], [3.0, 2.0, 1.0]])
def test_the_next_eigenvalue_is_not_returned_instead_of_the_kth(largest: list[float], gap: float) -> None:
    """Its residual can be within the tolerance while the k-th is still missing."""
    operator = Diagonal([*largest, 1 - gap, *np.linspace(0.9 * (1 - gap), 0, 300)])
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        r = top_eigenspace(operator, k=len(largest), generator=generator)
        assert r.converged
        np.testing.assert_allclose(r.eigenvalues.numpy(), largest, rtol=gap / 10)


def test_a_start_with_too_few_vectors_is_no_warm_start() -> None:
    """The rest is random, so the search is as thorough as from random vectors."""
    operator = Diagonal([2.0] * 4 + [1.99] * 2 + list(np.linspace(1.8, 0, 300)))
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)
        start = torch.randn(operator.size, 3, generator=generator)
        r = top_eigenspace(operator, k=4, start=start, generator=generator)
        assert r.converged
        np.testing.assert_allclose(r.eigenvalues.numpy(), 2.0, rtol=1e-3)


@pytest.mark.parametrize("which", ["largest", "magnitude"])
def test_no_copy_is_missed(which: str) -> None:
    signs = [1, -1, 1] if which == "magnitude" else [1, 1, 1]
    operator = Diagonal([2.0 * signs[0], 2.0 * signs[1], 2.0 * signs[2], 1.9, 1.9, *np.linspace(-1.5, 1.5, 300)])
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        r = top_eigenspace(operator, k=3, tolerance=0.05, which=which, generator=generator)
        assert r.converged
        assert (r.eigenvalues.abs() > 1.95).all()


def test_a_search_that_may_have_missed_an_eigenvalue_says_so() -> None:
    operator = Diagonal([1.0, 0.98, *np.linspace(0.88, 0, 500)])
    r = top_eigenspace(operator, k=1, max_products=15, generator=torch.Generator().manual_seed(0))
    assert not r.converged
    assert "a larger eigenvalue may have been missed" in r.reason


@pytest.mark.parametrize("which", ["largest", "smallest", "magnitude"])
def test_a_start_that_is_orthogonal_to_all_that_is_wanted(which: str) -> None:
    """As after a change from one head of a model to another, whose Hessian was zero before."""
    sign = -1 if which == "smallest" else 1
    spectrum = np.array([5.0, 4.0, 3.0, *np.linspace(0.9, 0, 47)]) * sign
    before = top_eigenspace(Diagonal([*spectrum, *np.zeros(50)]), k=3, which=which)
    after = top_eigenspace(Diagonal([*np.zeros(50), *spectrum]), k=3, which=which, start=before.start)
    assert after.converged
    np.testing.assert_allclose(after.eigenvalues.numpy(), spectrum[:3], rtol=1e-2)


def test_starts_of_any_shape() -> None:
    matrix = planted(SPECTRA["separated"])
    exact = top(matrix, 5)
    generator = torch.Generator().manual_seed(1)
    wide = torch.randn(95, 20, dtype=torch.float64, generator=generator)
    starts = {
        "narrow": wide[:, :2],
        "wide": wide,
        "dependent": torch.cat([wide[:, :3], wide[:, :3]], dim=1),
        "of mixed scale": wide[:, :7] * 10.0 ** torch.arange(0, -70, -10),
        "zero": torch.zeros(95, 7, dtype=torch.float64),
        "float32": wide[:, :7].float(),
        "wider than the space": torch.randn(95, 120, dtype=torch.float64, generator=generator),
    }
    for name, start in starts.items():
        r = top_eigenspace(Dense(matrix), k=5, start=start, tolerance=1e-5)
        assert r.converged, name
        assert DominantSubspace(r.eigenvectors).overlap(exact) > 1 - 1e-6, name


@pytest.mark.parametrize("function", [lambda A: top_eigenspace(A, k=1), trace, diagonal, spectral_density])
def test_what_is_no_operator_is_refused(function: Callable[[Any], object]) -> None:
    matrix = planted([2.0, 1.0])
    for wrong in (matrix, matrix.numpy(), aslinearoperator(matrix.numpy()), None):
        with pytest.raises(InputError, match=rf"operator must have size, .* found a {type(wrong).__name__}\."):
            function(wrong)


def test_too_few_products_are_reported() -> None:
    matrix = planted([*np.linspace(1.05, 1.0, 5), *np.linspace(-1, 0.99, 150)])
    for limit in (5, 6, 20):
        operator = Dense(matrix)
        r = top_eigenspace(operator, k=5, tolerance=1e-6, max_products=limit)
        assert not r.converged
        assert operator.products == r.products == limit
        assert float(r.residuals.max()) > 1e-6 * float(r.eigenvalues[-1])


def test_the_generator_decides() -> None:
    matrix = planted(SPECTRA["separated"])

    def solve(seed: int | None) -> Tensor:
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        return top_eigenspace(Dense(matrix), k=5, generator=generator).eigenvectors

    before = torch.random.get_rng_state()
    assert torch.equal(solve(None), solve(None))
    assert torch.equal(solve(1), solve(1))
    assert not torch.equal(solve(1), solve(2))
    assert torch.equal(before, torch.random.get_rng_state())


def test_nan_names_the_product() -> None:
    class Bad(Dense):
        def matmat(self, V: Tensor) -> Tensor:
            images = super().matmat(V)
            if self.products > 10:
                images[3, 11 - self.products - 1 + V.shape[1]] = self.poison
            return images

        poison = float("nan")

    for poison in (float("nan"), float("inf")):
        Bad.poison = poison
        message = "product 11 with the operator is not finite"
        with pytest.raises(NonFiniteProductError, match=f"^{re.escape(message)}$"):
            top_eigenspace(Bad(planted(SPECTRA["separated"])), k=5, tolerance=1e-9)


def test_an_operator_that_is_not_symmetric_is_refused() -> None:
    matrix = planted(SPECTRA["separated"])
    matrix[3, 5] += 1.0
    for start in (None, torch.eye(95, 7, dtype=torch.float64)):
        with pytest.raises(InputError, match=r"^the operator is not symmetric"):
            top_eigenspace(Dense(matrix), k=5, start=start, tolerance=1e-9)
    # With one vector at a time only the products with earlier ones can tell.
    with pytest.raises(InputError, match=r"^the operator is not symmetric"):
        top_eigenspace(Dense(matrix), k=1, block=1, guard=0, tolerance=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "^k must be an integer of at least 1, not 0$"),
        ({"k": 1.0}, "^k must be an integer of at least 1, not 1.0$"),
        ({"k": 2, "block": 0}, "^block must be an integer of at least 1, not 0$"),
        ({"k": 2, "guard": -1}, "^guard must be an integer of at least 0, not -1$"),
        ({"k": 2, "max_products": 2.5}, "^max_products must be an integer of at least 1, not 2.5$"),
        ({"k": 2, "tolerance": float("nan")}, "^tolerance must be a finite number of at least 0, not nan$"),
        ({"k": 2, "tolerance": -1}, "^tolerance must be a finite number of at least 0, not -1$"),
        ({"k": 2, "tolerance": float("inf")}, "^tolerance must be a finite number of at least 0, not inf$"),
        ({"k": 5, "max_products": 4}, r"max_products \(4\) must be at least k \(5\)"),
        ({"k": 1, "start": torch.zeros(3, 1)}, r"start must be a finite matrix \[12, m\], not \[3, 1\]"),
        ({"k": 1, "start": torch.full((12, 1), torch.nan)}, "start must be a finite matrix"),
    ],
)
def test_wrong_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        top_eigenspace(Dense(planted(SPECTRA["low rank"])), **arguments)


@pytest.mark.slow
def test_float32_with_a_wide_spectrum() -> None:
    matrix = planted([100, 50, 20, 10, 5, *np.linspace(-2, 2, 300)]).float()
    r = top_eigenspace(Dense(matrix), k=5, tolerance=1e-3)
    assert r.converged
    assert r.eigenvectors.dtype == torch.float32
    torch.testing.assert_close(r.eigenvectors.T @ r.eigenvectors, torch.eye(5), atol=1e-5, rtol=0)
    assert DominantSubspace(r.eigenvectors).overlap(DominantSubspace(top(matrix.double(), 5).basis.float())) > 0.9999
    # A tolerance below what float32 can reach must end, too.
    assert top_eigenspace(Dense(matrix), k=5, tolerance=1e-12).products < 200


@pytest.mark.parametrize("scale", [1e-36, 1e-24, 1e24, 1e34])
def test_the_scale_of_the_operator_does_not_matter(scale: float) -> None:
    """Not even where the squares of its float32 products underflow or overflow."""
    matrix = planted([5.0, 4.0, 3.0, *np.linspace(1, 2, 30)])
    plain, scaled = (top_eigenspace(Dense((matrix * factor).float()), 3, tolerance=1e-3) for factor in (1.0, scale))
    assert scaled.converged
    assert scaled.products == plain.products
    np.testing.assert_allclose(scaled.eigenvalues / scale, [5.0, 4.0, 3.0], rtol=1e-5)
    np.testing.assert_allclose(scaled.residuals / scale, plain.residuals, rtol=0.1, atol=1e-4)
    assert DominantSubspace(scaled.eigenvectors).overlap(DominantSubspace(plain.eigenvectors)) > 1 - 1e-6


@pytest.mark.parametrize("seed", range(4))
def test_eigenvalues_that_rounding_hides_are_not_converged(seed: int) -> None:
    """λ_2 and λ_3 are 40 times the rounding of the entries of A, and have no digit right."""
    hidden = top_eigenspace(Dense(planted([1e6, 5.0, 4.9, *np.linspace(1, 4.8, 57)], seed).float()), 3)
    assert not hidden.converged
    assert "use float64" in str(hidden.reason)
    of_rank_1 = top_eigenspace(Dense(planted([1e6, *[0.0] * 59], seed).float()), 3)
    assert of_rank_1.converged


def test_the_hessian_of_each_model(problem: Problem) -> None:
    objective = problem.objective(3)
    r = top_eigenspace(Hessian(objective, objective.theta), k=3, tolerance=1e-6, max_products=1000)
    assert r.converged
    expected = np.linalg.eigvalsh(problem.dense["H"].numpy())[::-1][:3]
    np.testing.assert_allclose(r.eigenvalues.numpy(), expected, rtol=1e-9)


@settings(max_examples=60, deadline=None, derandomize=True)
@example(spectrum=[0.0, 7.0e-282], k=1, warm=False, guard=1, seed=0)  # its squares underflow
@given(
    spectrum=st.lists(st.one_of(st.floats(-10, 10), st.sampled_from([0.0, 1.0, -1.0, 1e-3])), min_size=1, max_size=25),
    k=st.integers(1, 8),
    warm=st.booleans(),
    guard=st.integers(0, 3),
    seed=st.integers(0, 1000),
)
def test_any_spectrum(spectrum: list[float], k: int, warm: bool, guard: int, seed: int) -> None:
    matrix = planted(spectrum, seed)
    start = None
    if warm:
        start = torch.randn(len(spectrum), k, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    r = top_eigenspace(Dense(matrix), k=k, start=start, tolerance=1e-8, max_products=5000, guard=guard)
    k = min(k, len(spectrum))
    scale = max(1e-12, float(np.abs(spectrum).max()))
    assert r.converged
    assert bool((r.eigenvalues.diff() <= 0).all())
    torch.testing.assert_close(r.eigenvectors.T @ r.eigenvectors, torch.eye(k, dtype=torch.float64))
    torch.testing.assert_close(r.start.T @ r.start, torch.eye(r.start.shape[1], dtype=torch.float64), atol=1e-9, rtol=0)
    # Ritz values are below the eigenvalues, and each residual bounds the distance to some eigenvalue.
    expected = np.sort(spectrum)[::-1][:k]
    assert (r.eigenvalues.numpy() <= expected + 1e-11 * scale).all()
    np.testing.assert_allclose(r.eigenvalues.numpy(), expected, atol=1e-6 * scale)
