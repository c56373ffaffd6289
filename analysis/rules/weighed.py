"""SGD with weights of the dominant and the bulk component that change along the segment."""

from __future__ import annotations

from collections.abc import Callable
from math import cos, pi
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from analysis.specs import Count, Positive, Real, RuleNumbers
from sharpflat.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


Pair = tuple[Real, Real]


class Numbers(RuleNumbers):
    """(α_dom, β_bulk) goes from `first` to `last` over `length` steps of this rule. It changes linearly, along a
    cosine, or at once after half of the steps ("step"). With "edge", it is `first` while λ_1 < 2/η at the last refresh,
    and otherwise `last`.

    The dominant subspace is recomputed every `refresh_every` steps. The segment must measure `steering` at each step,
    and must not have weights of its own.
    """

    kind: Literal["weighed"] = "weighed"
    schedule: Annotated[
        Literal["linear", "cosine", "step", "edge"],
        Field(description="How the weights change from the first to the last"),
    ]
    first: Annotated[Pair, Field(description="Initial weights of the dominant and the bulk component [1]")]
    last: Annotated[Pair, Field(description="Final weights of the dominant and the bulk component [1]")]
    length: Annotated[Count, Field(description="Number of steps of the schedule [steps]")]
    refresh_every: Annotated[Count, Field(description="Steps between two refreshes of the subspace [steps]")] = 1
    tolerance: Annotated[Positive, Field(description="Largest residual of the eigenpairs, relative to λ_k [1]")] = 1e-2

    @property
    def title(self) -> str:
        return "SGD"

    def words(self) -> str:
        pairs = " to ".join(f"({alpha:g}, {beta:g})" for alpha, beta in (self.first, self.last))
        return f"{self.usual_words()}, (α, β) {pairs}, {self.schedule}"

    def short(self) -> str:
        return f"sgd-{self.schedule}"


class Rule:
    """θ ← θ − η (α_t P_k g + β_t P_k^⊥ g)."""

    def __init__(self, numbers: Numbers) -> None:
        self.numbers = numbers
        self.steered: tuple[Tensor, float, float] | None = None  # eigenvectors [P, k] and weights

    def initial_state(self, theta: Tensor) -> dict[str, Tensor]:
        """Empty, since the probe `steering` keeps the eigenvectors."""
        return {}

    def steer(self, moment: Any, kept: dict[str, Any]) -> dict[str, float]:
        """The dominant subspace, which is recomputed if it is due, and the weights. It is called before each step."""
        numbers, done = self.numbers, moment.step - moment.first_step
        if done % numbers.refresh_every == 0:
            found = moment.top_eigenspace(moment.spec.problem.k, kept.get("start"), numbers.tolerance)
            kept["start"] = found.start.contiguous()
            kept["basis"] = found.start[:, : found.eigenvectors.shape[1]].contiguous()  # as the filter
            kept["sharpness"] = float(found.eigenvalues[0])
        alpha, beta = weights(numbers, done, kept["sharpness"])
        self.steered = kept["basis"], alpha, beta
        return {"steered_sharpness": kept["sharpness"], "steered_alpha": alpha, "steered_beta": beta}

    def update(
        self, theta: Tensor, gradient: Callable[[Tensor], Tensor], state: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        from sharpflat.curvature.subspace import DominantSubspace
        from sharpflat.optim.subspace_filter import filter_update

        if self.steered is None:
            raise InputError(
                "weighed has to know the dominant subspace: let the segment measure steering, at each step"
            )
        basis, alpha, beta = self.steered
        subspace = DominantSubspace(basis, verify=False)
        return filter_update(
            -self.numbers.learning_rate * gradient(theta), subspace, alpha_dom=alpha, beta_bulk=beta
        ), state

    def stability_threshold(self, gradient_norm: float) -> float:
        """2/η for a dominant component with weight 1."""
        return 2 / self.numbers.learning_rate


def weights(numbers: Numbers, done: int, sharpness: float) -> tuple[float, float]:
    """(α_dom, β_bulk) after `done` steps, if the last measured λ_1 is `sharpness`."""
    passed = min(done / numbers.length, 1.0)
    share = {
        "linear": passed,
        "cosine": (1 - cos(pi * passed)) / 2,
        "step": float(passed >= 0.5),
        "edge": float(sharpness >= 2 / numbers.learning_rate),
    }[numbers.schedule]
    alpha, beta = ((1 - share) * a + share * b for a, b in zip(numbers.first, numbers.last, strict=True))
    return alpha, beta
