"""The subspace filter: weighs an update's dominant and bulk components.

`SubspaceSGD` and the pipeline's filtered segments both make their updates here.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf, nan

import torch
from torch import Tensor

from sharpflat.curvature.eigensolver import SymmetricOperator, top_eigenspace
from sharpflat.curvature.subspace import DominantSubspace
from sharpflat.optim.refresh import Refresh, RefreshRule

# Random vectors that the first refresh begins with: half the products of a block of k, enough for double eigenvalues.
_COLD_BLOCK = 2


class SubspaceFilter:
    """u ← α_dom P_k u + β_bulk P_k^⊥ u, with P_k recomputed now and then (Zakarin & Singh).

    Where α_dom = β_bulk no curvature is asked for. Each refresh starts from the last one's block.

    Attributes:
        dominant: basis [P, k] of the last refresh, its eigenvectors one power step on; None before the first.
        start: block [P, k + guard] to begin the next refresh from; None is a random one.
        refreshed_at: step of the last refresh; None before the first.
        interval: steps from the last refresh to the next.
    """

    def __init__(
        self,
        *,
        k: int,
        tolerance: float,
        refresh_every: int | None = None,
        refresh_error: float | None = None,
        refresh_overlap: float | None = None,
        dominant: Tensor | None = None,
        start: Tensor | None = None,
        refreshed_at: int | None = None,
        interval: int | None = None,
    ) -> None:
        """Takes up where another left off, if its attributes are given.

        Args:
            k: dimension of the dominant subspace.
            tolerance: of the eigenpairs' residuals, relative to λ_k; the eigensolver also stops where one power step
                changes no more than `refresh_error` or `refresh_overlap` allows.
            refresh_every: steps between refreshes, at least 1; exactly one of the three is given.
            refresh_error: largest relative error of the filtered update: refreshes as often as that needs.
            refresh_overlap: smallest overlap of the subspace in use with a new one: refreshes as often as that needs.
            dominant: see above, as are the others; not verified again.
            start: may be given without `dominant`.
            refreshed_at: needed with `dominant`.
            interval: needed with `dominant`, unless it is fixed by `refresh_every`.

        Raises:
            InputError: not exactly one of the three is given, or it is out of range.
        """
        self.k, self.tolerance = k, tolerance
        self.rule = RefreshRule(refresh_every, refresh_error, refresh_overlap)
        self.dominant, self.start, self.refreshed_at = dominant, start, refreshed_at
        self.interval = self.rule.first if interval is None or refresh_every is not None else interval

    def due(self, step: int) -> bool:
        """Whether a step that needs the subspace would refresh it."""
        return self.dominant is None or self.refreshed_at is None or step - self.refreshed_at >= self.interval

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

        def filtered_by(basis: Tensor) -> Tensor:
            subspace = DominantSubspace(basis, verify=False)
            return filter_update(update, subspace, alpha_dom=alpha_dom, beta_bulk=beta_bulk)

        if not self.due(step):
            assert self.dominant is not None
            return filtered_by(self.dominant), None

        def enough(basis: Tensor, stepped: Tensor) -> bool:
            error = _relative_error(filtered_by(basis), filtered_by(stepped))
            overlap = DominantSubspace(basis, verify=False).overlap(DominantSubspace(stepped, verify=False))
            return self.rule.enough(error=error, overlap=overlap)

        found = top_eigenspace(
            hessian(),
            self.k,
            start=self.start,
            block=_COLD_BLOCK,
            tolerance=self.tolerance,
            enough=None if self.rule.every else enough,
        )
        # One power step on. Contiguous: the layout that a file gives back. Rounding depends on it.
        new = DominantSubspace(found.start[:, : self.k].contiguous())
        filtered = filtered_by(new.basis)
        overlap, error, interval, kept, following = nan, nan, 0, True, self.rule.first
        if self.dominant is not None and self.refreshed_at is not None:
            overlap = DominantSubspace(self.dominant, verify=False).overlap(new)
            error = _relative_error(filtered_by(self.dominant), filtered)
            interval = step - self.refreshed_at
            kept, following = self.rule.next(interval, self.interval, error=error, overlap=overlap)
        self.dominant, self.start, self.refreshed_at = new.basis, found.start.contiguous(), step
        self.interval = following
        residual = float(found.residuals.max())
        quality = (found.converged, found.reason)
        return filtered, Refresh(
            step, found.eigenvalues, residual, overlap, found.products, *quality, interval, error, kept
        )


def _relative_error(approximation: Tensor, exact: Tensor) -> float:
    """‖approximation − exact‖/‖exact‖, 0 where they are equal."""
    difference = float(torch.linalg.vector_norm(approximation - exact))
    norm = float(torch.linalg.vector_norm(exact))
    if difference == 0.0:
        return 0.0
    return difference / norm if norm > 0.0 else inf


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
