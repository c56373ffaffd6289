"""The largest eigenvalues of a symmetric operator, by block Krylov iteration with Rayleigh–Ritz.

One method, cold or warm. The search space W starts as a random block (cold) or as the previous result's
`basis` (warm: k wanted and a few guard vectors). Each round applies the operator to the newest block,
takes Ritz pairs from all of W, and expands W by the residuals of the wanted pairs that have not converged,
compressed to their numerical rank. From a random block that is block Krylov (block Lanczos with full
reorthogonalisation); from a good start it costs the start block and little else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from analysis.errors import InputError

_SEED = 20240601  # of the starting block, where no generator is given


class SymmetricOperator(Protocol):
    """What the solver asks of an operator on R^P."""

    size: int
    dtype: torch.dtype
    device: torch.device

    def matmat(self, V: Tensor, /) -> Tensor:
        """[P, K] -> [P, K]"""


class NonFiniteProductError(ArithmeticError):
    """A product with the operator holds NaN or infinity; the message says which product."""


@dataclass(frozen=True)
class TopEigenspace:
    """The k largest eigenpairs, algebraically, and how good they are.

    Attributes:
        eigenvalues: [k], descending.
        eigenvectors: [P, k], orthonormal columns.
        residuals: [k], ‖A u_i − λ_i u_i‖, from products with these very vectors.
        products: Matrix-vector products used; a block of m counts m.
        converged: Whether every residual is at most tol · |λ_k| (see `top_eigenspace`).
        basis: [P, k + guard], what to pass as `init` to the next, nearby problem; begins with `eigenvectors`.
    """

    eigenvalues: Tensor
    eigenvectors: Tensor
    residuals: Tensor
    products: int
    converged: bool
    basis: Tensor


def top_eigenspace(
    operator: SymmetricOperator,
    k: int,
    init: Tensor | None = None,
    tol: float = 1e-2,
    max_products: int | None = None,
    generator: torch.Generator | None = None,
    *,
    guard: int = 4,
    max_basis: int | None = None,
) -> TopEigenspace:
    """The k algebraically largest eigenvalues of a symmetric operator, with eigenvectors.

    Stops when every wanted pair has ‖A u_i − λ_i u_i‖ ≤ tol · |λ_k|, or ≤ 50 ε max|λ| (ε of the dtype: what
    rounding allows). No stopping rule can notice an eigenvector that is exactly orthogonal to the start
    and to everything the operator makes of it; guard vectors, carried along in `basis`, make room for one
    that grows into the top k.

    Args:
        operator: Symmetric, with `size`, `dtype`, `device`, `matmat`.
        k: Number of eigenpairs; min(k, P) are returned.
        init: Start vectors [P, m], any m, not necessarily orthonormal; usually the last result's `basis`.
            `None`: random.
        tol: Relative to |λ_k|.
        max_products: Stop, unconverged, rather than use more. `None`: 30 (k + guard).
        generator: CPU generator of the random vectors. `None`: one with a fixed seed.
        guard: Ritz vectors beyond k kept in `basis`.
        max_basis: Restart with the best half when the search space outgrows this. `None`: 5 (k + guard) + 20.

    Returns:
        The eigenpairs, on the operator's device.

    Raises:
        InputError: k < 1, fewer products allowed than k, `init` of a wrong shape or not finite, or the
            operator is not symmetric.
        NonFiniteProductError: A product is not finite.
    """
    P = operator.size
    if k < 1:
        raise InputError(f"k must be at least 1, not {k}")
    k = min(k, P)
    width = min(P, k + guard)
    if max_products is None:
        max_products = 30 * (k + guard)
    if max_products < k:
        raise InputError(f"max_products ({max_products}) must be at least k ({k})")
    max_basis = min(P, max(2 * width, 5 * (k + guard) + 20 if max_basis is None else max_basis))
    block = _start(operator, init, width, k, generator)[:max_products]

    search = _SearchSpace(operator)
    while True:
        search.expand(block)
        ritz, residual_vectors, residuals = search.wanted(k)
        bound = max(tol * float(ritz[min(k, len(ritz)) - 1].abs()), search.rounding)
        open_pairs = residuals > bound
        converged = not bool(open_pairs.any())
        left = max_products - search.products
        if converged or left == 0:
            break
        if search.count + int(open_pairs.sum()) > max_basis:
            search.restart(max(width, max_basis // 2))
        block = _orthonormal(residual_vectors[open_pairs], search.vectors, floor=0.1 * bound)[:left]
        if len(block) == 0:
            break  # the residuals are rounding errors of W itself

    basis = search.ritz_vectors(width)
    return TopEigenspace(
        eigenvalues=ritz[:k].to(operator.dtype).to(operator.device),
        eigenvectors=basis[:k].T,
        residuals=residuals.to(operator.dtype).to(operator.device),
        products=search.products,
        converged=converged,
        basis=basis.T,
    )


def _start(
    operator: SymmetricOperator, init: Tensor | None, width: int, k: int, generator: torch.Generator | None
) -> Tensor:
    """Orthonormal start vectors as rows [m, P], m >= k."""
    rows = torch.empty(0, operator.size, dtype=operator.dtype, device=operator.device)
    if init is not None:
        if init.ndim != 2 or init.shape[0] != operator.size or not bool(init.isfinite().all()):
            raise InputError(f"init must be a finite matrix [{operator.size}, m], not {list(init.shape)}")
        rows = _orthonormal(init.detach().to(rows).T[: operator.size], None)
    if len(rows) >= k:
        return rows
    if generator is None:
        generator = torch.Generator().manual_seed(_SEED)
    while len(rows) < width:
        fresh = torch.randn(width - len(rows), operator.size, dtype=torch.float64, generator=generator)
        rows = torch.cat([rows, _orthonormal(fresh.to(rows), rows)])
    return rows


class _SearchSpace:
    """W and A W, as rows, with the projected matrix T = Wᵀ A W in float64 on the CPU."""

    def __init__(self, operator: SymmetricOperator) -> None:
        self.operator = operator
        self.vectors = torch.empty(0, operator.size, dtype=operator.dtype, device=operator.device)
        self.images = self.vectors
        self.projected = torch.empty(0, 0, dtype=torch.float64)
        self.products = 0

    @property
    def count(self) -> int:
        return len(self.vectors)

    @property
    def rounding(self) -> float:
        """The residual that rounding in the products leaves."""
        return 50 * torch.finfo(self.operator.dtype).eps * float(self.ritz.abs().max())

    def expand(self, block: Tensor) -> None:
        """Takes the orthonormal rows [m, P], orthogonal to W, into W."""
        images = self.operator.matmat(block.T).T
        finite = images.isfinite().all(dim=1)
        if not bool(finite.all()):
            number = self.products + int(finite.cpu().to(torch.int8).argmin()) + 1
            raise NonFiniteProductError(f"product {number} with the operator is not finite")
        self.products += len(block)
        old = self.count
        self.vectors = torch.cat([self.vectors, block]) if old else block
        self.images = torch.cat([self.images, images]) if old else images
        columns = (self.vectors @ images.T).double().cpu()  # [old + m, m]
        rows = (block @ self.images.T).double().cpu()  # [m, old + m]
        asymmetry = float((columns - rows.T).abs().max())
        scale = float(torch.linalg.vector_norm(images, dim=1).max())
        # Rounding in a long float32 product can reach 1e-4 of ‖A‖; an operator that is wrong differs by more.
        if asymmetry > torch.finfo(block.dtype).eps ** 0.5 * max(scale, float(self.projected.abs().sum())):
            raise InputError(
                f"the operator is not symmetric: ⟨u, A v⟩ and ⟨v, A u⟩ differ by {asymmetry:.1e} for unit "
                f"vectors, with ‖A v‖ up to {scale:.1e}"
            )
        columns = (columns + rows.T) / 2
        projected = torch.empty(self.count, self.count, dtype=torch.float64)
        projected[:old, :old] = self.projected
        projected[:, old:] = columns
        projected[old:, :] = columns.T
        self.projected = projected
        ritz, rotation = torch.linalg.eigh(projected)
        self.ritz = ritz.flip(0)
        self.rotation = rotation.flip(1)  # [count, count], columns

    def _rotate(self, rows: Tensor, count: int) -> Tensor:
        return self.rotation[:, :count].T.to(rows) @ rows

    def ritz_vectors(self, count: int) -> Tensor:
        """The first Ritz vectors, as rows [count, P]."""
        return self._rotate(self.vectors, count)

    def wanted(self, k: int) -> tuple[Tensor, Tensor, Tensor]:
        """All Ritz values; the first k pairs' residual vectors, as rows; their norms (on the CPU)."""
        values = self.ritz[:k, None].to(self.vectors)
        vectors = self._rotate(self.images, k) - values * self.ritz_vectors(k)
        return self.ritz, vectors, torch.linalg.vector_norm(vectors, dim=1).double().cpu()

    def restart(self, count: int) -> None:
        """Shrinks W to its first `count` Ritz vectors."""
        self.vectors, self.images = self.ritz_vectors(count), self._rotate(self.images, count)
        self.projected = torch.diag(self.ritz[:count])


def _orthonormal(rows: Tensor, against: Tensor | None, floor: float = 0.0) -> Tensor:
    """Orthonormal rows that span `rows`, orthogonal to the orthonormal rows `against`, in order of weight.

    Directions are dropped where the rows reach less than `floor`, or no further than their rounding errors.
    Twice is enough: the second pass works on a well-conditioned block.
    """
    eps = torch.finfo(rows.dtype).eps
    for attempt in range(2):
        size = float(torch.linalg.vector_norm(rows, dim=1).max()) if len(rows) else 0.0
        if against is not None and len(against):
            rows = rows - (rows @ against.T) @ against
        if size == 0.0:
            return rows[:0]
        wide = rows.double()
        weights, directions = torch.linalg.eigh(wide @ wide.T)
        least = max(10 * eps * size, floor if attempt == 0 else 0.0)
        keep = weights.clamp_min(0).sqrt() > least
        scaled = (directions[:, keep] / weights[keep].sqrt()).flip(1)
        rows = scaled.T.to(rows) @ rows
    return rows
