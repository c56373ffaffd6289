"""SGD with ways to limit the sharpness: weight decay, a cosine schedule, or a learning rate capped at 2/λ_1."""

from __future__ import annotations

from collections.abc import Callable
from math import cos, inf, pi
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from analysis.specs import Count, Positive, Real, RuleNumbers

if TYPE_CHECKING:
    from torch import Tensor


class Numbers(RuleNumbers):
    """With `decay_steps`, the learning rate falls to 0 along a cosine over that many steps of this rule. With `capped`,
    it is at most 2/λ_1, which is measured to `tolerance` as often as the probe `steering` measures.

    Weight decay is decoupled, so the recorded loss and its Hessian do not contain it. For SGD without momentum, the
    steps equal those for a loss with the term ½ λ‖θ‖².
    """

    kind: Literal["regularised"] = "regularised"
    weight_decay: Annotated[
        Real, Field(description="Decoupled weight decay, multiplied by the learning rate at each step [1]")
    ] = 0.0
    decay_steps: Annotated[
        Count | None, Field(description="Steps over which the learning rate falls to 0 along a cosine [steps]")
    ] = None
    capped: Annotated[bool, Field(description="Whether the learning rate is at most 2/λ_1")] = False
    tolerance: Annotated[Positive, Field(description="Largest residual of λ_1 for the cap, relative to λ_1 [1]")] = 1e-2

    @property
    def title(self) -> str:
        return "GD" if self.batch_size is None else "SGD"

    def words(self) -> str:
        decay = [f"weight decay {self.weight_decay:g}"] if self.weight_decay else []
        cosine = [f"cosine over {self.decay_steps:,} steps"] if self.decay_steps else []
        return ", ".join([self.usual_words(), *decay, *cosine, *(["η ≤ 2/λ₁"] if self.capped else [])])

    def short(self) -> str:
        return self.title.lower() + ("-capped" if self.capped else "-cosine" if self.decay_steps else "-decay")


class Rule:
    """θ ← θ − η_t (g + λ θ), η_t = min(η (1 + cos πt/T)/2, 2/λ_1), t the number of updates made so far."""

    def __init__(self, numbers: Numbers) -> None:
        self.numbers = numbers
        self.sharpness: float | None = None  # measured at this step

    def initial_state(self, theta: Tensor) -> dict[str, Tensor]:
        import torch

        # On the CPU wherever θ is: the host counts, and waits for no device.
        return {"updates": torch.zeros((), dtype=torch.int64), "sharpness": torch.zeros((), dtype=torch.float64)}

    def steer(self, moment: Any, kept: dict[str, Any]) -> dict[str, float]:
        """λ_1, if a cap needs it."""
        found = moment.top_eigenspace(1, kept.get("start"), self.numbers.tolerance)
        kept["start"] = found.start.contiguous()
        self.sharpness = float(found.eigenvalues[0])
        return {
            "steered_sharpness": self.sharpness,
            "steered_rate": self._capped(self.numbers.learning_rate, self.sharpness),
        }

    def update(
        self, theta: Tensor, gradient: Callable[[Tensor], Tensor], state: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        import torch

        numbers, count, sharpness = self.numbers, int(state["updates"]), state["sharpness"]
        rate = numbers.learning_rate
        if numbers.decay_steps is not None:
            rate *= (1 + cos(pi * min(count / numbers.decay_steps, 1))) / 2
        if self.sharpness is not None:
            sharpness, self.sharpness = torch.tensor(self.sharpness, dtype=torch.float64), None
        direction = gradient(theta)
        if numbers.weight_decay:
            direction = direction + numbers.weight_decay * theta
        state = {"updates": state["updates"] + 1, "sharpness": sharpness}
        return -self._capped(rate, float(sharpness)) * direction, state

    def _capped(self, rate: float, sharpness: float) -> float:
        return min(rate, 2 / sharpness if sharpness > 0 else inf) if self.numbers.capped else rate

    def stability_threshold(self, gradient_norm: float) -> float:
        """2/η for the initial learning rate."""
        return 2 / self.numbers.learning_rate
