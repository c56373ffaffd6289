"""The specification of a training segment, and how it ends."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from analysis.specs.base import Count, Fraction, Frozen, Positive, Real, Seed, Share, Size
from analysis.specs.kinds import ProbeSpecs, RuleSpec
from analysis.specs.problem import ProblemSpec


class StoppedBy(StrEnum):
    """Why a segment ended, as recorded in its dataset."""

    STEPS = "steps"
    ALIGNMENT = "alignment_ema"
    DIVERGENCE = "divergence"
    EARLIER_DIVERGENCE = "divergence of an earlier segment"  # it never began


class Refreshes(Frozen):
    """When a dominant subspace is recomputed. Exactly one of the three numbers is given.

    `refresh_every` is a number of steps. `refresh_error` is the largest relative error of a filtered update, and
    `refresh_overlap` is the smallest overlap of the subspace in use with a new one (see `sharpflat.optim.refresh`).
    """

    refresh_every: Annotated[Count | None, Field(description="Interval between refreshes of the subspace [steps]")] = (
        None
    )
    refresh_error: Annotated[
        Positive | None, Field(description="Instead of an interval: largest relative error of a filtered update [1]")
    ] = None
    refresh_overlap: Annotated[
        Share | None,
        Field(description="Instead of an interval: smallest overlap of the subspace in use with a new one [1]"),
    ] = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if len(self.refreshes) > 1:
            raise PydanticCustomError("refreshes", f"Give one of {' and '.join(self.refreshes)}")
        return self

    @property
    def refreshes(self) -> dict[str, Any]:
        """The numbers that are given, by name."""
        names = ("refresh_every", "refresh_error", "refresh_overlap")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


USUAL_INTERVAL = 10  # typical steps between refreshes if an accuracy decides, used only in plans


class FilterSpec(Refreshes):
    """update ← α_dom P_k update + β_bulk P_k^⊥ update, where P_k is recomputed at every step by default.

    If `k` is None, it is the problem's k, and the filter uses the same subspace as the probes.
    """

    alpha_dom: Real = 1.0
    beta_bulk: Real = 1.0
    k: Count | None = None
    tolerance: Positive = 1e-2  # residuals relative to λ_k

    @property
    def expected_interval(self) -> int:
        """Steps between refreshes, as a plan assumes them."""
        return self.refresh_every or USUAL_INTERVAL

    @model_validator(mode="before")
    @classmethod
    def _each_step(cls, given: Any) -> Any:
        if isinstance(given, dict) and not any(given.get(name) is not None for name in Refreshes.model_fields):
            return {**given, "refresh_every": 1}
        return given


class StopSpec(Frozen):
    """Stops at the global step `step`, after `steps` steps, or as soon as the alignment's EMA passes a threshold.

    Exactly one of `steps` and `step` is given. With `alignment_ema`, it is the longest that the segment may last.
    """

    steps: Size | None = None
    step: Size | None = None
    alignment_ema: Fraction | None = None


class SegmentSpec(Frozen):
    """Everything that determines a segment's arrays, except its parent's state and the code.

    Each probe also measures at the segment's first and last step.
    """

    problem: ProblemSpec
    seed: Seed
    rule: RuleSpec
    filter: FilterSpec | None  # None: the update as it is, and no curvature for it
    stop: StopSpec
    probes: ProbeSpecs
    parent: str | None
