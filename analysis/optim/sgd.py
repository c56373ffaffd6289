"""Gradient descent, stochastic or on the full batch: θ ← θ − η g."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from analysis.specs import RuleSpec


class Rule:
    def __init__(self, spec: RuleSpec) -> None:
        self.learning_rate = spec.learning_rate

    def initial_state(self, theta: Tensor) -> dict[str, Tensor]:
        return {}

    def update(
        self, theta: Tensor, gradient: Callable[[Tensor], Tensor], state: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        return -self.learning_rate * gradient(theta), state
