"""Muon (Jordan et al. 2024), as `torch.optim.Muon` without weight decay, in θ's own precision (torch's is bfloat16)."""

from __future__ import annotations

from collections.abc import Callable
from math import nan, sqrt
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from analysis.rules._shaped import Shaped
from analysis.specs import Positive, RuleNumbers
from analysis.specs.base import Decay

if TYPE_CHECKING:
    from torch import Tensor


COEFFICIENTS, ROUNDS, EPSILON = (3.4445, -4.775, 2.0315), 5, 1e-7  # of the Newton–Schulz iteration, as torch's


class Numbers(RuleNumbers):
    """Applies to parameters of two or more dimensions, which are flattened after the first. Other parameters take plain
    (S)GD steps of `rate_of_others` times the learning rate. The segment must measure `steering`, which gives the
    shapes.
    """

    kind: Literal["muon"] = "muon"
    momentum: Annotated[Decay, Field(description="Decay of the momentum [1]")] = 0.95
    rate_of_others: Annotated[
        Positive,
        Field(description="Learning rate of parameters that are not matrices, relative to that of the matrices [1]"),
    ] = 1.0

    @property
    def title(self) -> str:
        return "Muon"

    @property
    def remembered(self) -> int:
        return 1

    def words(self) -> str:
        return f"{self.title}, {self.usual_words()}, momentum {self.momentum:g}"


class Rule(Shaped):
    """m ← μ m + (1 − μ) g; for a matrix θ ← θ − η √max(1, rows/columns) O(μ m + (1 − μ) g), where O moves the singular
    values to about 1."""

    def __init__(self, numbers: Numbers) -> None:
        super().__init__()
        self.learning_rate, self.momentum, self.others = numbers.learning_rate, numbers.momentum, numbers.rate_of_others

    def initial_state(self, theta: Tensor) -> dict[str, Tensor]:
        return {"average": theta.new_zeros(theta.shape)}

    def update(
        self, theta: Tensor, gradient: Callable[[Tensor], Tensor], state: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        import torch

        g, mu = gradient(theta), self.momentum
        average = mu * state["average"] + (1 - mu) * g
        nesterov = mu * average + (1 - mu) * g
        parts = []
        for piece, plain in zip(self.shaped(nesterov), self.shaped(g), strict=True):
            if piece.ndim < 2:
                parts.append(self.others * plain)
                continue
            matrix = piece.flatten(1)
            parts.append(sqrt(max(1, len(matrix) / matrix.shape[1])) * orthogonalised(matrix))
        update = -self.learning_rate * torch.cat([part.reshape(-1) for part in parts])
        return update, {"average": average}

    def stability_threshold(self, gradient_norm: float) -> float:
        """NaN, since no threshold is known."""
        return nan


def orthogonalised(matrix: Tensor) -> Tensor:
    """About U Vᵀ of the matrix U S Vᵀ. Newton and Schulz's iteration makes its singular values lie between 0.5 and
    1.5."""
    a, b, c = COEFFICIENTS
    tall = len(matrix) > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / x.norm().clamp(min=EPSILON)
    for _ in range(ROUNDS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x
