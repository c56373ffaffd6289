"""Probes by kind: what is measured along a segment. A kind is a module of this package with its numbers and a class
`Probe`; it is imported by name, so that a new probe renames (and retrains) nothing that does not ask for it."""

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
    """A number that decides what comes next is not finite."""


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
        words: what the dataset says about it.
        dimensions: beyond the probe's own, each of the length that `Probe.lengths` says.
        dtype: of its values; None is the problem's.
    """

    words: Words
    dimensions: tuple[str, ...] = ()
    dtype: str | None = "float64"


@dataclass
class Moment:
    """A step of a segment, as probes see it.

    Attributes:
        spec: the segment's.
        problem: model, data and loss.
        rule: the update rule.
        step: the global step, before its update.
        first_step: the segment's.
        theta: parameters [P] at this step.
        start: parameters [P] at the segment's first step.
        value_and_gradient: the full batch's loss and gradient at `theta`, evaluated once, whoever asks.
        counters: what is counted along the segment, and kept as attributes of its dataset.
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
        """The Hessian at `theta`, on the held-out examples where there are any."""
        from sharpflat.curvature.operators import Hessian

        return Hessian(self.problem.curvature, self.theta)

    def top_eigenspace(
        self, k: int, start: Tensor | None, tolerance: float, *, beyond: int = 0, beyond_tolerance: float = 1e-2
    ) -> TopEigenspace:
        """The Hessian's k + `beyond` largest eigenpairs, with the products counted.

        Args:
            k: how many to `tolerance`.
            start: block [P, ≥ k] to start from, as `start` of an earlier result.
            tolerance: of the residuals, relative to λ_k.
            beyond: how many more.
            beyond_tolerance: of these, relative to λ_1.
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
        """A generator on the CPU for random vectors at this step: the same ones whatever else is measured."""
        import torch

        return torch.Generator().manual_seed(self.spec.seed * 2**32 + self.step)

    def count(self, name: str, amount: int) -> None:
        """Add to a counter."""
        self.counters[name] = self.counters.get(name, 0) + amount


class BaseProbe:
    """What every `Probe` is.

    Attributes:
        dimension: of the dataset, along which it measures: its coordinate is the steps.
        variables: what it measures, by name.
        coordinates: words for its variables' dimensions beyond its own.
        numbers: the probe's own of the specification.
        kept: tensors and numbers to keep for the next measurement; they survive an interruption, and children of the
            segment go on with them.
    """

    dimension: ClassVar[str]
    variables: ClassVar[dict[str, Variable]]
    coordinates: ClassVar[dict[str, Words]] = {}

    def __init__(self, numbers: Any, kept: Kept) -> None:
        self.numbers, self.kept = numbers, kept

    def lengths(self, k: int, parameters: int) -> dict[str, int]:
        """The lengths of its variables' dimensions beyond its own.

        Args:
            k: dimension of the dominant subspace.
            parameters: their number.
        """
        return {}

    def measure(self, moment: Moment) -> Row:
        """Measure before the update. A probe of the update may leave out what it will know of in `updated`.

        Raises:
            Diverged: if a number is not finite without which training makes no sense.
        """
        raise NotImplementedError

    def updated(self, moment: Moment, update: Tensor) -> Row:
        """More values of the row, now that the update [P] made at this step is known; not called where none is."""
        return {}


def build(probes: ProbeSpecs, kept: dict[str, Kept]) -> dict[str, BaseProbe]:
    """The probes of a segment by kind, in alphabetical order.

    Args:
        probes: their numbers.
        kept: what each keeps, by kind; entries are made where there are none.
    """
    made = {}
    for kind in sorted(probes):
        module = import_module(f"analysis.training.probes.{kind}")
        made[kind] = module.Probe(probes[kind], kept.setdefault(kind, {}))
    return made
