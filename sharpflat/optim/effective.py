"""Effective learning rates (Song et al., Definition 4)."""

from __future__ import annotations

from math import nan
from typing import TYPE_CHECKING

import torch

from sharpflat.curvature.base import check_vectors

if TYPE_CHECKING:
    from torch import Tensor

    from sharpflat.curvature.subspace import DominantSubspace


def effective_learning_rates(update: Tensor, *, gradient: Tensor, subspace: DominantSubspace) -> tuple[float, float]:
    """Dom-LR and Bulk-LR of an update u [P], where g [P] is the full-batch gradient.

    η^dom = −⟨u, P_k g⟩/‖P_k g‖² and η^bulk = −⟨u, P_k^⊥ g⟩/‖P_k^⊥ g‖². With the minus sign, which the paper's text
    lacks, both are +η for gradient descent. A rate is NaN if its component of the gradient is 0 up to rounding errors
    (100 ε ‖g‖).

    Raises:
        InputError: The update or the gradient has another size, dtype or device than the subspace.
    """
    for vector in (update, gradient):
        check_vectors(vector, subspace, ndim=1)
    least = (100 * torch.finfo(gradient.dtype).eps) ** 2 * float(gradient.double().square().sum())
    dominant, bulk = subspace.project(gradient), subspace.project_out(gradient)
    return _rate(update, dominant, least), _rate(update, bulk, least)


def _rate(update: Tensor, component: Tensor, least: float) -> float:
    square = float(component.double().square().sum())
    return -float(update.double() @ component.double()) / square if square > least else nan
