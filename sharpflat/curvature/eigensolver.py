"""The largest eigenvalues of a symmetric operator, by block Krylov iteration with Rayleigh–Ritz.

There is one method for a cold and a warm start. The search space W starts as a random block (cold) or as the
`start` of the previous result (warm). Each round applies the operator to the newest block, computes Ritz pairs
from all of W, and expands W by the residuals of the wanted pairs that have not converged, compressed to their
numerical rank. From a random block, this is block Krylov iteration (block Lanczos with full
reorthogonalisation). From a good start, it costs little more than the products with the start block.

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
from typing import Protocol

import torch
from torch import Tensor

from sharpflat.arguments import check_counts, check_tolerance
from sharpflat.curvature.modes import without_autocast
from sharpflat.curvature.orthonormal import orthonormal
from sharpflat.errors import InputError

_SEED = 20240601  # of the starting block, if no generator is given
_NOISE = 0.1  # products with more asymmetry than this, relative to their size, are rounding errors


class SymmetricOperator(Protocol):
    """The interface that the solver needs from an operator on R^P.

    An operator with `exact = True` is symmetric by construction. If its products are not symmetric, they are rounding
    errors (for example of a softmax that is certain) and not a mistake.
    """

    size: int
    dtype: torch.dtype
    device: torch.device

    def matmat(self, V: Tensor, /) -> Tensor:
        """[P, K] -> [P, K]"""


class NonFiniteProductError(ArithmeticError):
    """A product with the operator contains NaN or infinity. The message says which product."""


Enough = Callable[[Tensor, Tensor], bool]
"""Whether Ritz vectors [P, K] are close enough to the same vectors after one power step; both are orthonormal."""


@dataclass(frozen=True)
class TopEigenspace:
    """The K = k + `beyond` algebraically largest eigenpairs, and their accuracy (see `top_eigenspace`).

    Attributes:
        eigenvalues: [K], descending (see `which`).
        eigenvectors: [P, K], orthonormal columns.
        residuals: [K], ‖A u_i − λ_i u_i‖, from products with exactly these vectors.
        products: Number of matrix-vector products used. A block of m counts m.
        converged: Whether every residual is within its tolerance, and the products are more than rounding errors.
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
    rounding allows (ε is the precision of the dtype). No stopping rule can notice an eigenvector that is exactly
    orthogonal to the Krylov space of the start. The guard vectors in `start` leave room for an eigenvector that grows
    during training. If the products are rounding errors (see `SymmetricOperator`), the search ends unconverged. If they
    are slightly asymmetric, it continues as far as their symmetric part allows, and `reason` says so. In dtypes with
    less precision than float32, no result counts as converged.

    Args:
        operator: Symmetric, with `size`, `dtype`, `device`, `matmat`.
        k: Number of eigenpairs. min(k, P) are returned.
        start: Vectors [P, m] to start from, with any m. They need not be orthonormal. Usually it is the `start` of the
            last result. `None` means random vectors.
        tolerance: Largest residual relative to |λ_k|, at least 0.
        max_products: The solver stops unconverged before it uses more products than this. `None` means
            30 (k + beyond + guard).
        generator: CPU generator of the random vectors. `None` means one with a fixed seed.
        guard: Number of additional vectors in `start`, beyond those returned.
        block: Number of random vectors of a cold start. `None` means k + beyond + guard, which finds eigenvalues of any
            multiplicity up to that number. 1 is Lanczos iteration, which needs about half the products and may miss
            copies of multiple eigenvalues.
        max_basis: The solver restarts with the best half when the search space is larger than this. `None` means
            5 (k + beyond + guard) + 20.
        which: "largest" (descending), "smallest" (ascending) or "magnitude" (descending in magnitude).
        beyond: Number of further eigenpairs that are returned after the first k.
        beyond_tolerance: Largest residual of these further pairs, relative to |λ_1|. It suits pairs that are only
            plotted.
        enough: A function that is called after each round with the K Ritz vectors, and with the same vectors after one
            more power step. Both are [P, K] and orthonormal. If it returns True, the result counts as converged.

    Returns:
        The eigenpairs, on the operator's device.

    Raises:
        InputError: A count is too small or not an integer, a tolerance is negative or not finite, fewer products are
            allowed than eigenpairs, `start` has a wrong shape or is not finite, the operator is not symmetric, or
            `which` is not one of the three.
        NonFiniteProductError: A product is not finite.
    """
    if which not in _WHICH:
        raise InputError(f"which must be one of {', '.join(_WHICH)}, not {which!r}")
    if generator is not None and generator.device.type != "cpu":
        raise InputError("generator must be a CPU generator: torch.Generator()")
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
            return _negated(_solve(_Negative(operator), k, *options, magnitude=False))
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
    generator: torch.Generator | None,
    guard: int,
    block: int | None,
    max_basis: int | None,
    enough: Enough | None,
    *,
    magnitude: bool,
) -> TopEigenspace:
    P = operator.size
    check_counts(k=k, block=block, max_products=max_products, max_basis=max_basis)
    check_counts(at_least=0, guard=guard, beyond=beyond)
    check_tolerance(tolerances[0])
    check_tolerance(tolerances[1])
    first, k = min(k, P), min(k + beyond, P)  # from here on k counts all that are returned
    width = min(P, k + guard)
    max_products = 30 * (k + guard) if max_products is None else max_products
    if max_products < k:
        raise InputError(f"max_products ({max_products}) must be at least k{' + beyond' * (k > first)} ({k})")
    generator = torch.Generator().manual_seed(_SEED) if generator is None else generator
    max_basis = min(P, max(2 * width, 5 * (k + guard) + 20 if max_basis is None else max_basis))
    new = _first_block(operator, start, width if block is None else min(block, P), k, generator)[:max_products]

    search = _SearchSpace(operator, magnitude)
    while True:
        search.expand(new)
        vectors = search.ritz_vectors(k)
        residual_vectors, residuals = search.residuals(vectors)
        bounds = search.bounds(first, len(residuals), *tolerances)
        open_pairs = residuals > bounds
        left = max_products - search.products
        complete = search.count >= k and not search.noise
        converged, accepted = complete and not bool(open_pairs.any()), False
        if complete and not converged and enough is not None and (stepped := search.stepped(k)) is not None:
            converged = accepted = enough(vectors.T, stepped.T)
        if converged or left == 0 or (search.noise and search.count >= k):
            break
        if search.count + int(open_pairs.sum()) > max_basis:
            search.restart(max(width, max_basis // 2))
        new = orthonormal(residual_vectors[open_pairs], search.vectors, floor=0.1 * float(bounds.min()))[:left]
        if len(new) == 0:  # W is invariant, up to rounding
            if search.count >= k:
                break
            new = _random(operator, 1, generator, search.vectors)

    reason = search.reason(residuals, inf if accepted else tolerances[0], first, converged)
    stepped = search.stepped(k, width - k)
    start = search.ritz_vectors(width) if stepped is None else stepped
    return TopEigenspace(
        eigenvalues=search.ritz[:k].to(operator.dtype).to(operator.device),
        eigenvectors=vectors.T,
        residuals=residuals.to(operator.dtype).to(operator.device),
        products=search.products,
        converged=reason is None,
        start=start.T,
        reason=reason,
    )


def _first_block(
    operator: SymmetricOperator, start: Tensor | None, block: int, k: int, generator: torch.Generator
) -> Tensor:
    """Orthonormal vectors to start from, as rows: random ones, or `start` filled up with random ones to k."""
    if start is None:
        return _random(operator, block, generator)
    if not isinstance(start, Tensor) or not start.is_floating_point():
        raise InputError(f"start must be a matrix [{operator.size}, m] of real numbers, or None")
    if start.ndim != 2 or start.shape[0] != operator.size or not bool(start.norm().isfinite()):
        raise InputError(f"start must be a finite matrix [{operator.size}, m], not {list(start.shape)}")
    rows = start.detach().to(device=operator.device, dtype=operator.dtype).T
    rows = orthonormal(torch.nn.functional.normalize(rows, dim=1, eps=0.0).nan_to_num(0.0), None)
    if len(rows) < k:
        rows = torch.cat([rows, _random(operator, k - len(rows), generator, rows)])
    return rows


def _random(
    operator: SymmetricOperator, count: int, generator: torch.Generator, against: Tensor | None = None
) -> Tensor:
    """Random orthonormal rows, drawn on the CPU so that every device uses the same ones."""
    rows = torch.randn(count, operator.size, dtype=torch.float64, generator=generator, device="cpu")
    return orthonormal(rows.to(device=operator.device, dtype=operator.dtype), against)


class _SearchSpace:
    """W and A W, as rows, with the projected matrix T = Wᵀ A W in float64 on the CPU."""

    def __init__(self, operator: SymmetricOperator, magnitude: bool = False) -> None:
        self.operator = operator
        self.magnitude = magnitude  # orders Ritz values
        self.vectors = torch.empty(0, operator.size, dtype=operator.dtype, device=operator.device)
        self.images = self.vectors
        self.projected = torch.empty(0, 0, dtype=torch.float64, device="cpu")
        self.ritz = torch.empty(0, dtype=torch.float64, device="cpu")  # descending
        self.rotation = self.projected  # Ritz vectors in the basis W, as columns
        self.scale = 0.0  # the largest ‖A v‖ seen
        self.noise = False  # whether products were rounding errors
        self.asymmetry = 0.0  # the largest so far that is neither rounding nor noise
        self.products = 0

    @property
    def count(self) -> int:
        return len(self.vectors)

    @property
    def rounding(self) -> float:
        """The residual that remains because of rounding in the products."""
        return 50 * torch.finfo(self.operator.dtype).eps * self.scale

    def expand(self, block: Tensor) -> None:
        """Adds the orthonormal rows [m, P], which are orthogonal to W, to W."""
        images = self.operator.matmat(block.T).T
        norms = torch.linalg.vector_norm(images, dim=1).double().cpu()
        check_finite(norms, images, self.products)
        self.scale = max(self.scale, float(norms.max()))
        self.products += len(block)
        old = self.count
        columns = rows = block @ images.T  # [m, m]
        if old:
            columns = torch.cat([self.vectors @ images.T, columns])  # [old + m, m]
            rows = torch.cat([block @ self.images.T, rows], dim=1)  # [m, old + m]
        self.vectors = torch.cat([self.vectors, block]) if old else block
        self.images = torch.cat([self.images, images]) if old else images
        columns, rows = columns.double().cpu(), rows.double().cpu()
        asymmetry = float((columns - rows.T).abs().max())
        # Rounding in a long float32 product reaches 1e-5 of ‖A‖. A wrong operator differs by more than √ε.
        # Below √tiny, squares underflow. Norms, and so the scale, are then zero, and the test cannot decide.
        precision = torch.finfo(block.dtype)
        if asymmetry > precision.eps**0.5 * self.scale + precision.tiny**0.5:
            if not getattr(self.operator, "exact", False):
                raise InputError(
                    f"the operator is not symmetric: ⟨u, A v⟩ and ⟨v, A u⟩ differ by {asymmetry:.1e} for unit "
                    f"vectors, with ‖A v‖ up to {self.scale:.1e}"
                )
            if asymmetry > _NOISE * self.scale:
                self.noise = True
            self.asymmetry = max(self.asymmetry, asymmetry)
        columns = (columns + rows.T) / 2
        projected = torch.empty(self.count, self.count, dtype=torch.float64, device="cpu")
        projected[:old, :old] = self.projected
        projected[:, old:] = columns
        projected[old:, :] = columns.T
        self.projected = projected
        ritz, rotation = torch.linalg.eigh(projected)
        self.ritz = ritz.flip(0)
        self.rotation = rotation.flip(1)  # [count, count], columns
        if self.magnitude:
            order = self.ritz.abs().argsort(descending=True, stable=True)
            self.ritz, self.rotation = self.ritz[order], self.rotation[:, order]

    def _rotate(self, rows: Tensor, count: int) -> Tensor:
        return self.rotation[:, :count].T.to(rows) @ rows

    def ritz_vectors(self, count: int) -> Tensor:
        """The first Ritz vectors, as rows [count, P]."""
        return self._rotate(self.vectors, count)

    def kth(self, k: int) -> float:
        """The k-th largest Ritz value, or the last one."""
        return float(self.ritz[min(k, self.count) - 1])

    def bounds(self, first: int, count: int, tolerance: float, beyond_tolerance: float) -> Tensor:
        """The largest residuals [count] at which the first `first` Ritz pairs, and those after them, have converged."""
        wanted = [tolerance * abs(self.kth(first))] * first + [beyond_tolerance * abs(self.kth(1))] * (count - first)
        least = max(self.rounding, 2 * self.asymmetry)  # and not less than the asymmetry of the products
        return torch.tensor(wanted[:count], dtype=torch.float64, device="cpu").clamp_min(least)

    def trustworthy(self, residuals: Tensor, tolerance: float, k: int) -> bool:
        """Whether the eigenvectors are accurate although their residuals are limited only by rounding.

        They are if the residuals are small compared with λ_k, or if λ_k itself is zero up to rounding.
        """
        eigenvalue, largest = abs(self.kth(k)), float(residuals[:k].max())
        return largest <= max(tolerance, 1e-2) * eigenvalue or eigenvalue <= self.rounding

    def reason(self, residuals: Tensor, tolerance: float, k: int, converged: bool) -> str | None:
        """Why the pairs do not count as converged; None if they do."""
        largest = f"the largest residual is {float(residuals.max()):.1e}, with λ_k = {self.kth(k):.1e}"
        if self.asymmetry:
            return (
                f"the products are not symmetric: ⟨u, A v⟩ and ⟨v, A u⟩ differ by {self.asymmetry:.1e} for unit "
                f"vectors, with ‖A v‖ up to {self.scale:.1e}. They are rounding errors, computed in reduced precision "
                "(autocast), or an operation's second derivative is wrong (nn.utils.weight_norm, an autograd.Function)"
            )
        if torch.finfo(self.operator.dtype).eps > 1e-4:
            return f"{self.operator.dtype} is too coarse to tell eigenvectors: convert the model to float32; {largest}"
        if not converged:
            return f"{largest}, after {self.products} products: allow more (max_products) or a larger tolerance"
        if not self.trustworthy(residuals, tolerance, k):
            return f"rounding in {self.operator.dtype} hides λ_k: {largest}, and ‖A‖ = {self.scale:.1e}; use float64"
        return None

    def residuals(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """The residual vectors of the first Ritz vectors [m, P], as rows, and their norms [m] on the CPU."""
        values = self.ritz[: len(vectors), None].to(vectors)
        residuals = torch.addcmul(self._rotate(self.images, len(vectors)), values, vectors, value=-1)
        return residuals, torch.linalg.vector_norm(residuals, dim=1).double().cpu()

    def stepped(self, k: int, guard: int = 0) -> Tensor | None:
        """The first k + `guard` Ritz vectors after a power step (A − σ), as orthonormal rows. It needs no product.

        The first k rows span the image of the first k Ritz vectors under the step.

        σ is 0. If W contains eigenvalues below −λ_k, σ is low enough that the step does not amplify them. The result is
        None if the step would not help.
        """
        shift = 0.0 if self.magnitude else min(0.0, (float(self.ritz[-1]) + self.kth(k)) / 2)
        if not self.magnitude and self.kth(k) - shift <= 0.1 * float(self.ritz.abs().max()) * (shift < 0):
            return None  # wanted and unwanted vectors would shrink equally
        stepped = self._rotate(self.images, k + guard)
        if shift < 0:
            stepped = torch.add(stepped, self.ritz_vectors(k + guard), alpha=-shift)
        wanted = orthonormal(stepped[:k], None)
        if len(wanted) < min(k, self.count):
            return None
        return torch.cat([wanted, orthonormal(stepped[k:], wanted)])

    def restart(self, count: int) -> None:
        """Shrinks W to its first `count` Ritz vectors."""
        count = min(count, self.count)
        self.vectors, self.images = self.ritz_vectors(count), self._rotate(self.images, count)
        self.ritz = self.ritz[:count]
        self.projected = torch.diag(self.ritz)
        self.rotation = torch.eye(count, dtype=torch.float64, device="cpu")


def check_finite(norms: Tensor, images: Tensor, before: int) -> None:
    """Refuses products that are not finite.

    Args:
        norms: Norms [m] of the images, on the CPU. Checking only these is cheap, but they overflow earlier.
        images: [m, P].
        before: Number of products used before these.

    Raises:
        NonFiniteProductError: Names the first product that is not finite.
    """
    if bool(norms.isfinite().all()):
        return
    finite = images.isfinite().all(dim=1)
    number = before + int(finite.to(torch.int8).argmin()) + 1
    what = "overflows" if bool(finite.all()) else "is not finite"
    raise NonFiniteProductError(f"product {number} with the operator {what}")
