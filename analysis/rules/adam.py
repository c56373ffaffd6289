"""Adam, as `torch.optim.Adam` without weight decay."""

from __future__ import annotations

from collections.abc import Callable
from math import nan, sqrt

import torch
from torch import Tensor

from analysis.specs import AdamSpec


class Rule:
    """θ ← θ − η m̂/(√v̂ + ε) with bias-corrected averages m of g (β_1 = momentum) and v of g² (β_2)."""

    def __init__(self, spec: AdamSpec) -> None:
        self.learning_rate, self.epsilon = spec.learning_rate, spec.epsilon
        self.beta1, self.beta2 = spec.momentum, spec.beta2

    def initial_state(self, theta: Tensor) -> dict[str, Tensor]:
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
        """NaN: Adam's is one of the preconditioned Hessian."""
        return nan
