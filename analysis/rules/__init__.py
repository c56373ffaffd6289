"""Update rules by kind. A kind is a module of this package with its numbers and a class `Rule`; it is imported by name,
so that a new rule renames (and retrains) nothing of the others."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.specs import RuleNumbers


class UpdateRule(Protocol):
    """Turns gradients into updates; knows nothing of data, segments or subspaces."""

    def initial_state(self, theta: Tensor) -> dict[str, Tensor]:
        """What the rule remembers between steps, before the first one."""

    def update(
        self, theta: Tensor, gradient: Callable[[Tensor], Tensor], state: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The update [P] to add to `theta` [P], and the new state.

        Args:
            theta: parameters, not changed.
            gradient: the (minibatch) gradient [P] at any parameters [P]; the same examples in every call.
            state: what `initial_state` or the last call returned.
        """

    def stability_threshold(self, gradient_norm: float) -> float:
        """The sharpness beyond which the full-batch rule is unstable, where the gradient has this norm; NaN if none
        is known."""


def build(numbers: RuleNumbers) -> UpdateRule:
    """The rule that `numbers` describe."""
    return cast("UpdateRule", import_module(f"analysis.rules.{numbers.kind}").Rule(numbers))
