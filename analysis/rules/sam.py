"""Sharpness-aware minimisation (Foret et al.; Song et al., section B.2)."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from analysis.specs import Positive, RuleNumbers

if TYPE_CHECKING:
    from torch import Tensor


class Numbers(RuleNumbers):
    """`rho` is the perturbation radius."""

    kind: Literal["sam"] = "sam"
    rho: Annotated[Positive, Field(description="ρ, the radius of the perturbation [1]")]

    @property
    def title(self) -> str:
        return "SAM"

    def words(self) -> str:
        return f"{self.title}, ρ = {self.rho:g}, {self.usual_words()}"


class Rule:
    """θ ← θ − η g(θ + ρ g(θ)/‖g(θ)‖), where both gradients use the same examples. There is no step if the gradient is
    0."""

    def __init__(self, numbers: Numbers) -> None:
        self.learning_rate, self.rho = numbers.learning_rate, numbers.rho

    def initial_state(self, theta: Tensor) -> dict[str, Tensor]:
        return {}

    def update(
        self, theta: Tensor, gradient: Callable[[Tensor], Tensor], state: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        from sharpflat.curvature.inner import norms

        ascent = gradient(theta)
        norm = norms(ascent).to(ascent)
        descent = gradient(theta + (self.rho / norm) * ascent)
        # Decided on the device. Else it is 0, or NaN, which ends the segment.
        return -self.learning_rate * descent.where(norm > 0, ascent), state

    def stability_threshold(self, gradient_norm: float) -> float:
        return sam_edge(gradient_norm, learning_rate=self.learning_rate, rho=self.rho)


def sam_edge(gradient_norm: float, *, learning_rate: float, rho: float) -> float:
    """The curvature at which SAM's step on a quadratic is no longer stable (Long & Bartlett).

    ‖∇L‖/(2ρ) · (√(1 + 8ρ/(η‖∇L‖)) − 1), written so that it tends to 2/η for ‖∇L‖/ρ → ∞ and to 0 for ‖∇L‖ → 0
    without cancellation. In Song et al. the ρ under the root is missing.
    """
    if gradient_norm == 0:
        return 0.0
    ratio = 8 * rho / (learning_rate * gradient_norm)
    return 4 / learning_rate / (sqrt(1 + ratio) + 1)
