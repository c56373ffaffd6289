"""Adam, as `torch.optim.Adam` without weight decay."""

from __future__ import annotations

from collections.abc import Callable
from math import nan, sqrt
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from analysis.specs import Positive, RuleNumbers
from analysis.specs.base import Decay

if TYPE_CHECKING:
    from torch import Tensor

USUAL_BETA1, USUAL_BETA2 = 0.9, 0.999  # left out of the words


class Numbers(RuleNumbers):
    """`momentum` is β_1. With 0 it is Adam without momentum."""

    kind: Literal["adam"] = "adam"
    momentum: Annotated[Decay, Field(description="β₁, the decay of the gradient's average; 0 for no momentum [1]")] = (
        USUAL_BETA1
    )
    beta2: Annotated[Decay, Field(description="β₂, the decay of the squared gradient's average [1]")] = USUAL_BETA2
    epsilon: Annotated[Positive, Field(description="Number added to the denominator of each update [1]")] = 1e-8

    @property
    def title(self) -> str:
        return "Adam"

    @property
    def remembered(self) -> int:
        return 2

    def words(self) -> str:
        momentum = f", momentum {self.momentum:g}" if self.momentum else ""
        beta2 = f", β₂ = {self.beta2:g}" if self.beta2 != USUAL_BETA2 else ""
        return f"{self.title}, {self.usual_words()}{momentum}{beta2}"

    def short(self) -> str:
        return super().short() + (f"-m{self.momentum:g}" if self.momentum != USUAL_BETA1 else "")


class Rule:
    """θ ← θ − η m̂/(√v̂ + ε) with bias-corrected averages m of g (β_1 = momentum) and v of g² (β_2)."""

    def __init__(self, numbers: Numbers) -> None:
        self.learning_rate, self.epsilon = numbers.learning_rate, numbers.epsilon
        self.beta1, self.beta2 = numbers.momentum, numbers.beta2

    def initial_state(self, theta: Tensor) -> dict[str, Tensor]:
        import torch

        zeros = theta.new_zeros(theta.shape)
        # On the CPU wherever θ is: the host counts, and waits for no device.
        return {"first_moment": zeros, "second_moment": zeros.clone(), "updates": torch.zeros((), dtype=torch.int64)}

    def update(
        self, theta: Tensor, gradient: Callable[[Tensor], Tensor], state: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        g = gradient(theta)
        count = int(state["updates"]) + 1
        first = self.beta1 * state["first_moment"] + (1 - self.beta1) * g
        second = self.beta2 * state["second_moment"] + (1 - self.beta2) * g.square()
        size = self.learning_rate / (1 - self.beta1**count)
        update = -size * first / (second.sqrt() / sqrt(1 - self.beta2**count) + self.epsilon)
        return update, {"first_moment": first, "second_moment": second, "updates": state["updates"] + 1}

    def stability_threshold(self, gradient_norm: float) -> float:
        """NaN, since Adam's threshold applies to the preconditioned Hessian."""
        return nan
