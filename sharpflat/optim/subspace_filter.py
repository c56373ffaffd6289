"""The subspace filter: weighs an update's dominant and bulk components.

`SubspaceSGD` and the pipeline's filtered segments both make their updates here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import nan

from torch import Tensor

from sharpflat.curvature.eigensolver import SymmetricOperator, top_eigenspace
from sharpflat.curvature.subspace import DominantSubspace


@dataclass(frozen=True)
class Refresh:
    """What a refresh of the dominant subspace found.

    Attributes:
        step: at which it was made.
        eigenvalues: [k], descending.
        residual: the largest residual norm of the eigenpairs.
        overlap: with the subspace before it, in [0, 1]; NaN at the first refresh.
        products: Hessian products used.
        converged: whether the eigensolver reached its tolerance.
        reason: why not, in words.
    """

    step: int
    eigenvalues: Tensor
    residual: float
    overlap: float
    products: int
    converged: bool
    reason: str | None = None


class SubspaceFilter:
    """u ← α_dom P_k u + β_bulk P_k^⊥ u, with P_k recomputed every `refresh_every` steps (Zakarin & Singh).

    Where α_dom = β_bulk no curvature is asked for. Each refresh starts from the last one's block.

    Attributes:
        dominant: eigenvectors [P, k] of the last refresh; None before the first.
        start: block [P, k + guard] to begin the next refresh from; None is a random one.
        refreshed_at: step of the last refresh; None before the first.
    """

    def __init__(
        self,
        *,
        k: int,
        refresh_every: int,
        tolerance: float,
        dominant: Tensor | None = None,
        start: Tensor | None = None,
        refreshed_at: int | None = None,
    ) -> None:
        """Takes up where another left off, if its attributes are given.

        Args:
            k: dimension of the dominant subspace.
            refresh_every: steps between refreshes, at least 1.
            tolerance: of the eigenpairs' residuals, relative to λ_k.
            dominant: see above, as are the others; not verified again.
            start: may be given without `dominant`.
            refreshed_at: needed with `dominant`.
        """
        self.k, self.refresh_every, self.tolerance = k, refresh_every, tolerance
        self.dominant, self.start, self.refreshed_at = dominant, start, refreshed_at

    def due(self, step: int) -> bool:
        """Whether a step that needs the subspace would refresh it."""
        return self.dominant is None or self.refreshed_at is None or step - self.refreshed_at >= self.refresh_every

    def apply(
        self,
        update: Tensor,
        step: int,
        hessian: Callable[[], SymmetricOperator],
        *,
        alpha_dom: float,
        beta_bulk: float,
    ) -> tuple[Tensor, Refresh | None]:
        """The weighed update [P], and the refresh if one was due.

        Args:
            update: [P].
            step: of the training run; never goes back.
            hessian: makes the Hessian at the current θ; called only when a refresh is due.
            alpha_dom: weight of the dominant component.
            beta_bulk: weight of the bulk component.

        Raises:
            NonFiniteProductError: if a Hessian product is not finite.
        """
        if alpha_dom == beta_bulk:
            return (update if beta_bulk == 1.0 else beta_bulk * update), None
        refresh = None
        if self.due(step):
            refresh = self._refresh(step, hessian())
        assert self.dominant is not None
        subspace = DominantSubspace(self.dominant, verify=False)
        return filter_update(update, subspace, alpha_dom=alpha_dom, beta_bulk=beta_bulk), refresh

    def _refresh(self, step: int, hessian: SymmetricOperator) -> Refresh:
        found = top_eigenspace(hessian, self.k, start=self.start, tolerance=self.tolerance)
        new, overlap = DominantSubspace(found.eigenvectors.contiguous()), nan
        if self.dominant is not None:
            overlap = DominantSubspace(self.dominant, verify=False).overlap(new)
        # Contiguous: the layout that a file gives back. Rounding depends on it.
        self.dominant, self.start, self.refreshed_at = new.basis, found.start.contiguous(), step
        residual = float(found.residuals.max())
        return Refresh(step, found.eigenvalues, residual, overlap, found.products, found.converged, found.reason)


def filter_update(update: Tensor, subspace: DominantSubspace, *, alpha_dom: float, beta_bulk: float) -> Tensor:
    """α_dom P_k u + β_bulk P_k^⊥ u for an update u [P] (Zakarin & Singh, interpolated gradients).

    Dom-SGD is (1, 0), Bulk-SGD (0, 1) (Song et al., section 3).
    """
    if alpha_dom == beta_bulk:
        return beta_bulk * update
    if alpha_dom == 0.0:  # the projections themselves, without a subtraction that rounds
        return beta_bulk * subspace.project_out(update)
    dominant = subspace.project(update)
    if beta_bulk == 0.0:
        return alpha_dom * dominant
    return beta_bulk * update + (alpha_dom - beta_bulk) * dominant
