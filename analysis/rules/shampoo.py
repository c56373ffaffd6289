"""Shampoo (Gupta, Koren, Singer 2018)."""

from __future__ import annotations

from collections.abc import Callable
from math import nan
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from analysis.rules._shaped import Shaped
from analysis.specs import Count, Positive, RuleNumbers

if TYPE_CHECKING:
    from torch import Tensor


class Numbers(RuleNumbers):
    """`refresh` is the number of steps between two computations of the roots. `epsilon` is the initial value on the
    diagonals of the sums. The segment must measure `steering`, which gives the parameters' shapes. Parameters with more
    than two dimensions are flattened after the first."""

    kind: Literal["shampoo"] = "shampoo"
    epsilon: Annotated[Positive, Field(description="Number added to the eigenvalues of the preconditioners [1]")] = 1e-4
    refresh: Annotated[
        Count, Field(description="Steps between two computations of the preconditioners' roots [steps]")
    ] = 10

    @property
    def title(self) -> str:
        return "Shampoo"

    @property
    def remembered(self) -> int:
        return 4  # or more: two sums and two roots of each matrix, by its sides

    def words(self) -> str:
        return f"{self.title}, {self.usual_words()}, roots every {self.refresh} steps"


class Rule(Shaped):
    """θ ← θ − η L^(−1/4) G R^(−1/4) with L = εI + Σ G Gᵀ and R = εI + Σ Gᵀ G; of a vector, θ ← θ − η L^(−1/2) g."""

    def __init__(self, numbers: Numbers) -> None:
        super().__init__()
        self.learning_rate, self.epsilon, self.refresh = numbers.learning_rate, numbers.epsilon, numbers.refresh

    def initial_state(self, theta: Tensor) -> dict[str, Tensor]:
        """Empty, since the shapes of the sums are not known here. `update` makes them."""
        import torch

        return {"updates": torch.zeros((), dtype=torch.int64)}

    def update(
        self, theta: Tensor, gradient: Callable[[Tensor], Tensor], state: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        import torch

        count, state = int(state["updates"]), {**state, "updates": state["updates"] + 1}
        parts = []
        for place, piece in enumerate(self.shaped(gradient(theta))):
            matrix = piece.flatten(1) if piece.ndim > 1 else piece[:, None]
            sides = (matrix @ matrix.T, matrix.T @ matrix) if piece.ndim > 1 else (matrix @ matrix.T,)
            roots = []
            for side, outer in zip("lr", sides, strict=False):
                total, root = f"{place}.{side}.sum", f"{place}.{side}.root"
                before = state.get(total, self.epsilon * torch.eye(len(outer)).to(outer))
                state[total] = before + outer
                if count % self.refresh == 0:
                    state[root] = power(state[total], -0.5 / len(sides))
                roots.append(state[root])
            preconditioned = roots[0] @ matrix
            parts.append((preconditioned @ roots[1] if len(roots) > 1 else preconditioned).reshape(-1))
        return -self.learning_rate * torch.cat(parts), state

    def stability_threshold(self, gradient_norm: float) -> float:
        """NaN, since its threshold applies to the preconditioned Hessian."""
        return nan


def power(matrix: Tensor, exponent: float) -> Tensor:
    """A power of a symmetric positive definite matrix, in float64. Eigenvalues below 1e-12 of the largest, which are
    rounding errors, are raised. For a matrix that is not finite, the result is NaN, which ends the segment."""
    import torch

    if not bool(torch.isfinite(matrix).all()):
        return torch.full_like(matrix, torch.nan)
    values, vectors = torch.linalg.eigh(matrix.double())
    values = values.clamp(min=1e-12 * float(values[-1]))
    return ((vectors * values**exponent) @ vectors.T).to(matrix.dtype)
