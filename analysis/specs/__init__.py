"""Resolved specifications of segments and figures, with every value explicit.

They are plain frozen values and do not import torch, so the workflow can read them in milliseconds. They are hashed by
value into the names of results (`analysis.plan.names`), so code fingerprints leave this package out.
"""

from analysis.specs.base import Count, Fraction, Frozen, Positive, Real, Seed, Several, Size
from analysis.specs.energies import EnergiesSpec
from analysis.specs.kinds import ModelNumbers, ModelSpec, ProbeNumbers, RuleNumbers, RuleSpec
from analysis.specs.problem import DataSpec, ProblemSpec
from analysis.specs.segment import FilterSpec, Refreshes, SegmentSpec, StoppedBy, StopSpec

__all__ = [
    "Count",
    "DataSpec",
    "EnergiesSpec",
    "FilterSpec",
    "Fraction",
    "Frozen",
    "ModelNumbers",
    "ModelSpec",
    "Positive",
    "ProbeNumbers",
    "ProblemSpec",
    "Real",
    "Refreshes",
    "RuleNumbers",
    "RuleSpec",
    "Seed",
    "SegmentSpec",
    "Several",
    "Size",
    "StopSpec",
    "StoppedBy",
]
