"""ResNet8: He et al.'s residual network for CIFAR with one basic block per stage, normalised for each example.

Batch norm couples the examples, so group norm with one group takes its place: mean and variance over channels, rows
and columns, then a scale and a shift for each channel. If a block changes the shape, its shortcut is a 1×1
convolution with normalisation (He et al.'s option B). Convolutions have no bias, as is usual before a normalisation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from analysis.specs import Count, ModelNumbers

if TYPE_CHECKING:
    from torch import nn


class Numbers(ModelNumbers):
    product_cost: ClassVar[float] = 5
    kind: Literal["resnet8"] = "resnet8"
    width: Annotated[Count, Field(description="Channels of the first convolution; usually 16 [channels]")]

    def words(self) -> str:
        return f"8 layers, {self.width} to {4 * self.width} channels"

    def parameter_count(self, inputs: tuple[int, ...], outputs: int) -> int:
        w = self.width
        total = (9 * inputs[0] + 2) * w
        for a, b in [(w, w), (w, 2 * w), (2 * w, 4 * w)]:
            total += (9 * a + 2) * b + (9 * b + 2) * b + (a != b) * (a + 2) * b
        return total + (4 * w + 1) * outputs


def build(numbers: Numbers, inputs: tuple[int, ...], outputs: int) -> nn.Module:
    """[N, channels, rows, columns] -> [N, outputs], for images of any size."""
    from torch import nn

    from analysis.models.modules.resnet8 import Block, Normalisation, layers

    return nn.Sequential(*layers(inputs[0], numbers.width, outputs, Block, Normalisation))
