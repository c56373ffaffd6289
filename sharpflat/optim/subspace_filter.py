"""The subspace filter, which weights the dominant and the bulk component of an update.

`SubspaceSGD` and the pipeline's filtered segments both use it.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf, nan

from torch import Tensor

from sharpflat.curvature.eigensolver import top_eigenspace
from sharpflat.curvature.inner import norms
from sharpflat.curvature.subspace import DominantSubspace
from sharpflat.curvature.symmetric import SymmetricOperator
from sharpflat.optim.refresh import Refresh, RefreshRule

# From random vectors, a search with a loose tolerance may end with another eigenvector in the place of one of the first
# k. Neither the residuals nor the change by a power step show this. The next refreshes would keep the wrong one for
# long.
_COLD_TOLERANCE = 0.01


class SubspaceFilter:
    """u ← α_dom P_k u + β_bulk P_k^⊥ u, where P_k is recomputed from time to time (Zakarin & Singh).

    If α_dom = β_bulk, no curvature is evaluated. Each refresh starts from the block of the last one.

    Attributes:
        dominant: basis [P, k] of the last refresh: its eigenvectors after one more power step; None before the first.
        start: block [P, k + guard] from which the next refresh starts; None means a random block.
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
        """A new filter or, with the attributes of another filter, a filter that continues where that one stopped.

        Args:
            k: dimension of the dominant subspace.
            tolerance: largest residual of the eigenpairs, relative to λ_k; from a random block, at most 0.01. From the
                block of the last refresh, the eigensolver also stops once one more power step neither changes more than
                `refresh_error` or `refresh_overlap` allows, nor can leave a larger error.
            refresh_every: steps between refreshes, at least 1. Give exactly one of the three refresh settings.
            refresh_error: largest relative error of the filtered update; it is refreshed as often as this needs.
            refresh_overlap: smallest overlap of the subspace in use with a new one; refreshed as often as this needs.
            dominant: see the attribute. It is not verified again.
            start: see the attribute. It may be given without `dominant`.
            refreshed_at: see the attribute. It is needed with `dominant`.
            interval: see the attribute. It is needed with `dominant`, unless `refresh_every` fixes it.

        Raises:
            InputError: not exactly one of the three refresh settings is given, or it is out of range.
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
        """The weighted update [P], and the refresh if one was due. An update of zero makes no refresh.

        Args:
            update: [P].
            step: step of the training run, which must not decrease between calls.
            hessian: returns the Hessian at the current θ. It is called only when a refresh is due.
            alpha_dom: weight of the dominant component.
            beta_bulk: weight of the bulk component.

        Raises:
            InputError: the Hessian or the filter's k or tolerance does not suit `top_eigenspace`.
            NonFiniteProductError: a Hessian product is not finite.
        """
        if alpha_dom == beta_bulk:
            return (update if beta_bulk == 1.0 else beta_bulk * update), None

        def filtered_by(basis: Tensor) -> Tensor:
            subspace = DominantSubspace(basis, verify=False)
            return filter_update(update, subspace, alpha_dom=alpha_dom, beta_bulk=beta_bulk)

        if not self.due(step):
            assert self.dominant is not None
            return filtered_by(self.dominant), None
        if not bool(update.any()):  # it would measure no error of the old subspace
            return update, None

        def enough(basis: Tensor, stepped: Tensor, remaining: float) -> bool:
            error = _relative_error(filtered_by(basis), filtered_by(stepped))
            overlap = DominantSubspace(basis, verify=False).overlap(DominantSubspace(stepped, verify=False))
            return self.rule.enough(error=error, overlap=overlap, remaining=remaining)

        found = top_eigenspace(
            hessian(),
            self.k,
            start=self.start,
            tolerance=self.tolerance if self.start is not None else min(self.tolerance, _COLD_TOLERANCE),
            enough=None if self.rule.every or self.start is None else enough,
        )
        # After one more power step. It is contiguous, as a tensor read from a file is, since rounding depends on
        # layout.
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
    """‖approximation − exact‖/‖exact‖; 0 if they are equal."""
    difference = float(norms(approximation - exact))
    norm = float(norms(exact))
    if difference == 0.0:
        return 0.0
    return difference / norm if norm > 0.0 else inf


def filter_update(update: Tensor, subspace: DominantSubspace, *, alpha_dom: float, beta_bulk: float) -> Tensor:
    """α_dom P_k u + β_bulk P_k^⊥ u for an update u [P] (Zakarin & Singh, interpolated gradients).

    Dom-SGD has the weights (1, 0), and Bulk-SGD has (0, 1) (Song et al., section 3).
    """
    if alpha_dom == beta_bulk:
        return beta_bulk * update
    if alpha_dom == 0.0:  # the projections themselves, without a subtraction that rounds
        return beta_bulk * subspace.project_out(update)
    dominant = subspace.project(update)
    if beta_bulk == 0.0:
        return alpha_dom * dominant
    return beta_bulk * update + (alpha_dom - beta_bulk) * dominant
