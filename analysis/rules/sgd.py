"""Gradient descent, stochastic or on the full batch, with or without momentum, as `torch.optim.SGD`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from analysis.specs import RuleNumbers
from analysis.specs.base import Decay

if TYPE_CHECKING:
    from torch import Tensor


class Numbers(RuleNumbers):
    """SGD or, on the full batch, GD. With `momentum` 0 there is no momentum."""

    kind: Literal["sgd"] = "sgd"
    momentum: Annotated[Decay, Field(description="Decay of the velocity; 0 for no momentum [1]")] = 0.0

    @property
    def title(self) -> str:
        return "GD" if self.batch_size is None else "SGD"

    @property
    def remembered(self) -> int:
        return 1 if self.momentum else 0

    def words(self) -> str:
        return self.usual_words() + (f", momentum {self.momentum:g}" if self.momentum else "")

    def short(self) -> str:
        return self.title.lower() + (f"-m{self.momentum:g}" if self.momentum else "")


class Rule:
    """θ ← θ − η b with b ← μ b + g, where the first b is g (PyTorch's without dampening and Nesterov)."""

    def __init__(self, numbers: Numbers) -> None:
        self.learning_rate, self.momentum = numbers.learning_rate, numbers.momentum

    def initial_state(self, theta: Tensor) -> dict[str, Tensor]:
        return {"velocity": theta.new_zeros(theta.shape)} if self.momentum else {}

    def update(
        self, theta: Tensor, gradient: Callable[[Tensor], Tensor], state: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        direction = gradient(theta)
        if self.momentum:
            direction = self.momentum * state["velocity"] + direction
            state = {"velocity": direction}
        return -self.learning_rate * direction, state

    def stability_threshold(self, gradient_norm: float) -> float:
        """2 (1 + μ)/η: the largest curvature at which (full-batch) descent on a quadratic is stable."""
        return 2 * (1 + self.momentum) / self.learning_rate
