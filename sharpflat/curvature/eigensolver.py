"""The largest eigenvalues of a symmetric operator, by block Krylov iteration with Rayleigh–Ritz.

There is one method for a cold and a warm start. The search space W starts as a random block (cold) or as the
`start` of the previous result (warm). Each round applies the operator to the newest block, computes Ritz pairs
from all of W, and expands W by residuals, compressed to their numerical rank. From a random block, these are the
residuals of all wanted pairs and of the guard pairs below them. This is block Krylov iteration (block Lanczos with
full reorthogonalisation). If the pairs within a loose tolerance were left out, copies of a multiple eigenvalue could
be missed: an eigenvector of a smaller one converges in their place. For the same reason the search continues while a
guard pair that has not converged may belong to one of the wanted eigenvalues. From a good start, only the wanted
pairs that have not converged expand W, and the solution costs little more than the products with the start block.

The warm start is good, and this costs nothing: the images A U of the last block are known, so `start` is one power
step ahead of its Ritz vectors. The table shows measurements on tanh MLPs after 1,000 steps, with one SGD step per
refresh and k = 10. It gives the mean of 1 − overlap with tight eigenvectors for 784-200-200-10 with 5,000 images,
and then for 784-32-32-10 with 1,000 images:

    started from                        products    1 − overlap             residual / λ_k
    previous Ritz vectors               10          2.7e-4; 7.7e-4          0.03; 0.07
    previous `start`, guard 0           10          1.2e-4; 1.8e-4          0.02; 0.03
    previous `start`, tolerance 0.01    20          < 1e-5; 1e-5            < 0.01
    SciPy eigsh, cold, tolerance 0      30; 35      0                       0

So a tolerance of 0.03 to 0.1 costs one block product per step. Guard vectors matter if λ_k ≈ λ_{k+1}. With
cross-entropy, λ_k/λ_{k+1} = 1.07 and tolerance 0.03, two of them reduce 1 − overlap from 2.5e-3 to 6e-4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf

import torch
from torch import Tensor

from sharpflat.arguments import check_counts, check_tolerance, cpu_generator
from sharpflat.curvature.modes import without_autocast
from sharpflat.curvature.orthonormal import orthonormal
from sharpflat.curvature.searchspace import SearchSpace
from sharpflat.curvature.symmetric import SymmetricOperator, check_operator
from sharpflat.errors import InputError

_SEED = 20240601  # of random vectors, if no generator is given
_MIXED = 0.01  # size of the random part of a warm start's last guard vector


Enough = Callable[[Tensor, Tensor, float], bool]
"""Whether Ritz vectors [P, K] after one power step are accurate enough. The arguments are the Ritz vectors and the same
vectors after the step, both orthonormal, and the largest error that can remain after the step, relative to the change
that the step makes."""


@dataclass(frozen=True)
class TopEigenspace:
    """The K = k + `beyond` algebraically largest eigenpairs, and their accuracy (see `top_eigenspace`).

    Attributes:
        eigenvalues: [K], descending (see `which`).
        eigenvectors: [P, K], orthonormal columns.
        residuals: [K], ‖A u_i − λ_i u_i‖, from products with exactly these vectors.
        products: Number of matrix-vector products used. A block of m counts m.
        converged: Whether every residual is within its tolerance or `enough` accepted the vectors, and the products are
            more than rounding errors.
        reason: Why it did not converge; None if it did.
        start: [P, m] with K <= m <= K + guard, orthonormal. It is the block from which to start the next solve nearby.
            It is one power step ahead of the Ritz vectors, in their order, and usually more accurate, but no product
            verifies it. Its first K columns span the image of `eigenvectors` under that step.
    """

    eigenvalues: Tensor
    eigenvectors: Tensor
    residuals: Tensor
    products: int
    converged: bool
    start: Tensor
    reason: str | None = None


def top_eigenspace(
    operator: SymmetricOperator,
    k: int,
    *,
    start: Tensor | None = None,
    tolerance: float = 1e-2,
    max_products: int | None = None,
    generator: torch.Generator | None = None,
    guard: int = 2,
    block: int | None = None,
    max_basis: int | None = None,
    which: str = "largest",
    beyond: int = 0,
    beyond_tolerance: float = 1e-2,
    enough: Enough | None = None,
) -> TopEigenspace:
    """The k algebraically largest (or smallest, or largest in magnitude) eigenvalues of a symmetric operator.

    The solver stops when every wanted pair has ‖A u_i − λ_i u_i‖ ≤ tolerance · |λ_k|, or ≤ 50 ε max|λ|, which is what
    rounding allows (ε is the precision of the dtype). From random vectors, it also needs that no guard pair whose
    residual is larger than this can reach λ_k, since a small residual belongs to some eigenpair, not always to a wanted
    one. No stopping rule can notice an eigenvector that is exactly orthogonal to the Krylov space of the start. So the
    last guard vector of a `start` gets a small random part, which leaves room for an eigenvector that grows during
    training, or that `start` does not contain. If the products are rounding errors (see `SymmetricOperator`), the
    search ends unconverged. If they are slightly asymmetric, it continues as far as their symmetric part allows, and
    `reason` says so. In dtypes with less precision than float32, no result counts as converged.

    Args:
        operator: Symmetric, with `size`, `dtype`, `device`, `matmat`.
        k: Number of eigenpairs. min(k, P) are returned.
        start: Vectors [P, m] to start from, with any m. They need not be orthonormal. Usually it is the `start` of the
            last result. With m = K it has no guard vector, and what is orthogonal to it is not found. With fewer,
            random vectors are added, and the search is as thorough as from random vectors, which `None` means.
        tolerance: Largest residual relative to |λ_k|, at least 0.
        max_products: The solver stops unconverged before it uses more products than this. `None` means
            30 (k + beyond + guard).
        generator: CPU generator of the random vectors. `None` means one with a fixed seed.
        guard: Number of additional vectors in the search and in `start`, beyond those returned. With 0, a cold search
            with a loose tolerance may return another eigenvalue near λ_k instead of it.
        block: Number of random vectors of a cold start. `None` means k + beyond + guard, which finds eigenvalues of any
            multiplicity up to that number. 1 is Lanczos iteration, which needs about half the products and may miss
            copies of multiple eigenvalues.
        max_basis: The solver restarts with the best half when the search space is larger than this. `None` means
            5 (k + beyond + guard) + 20.
        which: "largest" (descending), "smallest" (ascending) or "magnitude" (descending in magnitude).
        beyond: Number of further eigenpairs that are returned after the first k.
        beyond_tolerance: Largest residual of these further pairs, relative to |λ_1|. It suits pairs that are only
            plotted.
        enough: A function that is called after each round with the K Ritz vectors and the same vectors after one more
            power step, both [P, K] and orthonormal, and with a number r. A step reduces an error to at most ρ times its
            size, with ρ the ratio of the eigenvalues K + 1 and K, so that what remains is at most r = ρ/(1 − ρ) times
            the change that the step makes. (ρ is that of the Ritz values. It is unknown, and r infinite, if there are
            no more than K.) If the function returns True, the result counts as converged.

    Returns:
        The eigenpairs, on the operator's device.

    Raises:
        InputError: `operator` lacks an attribute, a count is too small or not an integer, a tolerance is negative or
            not finite, fewer products are allowed than eigenpairs, `start` has a wrong shape or is not finite, the
            operator is not symmetric, or `which` is not one of the three.
        NonFiniteProductError: A product is not finite.
    """
    if which not in _WHICH:
        raise InputError(f"which must be one of {', '.join(_WHICH)}, not {which!r}")
    check_operator(operator)
    generator = cpu_generator(generator, _SEED)
    with without_autocast(operator.device):
        options = (
            beyond,
            start,
            (tolerance, beyond_tolerance),
            max_products,
            generator,
            guard,
            block,
            max_basis,
            enough,
        )
        if which == "smallest":
            return _negated(_solve(_Negative(operator), k, *options, magnitude=False, sign=-1))
        return _solve(operator, k, *options, magnitude=which == "magnitude")


_WHICH = ("largest", "smallest", "magnitude")


class _Negative:
    """−A."""

    def __init__(self, operator: SymmetricOperator) -> None:
        self.size, self.dtype, self.device = operator.size, operator.dtype, operator.device
        self.exact = getattr(operator, "exact", False)
        self._operator = operator

    def matmat(self, V: Tensor, /) -> Tensor:
        return -self._operator.matmat(V)


def _negated(found: TopEigenspace) -> TopEigenspace:
    return replace(found, eigenvalues=-found.eigenvalues)


def _solve(
    operator: SymmetricOperator,
    k: int,
    beyond: int,
    start: Tensor | None,
    tolerances: tuple[float, float],
    max_products: int | None,
    generator: torch.Generator,
    guard: int,
    block: int | None,
    max_basis: int | None,
    enough: Enough | None,
    *,
    magnitude: bool,
    sign: int = 1,
) -> TopEigenspace:
    P = operator.size
    check_counts(k=k, block=block, max_products=max_products, max_basis=max_basis)
    check_counts(at_least=0, guard=guard, beyond=beyond)
    check_tolerance(tolerances[0])
    check_tolerance(tolerances[1], "beyond_tolerance")
    first, k = min(k, P), min(k + beyond, P)  # from here on k counts all that are returned
    width = min(P, k + guard)
    max_products = 30 * (k + guard) if max_products is None else max_products
    if max_products < k:
        raise InputError(f"max_products ({max_products}) must be at least k{' + beyond' * (k > first)} ({k})")
    max_basis = min(P, max(2 * width, 5 * (k + guard) + 20 if max_basis is None else max_basis))
    new, warm = _first_block(operator, start, width if block is None else min(block, P), k, generator)
    new = new[:max_products]

    search = SearchSpace(operator, magnitude)
    least = 0.1 if warm else 1e-3  # of what a pair may have left, for its residual to be worth a product
    while True:
        search.expand(new)
        vectors = search.ritz_vectors(k if warm else width)
        residual_vectors, found = search.residuals(vectors)
        residuals, bounds = found[:k], search.bounds(first, min(k, len(found)), *tolerances)
        open_pairs = residuals > bounds
        left = max_products - search.products
        complete = search.count >= k and not search.noise
        hidden = not warm and search.may_reach(k, found, float(bounds[-1]))
        converged, accepted = complete and not bool(open_pairs.any()) and not hidden, False
        if complete and not converged and enough is not None and (stepped := search.stepped(k)) is not None:
            converged = accepted = enough(vectors.T, stepped.T, search.remaining(k))
        if converged or left == 0 or (search.noise and search.count >= k):
            break
        wanted = residual_vectors[open_pairs] if warm else residual_vectors
        if search.count + len(wanted) > max_basis:
            search.restart(max(width, max_basis // 2))
        new = orthonormal(wanted, search.vectors, floor=least * float(bounds.min()))[:left]
        if len(new) == 0:  # W is invariant, up to rounding
            if search.count >= k:
                break
            new = _random(operator, 1, generator, search.vectors)

    reason = search.reason(residuals, inf if accepted else tolerances[0], first, converged, sign, hidden)
    stepped = search.stepped(k, width - k)
    start = search.ritz_vectors(width) if stepped is None else stepped
    return TopEigenspace(
        eigenvalues=search.ritz[:k].to(operator.dtype).to(operator.device),
        eigenvectors=vectors[:k].T,
        residuals=residuals.to(operator.dtype).to(operator.device),
        products=search.products,
        converged=reason is None,
        start=start.T,
        reason=reason,
    )


def _first_block(
    operator: SymmetricOperator, start: Tensor | None, block: int, k: int, generator: torch.Generator
) -> tuple[Tensor, bool]:
    """Orthonormal vectors to start from, as rows, and whether they are a warm start, which has k independent ones.

    To fewer, random ones are added.
    """
    if start is None:
        return _random(operator, block, generator), False
    if not isinstance(start, Tensor) or not start.is_floating_point():
        raise InputError(f"start must be a matrix [{operator.size}, m] of real numbers, or None")
    if start.ndim != 2 or start.shape[0] != operator.size or not bool(start.norm().isfinite()):
        raise InputError(f"start must be a finite matrix [{operator.size}, m], not {list(start.shape)}")
    rows = start.detach().to(device=operator.device, dtype=operator.dtype).T
    rows = orthonormal(torch.nn.functional.normalize(rows, dim=1, eps=0.0).nan_to_num(0.0), None)
    if len(rows) < k:
        return torch.cat([rows, _random(operator, max(block, k) - len(rows), generator, rows)]), False
    others, last = rows[:-1], rows[-1:]
    if k < len(rows) < operator.size:
        mixed = last + _MIXED * _random(operator, 1, generator, rows)
        rows = torch.cat([others, orthonormal(mixed, others)])
    return rows, True


def _random(
    operator: SymmetricOperator, count: int, generator: torch.Generator, against: Tensor | None = None
) -> Tensor:
    """Random orthonormal rows, drawn on the CPU so that every device uses the same ones."""
    rows = torch.randn(count, operator.size, dtype=torch.float64, generator=generator, device="cpu")
    return orthonormal(rows.to(device=operator.device, dtype=operator.dtype), against)
