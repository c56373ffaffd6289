"""What a segment of training does, and how it ends."""

from __future__ import annotations

from enum import StrEnum

from analysis.specs.base import Count, Fraction, Frozen, Positive, Real, Seed, Size
from analysis.specs.kinds import ProbeSpecs, RuleSpec
from analysis.specs.problem import ProblemSpec


class StoppedBy(StrEnum):
    """Why a segment ended, as its dataset says."""

    STEPS = "steps"
    ALIGNMENT = "alignment_ema"
    DIVERGENCE = "divergence"
    EARLIER_DIVERGENCE = "divergence of an earlier segment"  # it never began


class FilterSpec(Frozen):
    """update ← α_dom P_k update + β_bulk P_k^⊥ update, with P_k recomputed every `refresh_every` steps.

    `k` None is the problem's: then the filter's subspace is the one that probes speak of.
    """

    alpha_dom: Real = 1.0
    beta_bulk: Real = 1.0
    k: Count | None = None
    refresh_every: Count = 1
    tolerance: Positive = 1e-2  # residuals relative to λ_k


class StopSpec(Frozen):
    """Stop at the global step `step`, or after `steps` more, or as soon as the alignment's EMA passes a threshold.

    Exactly one of `steps` and `step`; with `alignment_ema` it is the longest the segment may last.
    """

    steps: Size | None = None
    step: Size | None = None
    alignment_ema: Fraction | None = None


class SegmentSpec(Frozen):
    """Everything that decides a segment's arrays, but its parent's state and the code.

    Each probe also measures at the segment's first and last step.
    """

    problem: ProblemSpec
    seed: Seed
    rule: RuleSpec
    filter: FilterSpec | None  # None: the update as it is, and no curvature for it
    stop: StopSpec
    probes: ProbeSpecs
    parent: str | None
