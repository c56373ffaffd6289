"""Convolutional network, as in the edge-of-stability code: (3×3 convolution, ReLU, 2×2 max-pool), linear."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from analysis.specs import Count, ModelNumbers
from analysis.specs.base import Layers

if TYPE_CHECKING:
    from torch import nn


class Numbers(ModelNumbers):
    product_cost: ClassVar[float] = 2
    kind: Literal["cnn"] = "cnn"
    channels: Annotated[Count, Field(description="Channels of each convolution [channels]")]
    convolutions: Annotated[Layers, Field(description="Number of convolutions, each with a 2×2 max-pool [layers]")] = 2

    def words(self) -> str:
        return f"{self.convolutions} × {self.channels} channels"

    def parameter_count(self, inputs: tuple[int, ...], outputs: int) -> int:
        channels, rows, columns = inputs
        total = 0
        for _ in range(self.convolutions):
            total += (9 * channels + 1) * self.channels
            channels, rows, columns = self.channels, rows // 2, columns // 2
        if rows * columns == 0:
            raise ValueError(f"{self.convolutions} poolings leave nothing of the images")
        return total + (channels * rows * columns + 1) * outputs


def build(numbers: Numbers, inputs: tuple[int, ...], outputs: int) -> nn.Module:
    """[N, channels, rows, columns] -> [N, outputs]; the convolutions keep the size (padding 1).

    The ReLU comes after the pooling. The result and its derivatives equal those of a ReLU before the pooling exactly,
    but only a quarter of the numbers are rectified.
    """
    from torch import nn

    channels, rows, columns = inputs
    layers: list[nn.Module] = []
    for _ in range(numbers.convolutions):
        layers += [nn.Conv2d(channels, numbers.channels, 3, padding=1), nn.MaxPool2d(2), nn.ReLU()]
        channels, rows, columns = numbers.channels, rows // 2, columns // 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * rows * columns, outputs))
