"""Orthonormal rows, with as many passes as rounding makes necessary."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sharpflat.curvature.inner import inner_products, norms


def orthonormal(rows: Tensor, against: Tensor | None, floor: float = 0.0) -> Tensor:
    """Orthonormal rows that span `rows`, orthogonal to the orthonormal rows `against`.

    Directions are dropped where the rows reach less than `floor`, or no further than rounding errors (of the
    rows, or of their Gram matrix: 1e-7 of the longest).
    Where none is dropped, row i of the result is the one nearest to row i. Passes repeat until one finds
    nothing left to do; rows that are orthonormal already cost one.
    """
    eps = torch.finfo(rows.dtype).eps
    rows, floor = _of_moderate_length(rows, floor)
    for attempt in range(3):
        if len(rows) == 0:
            return rows
        if against is not None and len(against):
            rows = torch.addmm(rows, inner_products(rows.T, against.T).to(rows), against, alpha=-1)
        gram = inner_products(rows.T, rows.T).cpu()
        off = (gram - torch.eye(len(gram), dtype=torch.float64, device="cpu")).abs().max()
        if float(off) <= 50 * eps and (attempt > 0 or against is None):
            return rows
        lengths = gram.diagonal().clamp_min(0).sqrt()
        if float(lengths.max()) == 0:
            return rows[:0]
        scaled = gram / lengths.outer(lengths).clamp_min(torch.finfo(torch.float64).tiny)
        if attempt == 0 and not float(torch.linalg.eigvalsh(scaled)[0]) > 0.1:
            # A Gram matrix squares the condition number: this one needs more digits.
            wide = rows.double()
            gram = (wide @ wide.T).cpu()
        weights, directions = torch.linalg.eigh(gram)
        least = max(max(10 * eps, 1e-7) * float(lengths.max()), floor if attempt == 0 else 0.0)
        keep = weights.clamp_min(0).sqrt() > least
        if bool(keep.all()):  # the nearest orthonormal rows to the normalised ones: each stays what it was
            weights, directions = torch.linalg.eigh(gram / lengths.outer(lengths))
            change = (directions / weights.clamp_min(1e-15).sqrt()) @ directions.T / lengths
        else:
            change = (directions[:, keep] / weights[keep].sqrt()).T
        rows = change.to(rows) @ rows
    return rows


def _of_moderate_length(rows: Tensor, floor: float) -> tuple[Tensor, float]:
    """Rows whose squares neither underflow nor overflow. They are multiplied by a power of two, which is exact."""
    exponent = math.frexp(float(norms(rows.T).max()))[1] if len(rows) else 0
    if abs(exponent) < 20:
        return rows, floor
    largest = math.frexp(torch.finfo(rows.dtype).max)[1] - 2
    factor = math.ldexp(1.0, min(-exponent, largest))
    return rows * factor, floor * factor
