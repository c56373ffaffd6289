"""Lion (Chen et al. 2023) without weight decay."""

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
    """`beta1` weights the average in the update, and `beta2` weights it in the new average."""

    kind: Literal["lion"] = "lion"
    beta1: Annotated[Decay, Field(description="Decay of the momentum in the update [1]")] = 0.9
    beta2: Annotated[Decay, Field(description="Decay of the momentum that is kept [1]")] = 0.99

    @property
    def title(self) -> str:
        return "Lion"

    @property
    def remembered(self) -> int:
        return 1

    def words(self) -> str:
        return f"{self.title}, {self.usual_words()}, β = {self.beta1:g}, {self.beta2:g}"


class Rule:
    """θ ← θ − η sign(β_1 m + (1 − β_1) g), then m ← β_2 m + (1 − β_2) g, from m = 0."""

    def __init__(self, numbers: Numbers) -> None:
        self.learning_rate, self.beta1, self.beta2 = numbers.learning_rate, numbers.beta1, numbers.beta2

    def initial_state(self, theta: Tensor) -> dict[str, Tensor]:
        return {"average": theta.new_zeros(theta.shape)}

    def update(
        self, theta: Tensor, gradient: Callable[[Tensor], Tensor], state: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        g, average = gradient(theta), state["average"]
        update = -self.learning_rate * (self.beta1 * average + (1 - self.beta1) * g).sign()
        return update, {"average": self.beta2 * average + (1 - self.beta2) * g}

    def stability_threshold(self, gradient_norm: float) -> float:
        """NaN, since no threshold is known."""
        return nan
