"""The ill-conditioned valley of Song et al., appendix A.3 (`analysis.toys`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from analysis import toys
from analysis.specs import ModelNumbers, Positive, Real

if TYPE_CHECKING:
    from torch import nn


class Numbers(ModelNumbers):
    """Two parameters (x, y), whose initial values are `start`."""

    takes: ClassVar[Literal["image", "text", "toy"]] = "toy"
    kind: Literal["valley"] = "valley"
    sharp: Annotated[Positive, Field(description="Curvature in the sharp direction [1]")] = 100.0
    flat: Annotated[Positive, Field(description="Curvature in the flat direction [1]")] = 1.0
    bend: Annotated[Real, Field(description="b of the valley's bottom x = b y² [1]")] = 0.1
    noise: Annotated[
        Real, Field(description="c of the term ±c (x − bend y²) that the two examples' losses add to the mean [1]")
    ] = 6.0
    start: Annotated[tuple[Real, Real], Field(description="Initial parameters (x, y) [1]")] = (0.5, 2.0)

    def words(self) -> str:
        return toys.formula(self)

    def parameter_count(self, inputs: tuple[int, ...], outputs: int) -> int:
        return 2


def build(numbers: Numbers, inputs: tuple[int, ...], outputs: int) -> nn.Module:
    """[N, 1] -> [N, 1]"""
    from analysis.models.modules.toy import Toy

    return Toy(numbers)
