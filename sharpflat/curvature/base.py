"""The common interface of all curvature operators: products as `H @ v`, a shape, and a view for SciPy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from sharpflat.errors import InputError

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator


class Sized(Protocol):
    """An operator on R^P, an objective with P parameters, or a subspace of R^P."""

    @property
    def size(self) -> int: ...

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def device(self) -> torch.device: ...


class Operator:
    """A symmetric linear operator on R^P.

    Attributes:
        size: P.
        dtype: dtype of the vectors.
        device: Device of the vectors.
        exact: Whether the operator is symmetric by construction, apart from rounding.
    """

    exact = True
    size: int
    dtype: torch.dtype
    device: torch.device

    def matvec(self, v: Tensor) -> Tensor:
        """The product with one vector [P], [P].

        Raises:
            InputError: v has another shape, dtype or device.
        """
        raise NotImplementedError

    def matmat(self, V: Tensor) -> Tensor:
        """The products with the columns of V [P, K], [P, K] (stored column by column).

        Raises:
            InputError: V has another shape, dtype or device.
        """
        raise NotImplementedError

    @property
    def shape(self) -> tuple[int, int]:
        """(P, P)"""
        return self.size, self.size

    def __matmul__(self, V: Tensor) -> Tensor:
        """The product with a vector [P] or with the columns of a matrix [P, K]: `H @ v`, `H @ V`.

        Raises:
            InputError: V is not a tensor [P] or [P, K] of the operator's dtype and device.
        """
        if not isinstance(V, Tensor):
            raise InputError(f"expected a tensor, not a {type(V).__name__}; to_scipy() takes NumPy arrays")
        return self.matmat(V) if V.ndim == 2 else self.matvec(V)

    def to_scipy(self) -> LinearOperator:
        """The operator as a `scipy.sparse.linalg.LinearOperator` on NumPy arrays.

        Call `eigsh` with `which="LA"` for the largest eigenvalues. Its default finds those largest in magnitude.

        Raises:
            InputError: SciPy is not installed, NumPy lacks the dtype, or a vector is complex.
        """
        try:
            from scipy.sparse.linalg import LinearOperator
        except ImportError as error:
            raise InputError("to_scipy() needs SciPy: pip install scipy") from error
        try:
            dtype = torch.empty(0, dtype=self.dtype).numpy().dtype
        except TypeError as error:
            raise InputError(f"to_scipy(): NumPy has no dtype like {self.dtype}; convert the model first") from error

        def multiply(V: Any) -> Any:
            if V.dtype.kind == "c":
                raise InputError("the operator is real: multiply the real and the imaginary part one by one")
            return (self @ torch.tensor(V, dtype=self.dtype, device=self.device)).cpu().numpy()

        return LinearOperator(self.shape, matvec=multiply, rmatvec=multiply, matmat=multiply, dtype=dtype)


def check_vectors(v: Tensor, like: Sized, ndim: int) -> None:
    """Raises InputError unless v is dense, [P] (`ndim` 1) or [P, K] (2), and of like's size, dtype and device."""
    if not isinstance(v, Tensor):
        raise InputError(f"expected a tensor, not a {type(v).__name__}")
    if v.layout != torch.strided:
        raise InputError(f"expected a tensor that is dense, not {v.layout}: call to_dense() on it")
    fits = v.ndim == ndim and v.shape[0] == like.size
    if not fits or v.dtype != like.dtype or v.device != like.device:
        shape = [like.size, "K"][:ndim]
        raise InputError(
            f"expected a tensor {shape} of {like.dtype} on {like.device}, not {list(v.shape)} of {v.dtype} "
            f"on {v.device}"
        )
