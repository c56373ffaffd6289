"""Probes by kind, which measure along a segment. A kind is a module of this package with its numbers and a class
`Probe`. It is imported by name, so that a new probe does not rename (and retrain) segments that do not use it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from analysis.store.words import Words

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from analysis.rules import UpdateRule
    from analysis.specs import SegmentSpec
    from analysis.specs.kinds import ProbeSpecs
    from analysis.training.problem import Problem
    from sharpflat.curvature.eigensolver import TopEigenspace
    from sharpflat.curvature.operators import Hessian

Row = dict[str, Any]  # values by variable, each a number or an array
Kept = dict[str, Any]  # tensors and numbers, by name


class Diverged(ArithmeticError):
    """A number on which training depends is not finite."""


def finite(value: Tensor | float, what: str) -> float:
    """The value as a number.

    Raises:
        Diverged: if it is not finite, which ends the segment.
    """
    if not math.isfinite(value):
        raise Diverged(f"{what} is not finite")
    return float(value)


class Variable(NamedTuple):
    """A variable of the trajectory's dataset.

    Attributes:
        words: its description in the dataset.
        dimensions: its dimensions besides the probe's own. `Probe.lengths` gives their lengths.
        dtype: dtype of its values; None means the problem's dtype.
    """

    words: Words
    dimensions: tuple[str, ...] = ()
    dtype: str | None = "float64"


@dataclass
class Moment:
    """A step of a segment, as probes see it.

    Attributes:
        spec: the specification of the segment.
        problem: model, data and loss.
        rule: the update rule.
        step: the global step, before its update.
        first_step: the segment's first step.
        theta: parameters [P] at this step.
        start: parameters [P] at the segment's first step.
        value_and_gradient: the full batch's loss and gradient at `theta`, which are evaluated only once.
        counters: counts along the segment, which become attributes of its dataset.
        found: the largest eigenpairs at `theta`, if the spectrum was measured at this step.
    """

    spec: SegmentSpec
    problem: Problem
    rule: UpdateRule
    step: int
    first_step: int
    theta: Tensor
    start: Tensor
    value_and_gradient: Callable[[], tuple[Tensor, Tensor]]
    counters: dict[str, int]
    found: TopEigenspace | None = None

    @property
    def gradient(self) -> Tensor:
        """The full batch's gradient [P]."""
        return self.value_and_gradient()[1]

    def hessian(self) -> Hessian:
        """The Hessian at `theta`, on the held-out examples if there are any."""
        from sharpflat.curvature.operators import Hessian

        return Hessian(self.problem.curvature, self.theta)

    def top_eigenspace(
        self, k: int, start: Tensor | None, tolerance: float, *, beyond: int = 0, beyond_tolerance: float = 1e-2
    ) -> TopEigenspace:
        """The Hessian's k + `beyond` largest eigenpairs, with the products counted.

        Args:
            k: number of eigenpairs to `tolerance`.
            start: block [P, ≥ k] to start from, as `start` of an earlier result.
            tolerance: largest residual, relative to λ_k.
            beyond: number of further eigenpairs.
            beyond_tolerance: largest residual of these, relative to λ_1.
        """
        from sharpflat.curvature.eigensolver import top_eigenspace

        found = top_eigenspace(
            self.hessian(),
            k,
            start=start,
            tolerance=tolerance,
            beyond=beyond,
            beyond_tolerance=beyond_tolerance,
        )
        self.count("probe_products", found.products)
        return found

    def generator(self) -> torch.Generator:
        """A CPU generator of random vectors at this step. They do not depend on what else is measured."""
        import torch

        return torch.Generator().manual_seed(self.spec.seed * 2**32 + self.step)

    def count(self, name: str, amount: int) -> None:
        """Add to a counter."""
        self.counters[name] = self.counters.get(name, 0) + amount


class BaseProbe:
    """The base class of every `Probe`.

    Attributes:
        dimension: the dimension of the dataset along which it measures. Its coordinate is the step.
        variables: the variables that it measures, by name.
        coordinates: descriptions of its variables' other dimensions.
        numbers: the probe's own numbers in the specification.
        kept: tensors and numbers for the next measurement. They survive an interruption, and the segment's children
            continue with them.
    """

    dimension: ClassVar[str]
    variables: ClassVar[dict[str, Variable]]
    coordinates: ClassVar[dict[str, Words]] = {}

    def __init__(self, numbers: Any, kept: Kept) -> None:
        self.numbers, self.kept = numbers, kept

    def lengths(self, k: int, parameters: int) -> dict[str, int]:
        """The lengths of its variables' other dimensions.

        Args:
            k: dimension of the dominant subspace.
            parameters: their number.
        """
        return {}

    def measure(self, moment: Moment) -> Row:
        """Measures before the update. A probe of the update may leave out what only `updated` can know.

        Raises:
            Diverged: a number that training needs is not finite.
        """
        raise NotImplementedError

    def updated(self, moment: Moment, update: Tensor) -> Row:
        """Further values of the row, once the update [P] of this step is known. It is not called if there is no
        update."""
        return {}


def build(probes: ProbeSpecs, kept: dict[str, Kept]) -> dict[str, BaseProbe]:
    """The probes of a segment by kind, in alphabetical order.

    Args:
        probes: their numbers.
        kept: the stored values of each probe, by kind. Missing entries are added.
    """
    made = {}
    for kind in sorted(probes):
        module = import_module(f"analysis.training.probes.{kind}")
        made[kind] = module.Probe(probes[kind], kept.setdefault(kind, {}))
    return made
