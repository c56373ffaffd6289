"""RMSprop, as `torch.optim.RMSprop` without momentum, centring and weight decay."""

from __future__ import annotations

from collections.abc import Callable
from math import nan
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from analysis.specs import Positive, RuleNumbers
from analysis.specs.base import Decay

if TYPE_CHECKING:
    from torch import Tensor


class Numbers(RuleNumbers):
    kind: Literal["rmsprop"] = "rmsprop"
    decay: Annotated[Decay, Field(description="Decay of the mean square [1]")] = 0.99
    epsilon: Annotated[Positive, Field(description="Number added to the root of the mean square [1]")] = 1e-8

    @property
    def title(self) -> str:
        return "RMSprop"

    @property
    def remembered(self) -> int:
        return 1

    def words(self) -> str:
        return f"{self.title}, {self.usual_words()}, decay {self.decay:g}"


class Rule:
    """θ ← θ − η g/(√v + ε) with v ← α v + (1 − α) g², from v = 0. (Adam without momentum also corrects v's bias.)"""

    def __init__(self, numbers: Numbers) -> None:
        self.learning_rate, self.decay, self.epsilon = numbers.learning_rate, numbers.decay, numbers.epsilon

    def initial_state(self, theta: Tensor) -> dict[str, Tensor]:
        return {"square": theta.new_zeros(theta.shape)}

    def update(
        self, theta: Tensor, gradient: Callable[[Tensor], Tensor], state: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        g = gradient(theta)
        square = self.decay * state["square"] + (1 - self.decay) * g.square()
        return -self.learning_rate * g / (square.sqrt() + self.epsilon), {"square": square}

    def stability_threshold(self, gradient_norm: float) -> float:
        """NaN, since its threshold applies to the preconditioned Hessian."""
        return nan
