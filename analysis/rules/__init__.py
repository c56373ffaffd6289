"""Update rules by kind. A kind is a module of this package with its numbers and a class `Rule`. It is imported by name,
so that a new rule does not rename (and retrain) segments with other rules."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.specs import RuleNumbers


class UpdateRule(Protocol):
    """Turns gradients into updates. It does not know data, segments or subspaces."""

    def initial_state(self, theta: Tensor) -> dict[str, Tensor]:
        """The rule's state before the first step. The state is what the rule remembers between steps."""

    def update(
        self, theta: Tensor, gradient: Callable[[Tensor], Tensor], state: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The update [P] to add to `theta` [P], and the new state.

        Args:
            theta: parameters, not changed.
            gradient: the (minibatch) gradient [P] at any parameters [P]. Every call uses the same examples.
            state: the result of `initial_state` or of the last call.
        """

    def stability_threshold(self, gradient_norm: float) -> float:
        """The sharpness beyond which the full-batch rule is unstable for a gradient of this norm; NaN if it is
        unknown."""


def build(numbers: RuleNumbers) -> UpdateRule:
    """The rule that `numbers` describe."""
    return cast("UpdateRule", import_module(f"analysis.rules.{numbers.kind}").Rule(numbers))
