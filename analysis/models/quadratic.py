"""The ill-conditioned quadratic of Song et al., appendix A.2 (`analysis.toys`)."""

from __future__ import annotations

from torch import nn

from analysis.models.toy import Toy
from analysis.specs import QuadraticSpec


def build(spec: QuadraticSpec, inputs: tuple[int, ...], outputs: int) -> nn.Module:
    """[N, 1] -> [N, 1]"""
    return Toy(spec)
