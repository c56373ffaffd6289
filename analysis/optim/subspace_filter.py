"""The subspace filter: weighs an update's dominant and bulk components."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.curvature import DominantSubspace


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
