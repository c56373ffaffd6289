"""The search space of `sharpflat.curvature.eigensolver`: Rayleigh–Ritz in a growing orthonormal basis."""

from __future__ import annotations

from math import inf

import torch
from torch import Tensor

from sharpflat.curvature.inner import inner_products, norms
from sharpflat.curvature.orthonormal import orthonormal
from sharpflat.curvature.symmetric import WRONG_PRODUCTS, SymmetricOperator, are_asymmetric, check_finite
from sharpflat.errors import InputError

_NOISE = 0.1  # products with more asymmetry than this, relative to their size, are rounding errors


class SearchSpace:
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
        lengths = norms(images.T).cpu()
        check_finite(lengths, images, self.products)
        self.scale = max(self.scale, float(lengths.max()))
        self.products += len(block)
        old = self.count
        columns = rows = inner_products(block.T, images.T)  # [m, m]
        if old:
            columns = torch.cat([inner_products(self.vectors.T, images.T), columns])  # [old + m, m]
            rows = torch.cat([inner_products(block.T, self.images.T), rows], dim=1)  # [m, old + m]
        self.vectors = torch.cat([self.vectors, block]) if old else block
        self.images = torch.cat([self.images, images]) if old else images
        columns, rows = columns.cpu(), rows.cpu()
        asymmetry = float((columns - rows.T).abs().max())
        if are_asymmetric(asymmetry, self.scale, block.dtype):
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

    def may_reach(self, k: int, residuals: Tensor, bound: float) -> bool:
        """Whether one of the Ritz pairs after the k-th may belong to one of the k first eigenvalues.

        There is an eigenvalue within the residual of a Ritz value. Pairs with residuals up to `bound` count as known.
        """
        values = self.ritz[: len(residuals)].abs() if self.magnitude else self.ritz[: len(residuals)]
        may = (residuals > bound) & (values + residuals > values[min(k, len(values)) - 1])
        return bool(may[k:].any())

    def trustworthy(self, residuals: Tensor, tolerance: float, k: int) -> bool:
        """Whether the eigenvectors are accurate although their residuals are limited only by rounding.

        They are if the residuals are small compared with λ_k, or if λ_k itself is no more than rounding.
        """
        eigenvalue, kth = abs(self.kth(k)), float(residuals[k - 1])
        small = float(residuals[:k].max()) <= max(tolerance, 1e-2) * eigenvalue
        return small or eigenvalue <= max(kth, self.rounding / 10)

    def reason(
        self, residuals: Tensor, tolerance: float, k: int, converged: bool, sign: int, hidden: bool
    ) -> str | None:
        """Why the pairs do not count as converged; None if they do. A is `sign` times the user's operator.

        `hidden` says that a pair that has not converged may belong to one of the wanted eigenvalues.
        """
        largest = f"the largest residual is {float(residuals.max()):.1e}, with λ_k = {sign * self.kth(k):.1e}"
        if self.asymmetry:
            return (
                f"the products are not symmetric: ⟨u, A v⟩ and ⟨v, A u⟩ differ by {self.asymmetry:.1e} for unit "
                f"vectors, with ‖A v‖ up to {self.scale:.1e}. {WRONG_PRODUCTS}"
            )
        if torch.finfo(self.operator.dtype).eps > 1e-4:
            return f"{self.operator.dtype} is too coarse to tell eigenvectors: convert the model to float32; {largest}"
        if not converged:
            missed = ", and a larger eigenvalue may have been missed" if hidden else ""
            return f"{largest}{missed}, after {self.products} products: allow more (max_products) or a larger tolerance"
        if not self.trustworthy(residuals, tolerance, k):
            return f"rounding in {self.operator.dtype} hides λ_k: {largest}, and ‖A‖ = {self.scale:.1e}; use float64"
        return None

    def residuals(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """The residual vectors of the first Ritz vectors [m, P], as rows, and their norms [m] on the CPU."""
        values = self.ritz[: len(vectors), None].to(vectors)
        residuals = torch.addcmul(self._rotate(self.images, len(vectors)), values, vectors, value=-1)
        return residuals, norms(residuals.T).cpu()

    def stepped(self, k: int, guard: int = 0) -> Tensor | None:
        """The first k + `guard` Ritz vectors after a power step (A − σ), as orthonormal rows. It needs no product.

        The first k rows span the image of the first k Ritz vectors under the step.

        σ is 0. If W contains eigenvalues below −λ_k, σ is low enough that the step does not amplify them. The result is
        None if the step would not help.
        """
        shift = self._shift(k)
        if not self.magnitude and self.kth(k) - shift <= 0.1 * float(self.ritz.abs().max()) * (shift < 0):
            return None  # wanted and unwanted vectors would shrink equally
        stepped = self._rotate(self.images, k + guard)
        if shift < 0:
            stepped = torch.add(stepped, self.ritz_vectors(k + guard), alpha=-shift)
        wanted = orthonormal(stepped[:k], None)
        if len(wanted) < min(k, self.count):
            return None
        return torch.cat([wanted, orthonormal(stepped[k:], wanted)])

    def remaining(self, k: int) -> float:
        """The largest error of the first k vectors after the step of `stepped`, relative to the change it makes."""
        if k >= self.operator.size:
            return 0.0
        if self.count <= k:
            return inf
        shift = self._shift(k)
        ratio = abs(float(self.ritz[k]) - shift) / (abs(self.kth(k) - shift) or inf)
        return ratio / (1 - ratio) if ratio < 1 else inf

    def _shift(self, k: int) -> float:
        """σ of the power step in `stepped`."""
        return 0.0 if self.magnitude else min(0.0, (float(self.ritz[-1]) + self.kth(k)) / 2)

    def restart(self, count: int) -> None:
        """Shrinks W to its first `count` Ritz vectors."""
        count = min(count, self.count)
        self.vectors, self.images = self.ritz_vectors(count), self._rotate(self.images, count)
        self.ritz = self.ritz[:count]
        self.projected = torch.diag(self.ritz)
        self.rotation = torch.eye(count, dtype=torch.float64, device="cpu")
