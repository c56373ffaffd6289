"""The ill-conditioned valley of Song et al., appendix A.3 (`analysis.toys`)."""

from __future__ import annotations

from torch import nn

from analysis.models.toy import Toy
from analysis.specs import ValleySpec


def build(spec: ValleySpec, inputs: tuple[int, ...], outputs: int) -> nn.Module:
    """[N, 1] -> [N, 1]"""
    return Toy(spec)
