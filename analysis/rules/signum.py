"""Sign descent, and with momentum Signum (Bernstein et al. 2018)."""

from __future__ import annotations

from collections.abc import Callable
from math import nan
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from analysis.specs import RuleNumbers
from analysis.specs.base import Decay

if TYPE_CHECKING:
    from torch import Tensor


class Numbers(RuleNumbers):
    """With `momentum` 0 it is sign descent."""

    kind: Literal["signum"] = "signum"
    momentum: Annotated[Decay, Field(description="Decay of the momentum [1]")] = 0.0

    @property
    def title(self) -> str:
        return "Signum" if self.momentum else "sign descent"

    @property
    def remembered(self) -> int:
        return 1 if self.momentum else 0

    def words(self) -> str:
        momentum = f", momentum {self.momentum:g}" if self.momentum else ""
        return f"{self.title}, {self.usual_words()}{momentum}"


class Rule:
    """θ ← θ − η sign(m) with m ← μ m + (1 − μ) g, from m = 0."""

    def __init__(self, numbers: Numbers) -> None:
        self.learning_rate, self.momentum = numbers.learning_rate, numbers.momentum

    def initial_state(self, theta: Tensor) -> dict[str, Tensor]:
        return {"average": theta.new_zeros(theta.shape)} if self.momentum else {}

    def update(
        self, theta: Tensor, gradient: Callable[[Tensor], Tensor], state: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        direction = gradient(theta)
        if self.momentum:
            direction = self.momentum * state["average"] + (1 - self.momentum) * direction
            state = {"average": direction}
        return -self.learning_rate * direction.sign(), state

    def stability_threshold(self, gradient_norm: float) -> float:
        """NaN, since no threshold is known."""
        return nan
