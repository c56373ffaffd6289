"""The dominant subspace: projections, alignment and overlap."""

from __future__ import annotations

import torch
from torch import Tensor

from sharpflat.curvature.base import check_vectors
from sharpflat.curvature.inner import inner_products, norms
from sharpflat.curvature.modes import without_autocast
from sharpflat.errors import InputError


class DominantSubspace:
    """The span S_k of k orthonormal vectors U, with the projector P_k = U Uᵀ.

    Attributes:
        basis: U [P, k].
    """

    def __init__(self, basis: Tensor, *, verify: bool = True) -> None:
        """Uses U [P, k] without copying it.

        Args:
            basis: U.
            verify: Set it to False if U was verified earlier. Computing UᵀU costs as much as projecting k/2 vectors.

        Raises:
            InputError: U is not a matrix of real numbers (also with `verify=False`), or its columns are not orthonormal
                (up to √ε of the dtype), or not finite.
        """
        if not isinstance(basis, Tensor) or not basis.is_floating_point() or basis.layout != torch.strided:
            kind = basis.dtype if isinstance(basis, Tensor) else type(basis).__name__
            raise InputError(
                f"the basis must be a dense tensor of real numbers (floats), not {kind}; see torch.as_tensor()"
            )
        if basis.ndim != 2:
            raise InputError(f"the basis must be a matrix [P, k], not {list(basis.shape)}")
        self.basis = basis.detach()
        if not verify:
            return
        with without_autocast(basis.device):
            gram = inner_products(self.basis, self.basis)
        error = (gram - torch.eye(basis.shape[1], dtype=gram.dtype, device=gram.device)).abs()
        if basis.shape[1] and not float(error.max()) <= torch.finfo(basis.dtype).eps ** 0.5:
            raise InputError(f"the basis is not orthonormal: UᵀU differs from I by {float(error.max()):.1e}")

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the basis."""
        return self.basis.dtype

    @property
    def device(self) -> torch.device:
        """The device of the basis."""
        return self.basis.device

    @property
    def k(self) -> int:
        """The dimension of the subspace."""
        return self.basis.shape[1]

    @property
    def size(self) -> int:
        """P, the dimension of the surrounding space."""
        return self.basis.shape[0]

    def project(self, v: Tensor) -> Tensor:
        """P_k v, for a vector [P] or the columns of a matrix [P, K].

        Raises:
            InputError: v has another size, dtype or device than the basis.
        """
        coordinates = self._coordinates(v).to(v.dtype)
        with without_autocast(self.device):
            return self.basis @ coordinates

    def project_out(self, v: Tensor) -> Tensor:
        """(I − P_k) v, the part in the bulk subspace, for a vector [P] or the columns of a matrix [P, K].

        It is exactly 0 if k = P.

        Raises:
            InputError: v has another size, dtype or device than the basis.
        """
        inside = self.project(v)
        return v - inside if self.k < self.size else 0 * v

    def alignment(self, v: Tensor) -> Tensor:
        """χ_k(v) = ‖P_k v‖/‖v‖ in [0, 1], and 0 for v = 0: a scalar for [P], or [K] for the columns of [P, K].

        Raises:
            InputError: v has another size, dtype or device than the basis.
        """
        part, norm = norms(self._coordinates(v)), norms(v)
        ratio = (part / norm.clamp_min(torch.finfo(norm.dtype).tiny)).clamp_max(1)
        return torch.where(norm > 0, ratio, 0 * norm).to(v.dtype)

    def overlap(self, other: DominantSubspace) -> float:
        """‖UᵀU'‖_F²/min(k, k') in [0, 1], the mean squared cosine of the angles; it is 1 for equal subspaces.

        Raises:
            InputError: The other basis has another size, dtype or device.
        """
        check_vectors(other.basis, self, ndim=2)
        smaller = min(self.k, other.k)
        if smaller == 0:
            return 0.0
        with without_autocast(self.basis.device):
            squares = float(inner_products(self.basis, other.basis).square().sum())
        return min(squares / smaller, 1.0)  # rounding errors may exceed it; NaN stays

    def _coordinates(self, v: Tensor) -> Tensor:
        """Uᵀ v in float64, [k] or [k, K]."""
        columns = isinstance(v, Tensor) and v.ndim > 1
        check_vectors(v, self, ndim=2 if columns else 1)
        with without_autocast(self.device):
            return inner_products(self.basis, v) if columns else inner_products(self.basis, v[:, None])[:, 0]
