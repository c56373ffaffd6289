"""Update rules by kind, and `SubspaceSGD`, an optimizer for any training loop.

A kind is a module of this package with a class `Rule`; it is imported by name, so that a new rule renames (and
retrains) nothing of the others. So is `SubspaceSGD`, which no training of the pipeline reaches.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.optim.subspace_sgd import SubspaceSGD
    from analysis.specs import RuleSpec

__all__ = ["SubspaceSGD", "UpdateRule", "build"]


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


def build(spec: RuleSpec) -> UpdateRule:
    """The rule that `spec` describes."""
    return import_module(f"analysis.optim.{spec.kind}").Rule(spec)


if not TYPE_CHECKING:  # or type checkers would find every name here, of type Any

    def __getattr__(name: str) -> Any:
        if name == "SubspaceSGD":
            return import_module("analysis.optim.subspace_sgd").SubspaceSGD
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
