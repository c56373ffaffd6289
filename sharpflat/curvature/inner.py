"""Inner products of long vectors."""

from __future__ import annotations

import torch
from torch import Tensor

_PIECE = 2**14  # rows; longer pieces are less accurate, shorter ones slower


def inner_products(A: Tensor, B: Tensor) -> Tensor:
    """Aᵀ B in float64 [m, n], for A [P, m] and B [P, n] of one dtype.

    Libraries may sum a product of tall matrices one row after the other, in the dtype of the matrices. In float32, the
    squared norm of a unit vector with 10⁶ components is then wrong by 4e-4, and with 10⁷ components by 1e-2 (measured
    with MKL). Here pieces of the rows are multiplied, and their products are added in float64. The error was 1e-6 with
    10⁶ components. On a CPU it takes about the time of the plain product. Half precision is multiplied in float32,
    where its sums do not overflow.
    """
    if torch.finfo(A.dtype).bits < 32:
        A, B = A.float(), B.float()
    return _one_by_one(A, B) if A.device.type == "cpu" else _together(A, B)


def _one_by_one(A: Tensor, B: Tensor) -> Tensor:
    """The faster way on a CPU, where a batched product with few columns takes eight times as long."""
    total = torch.zeros(A.shape[1], B.shape[1], dtype=torch.float64, device=A.device)
    for a, b in zip(A.split(_PIECE), B.split(_PIECE), strict=True):
        total += a.T @ b
    return total


def _together(A: Tensor, B: Tensor) -> Tensor:
    """All pieces in one batched product. On a GPU, each piece alone would cost a launch or two."""
    count, rest = divmod(len(A), _PIECE)
    whole = len(A) - rest
    pieces = A[:whole].unflatten(0, (count, _PIECE)).transpose(1, 2) @ B[:whole].unflatten(0, (count, _PIECE))
    return pieces.double().sum(0) + (A[whole:].T @ B[whole:])  # type: ignore[no-any-return]


def norms(V: Tensor) -> Tensor:
    """The norms of the columns of V [P, K] in float64 [K], or of a vector [P] as a scalar."""
    found: Tensor = torch.linalg.vector_norm(V, dim=0, dtype=torch.float64)
    return found
