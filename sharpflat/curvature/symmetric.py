"""What eigensolver, estimators and spectral densities need of a symmetric operator, and the check of its products."""

from __future__ import annotations

import warnings
from numbers import Integral
from typing import Protocol

import torch
from torch import Tensor

from sharpflat.errors import CurvatureWarning, InputError

WRONG_PRODUCTS = (
    "They are rounding errors, computed in reduced precision (autocast), or an operation's second derivative is wrong "
    "(nn.utils.weight_norm, an autograd.Function)"
)


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


def check_operator(operator: SymmetricOperator) -> None:
    """Refuses what is not an operator, such as a matrix.

    Raises:
        InputError: An attribute is missing or of another kind.
    """
    size, dtype, device = (getattr(operator, name, None) for name in ("size", "dtype", "device"))
    typed = isinstance(size, Integral) and isinstance(dtype, torch.dtype) and isinstance(device, torch.device)
    if not typed or not callable(getattr(operator, "matmat", None)):
        raise InputError(
            f"operator must have size, dtype, device and matmat(V), like a Hessian; found a {type(operator).__name__}. "
            "For a matrix A, pass an object with size = len(A), its dtype and device, and matmat = A.__matmul__"
        )


def are_asymmetric(difference: float, scale: float, dtype: torch.dtype) -> bool:
    """Whether ⟨u, A v⟩ and ⟨v, A u⟩ differ by more than rounding.

    Rounding in a long float32 product reaches 1e-5 of ‖A‖. A wrong operator differs by more than √ε.

    Args:
        difference: The difference of the two.
        scale: The largest ‖A v‖ seen.
        dtype: dtype of the products.
    """
    precision = torch.finfo(dtype)
    underflow = max(precision.tiny, torch.finfo(torch.float64).tiny ** 0.5)  # of products, or of their squares
    return bool(difference > precision.eps**0.5 * scale + underflow)


def report_asymmetry(operator: SymmetricOperator, difference: float, scale: float) -> None:
    """Refuses asymmetric products, or warns of them if the operator is symmetric by construction.

    Raises:
        InputError: The products are asymmetric, and the operator is not `exact`.
    """
    if not are_asymmetric(difference, scale, operator.dtype):
        return
    if not getattr(operator, "exact", False):
        raise InputError(f"the operator is not symmetric: ⟨u, A v⟩ and ⟨v, A u⟩ differ by {difference / scale:.1%}")
    warnings.warn(
        f"the products are not symmetric: ⟨u, A v⟩ and ⟨v, A u⟩ differ by {difference / scale:.1%}. {WRONG_PRODUCTS}. "
        "The result is inaccurate too",
        CurvatureWarning,
        stacklevel=4,
    )


class NonFiniteProductError(ArithmeticError):
    """A product with the operator contains NaN or infinity. The message says which product."""


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
