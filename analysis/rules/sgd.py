"""Gradient descent, stochastic or on the full batch, with or without momentum, as `torch.optim.SGD`."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from analysis.specs import SGDSpec


class Rule:
    """θ ← θ − η b with b ← μ b + g, where the first b is g (PyTorch: no dampening, no Nesterov)."""

    def __init__(self, spec: SGDSpec) -> None:
        self.learning_rate, self.momentum = spec.learning_rate, spec.momentum

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
