"""The ill-conditioned valley of Song et al., appendix A.3 (`analysis.toys`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from analysis import toys
from analysis.specs import ModelNumbers, Positive, Real

if TYPE_CHECKING:
    from torch import nn


class Numbers(ModelNumbers):
    """Two parameters (x, y), which begin at `start`."""

    takes: ClassVar[Literal["image", "text", "toy"]] = "toy"
    kind: Literal["valley"] = "valley"
    sharp: Positive = 100.0
    flat: Positive = 1.0
    bend: Real = 0.1
    noise: Real = 6.0
    start: tuple[Real, Real] = (0.5, 2.0)

    def words(self) -> str:
        return toys.formula(self)

    def parameter_count(self, inputs: tuple[int, ...], outputs: int) -> int:
        return 2


def build(numbers: Numbers, inputs: tuple[int, ...], outputs: int) -> nn.Module:
    """[N, 1] -> [N, 1]"""
    from analysis.models.modules.toy import Toy

    return Toy(numbers)
