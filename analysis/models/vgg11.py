"""VGG11 (configuration A) for small images, as in the edge-of-stability code: no dropout, no batch norm."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from analysis.specs import Count, ModelNumbers

if TYPE_CHECKING:
    from torch import nn

STAGES = ((1,), (2,), (4, 4), (8, 8), (8, 8))  # convolutions' channels in widths; a 2×2 max-pool ends each stage


class Numbers(ModelNumbers):
    product_cost: ClassVar[float] = 5
    kind: Literal["vgg11"] = "vgg11"
    width: Annotated[Count, Field(description="Channels of the first convolution; 64 in configuration A [channels]")]
    initialisation: Annotated[
        Literal["default", "he"],
        Field(description="Initial weights of the convolutions: PyTorch's default, or He's (modules/initialise.py)"),
    ] = "default"

    def words(self) -> str:
        he = ", He initialisation" if self.initialisation == "he" else ""
        return f"11 layers, {self.width} to {8 * self.width} channels{he}"

    def parameter_count(self, inputs: tuple[int, ...], outputs: int) -> int:
        channels, rows, columns = inputs
        w = self.width
        for _ in STAGES:
            if min(rows, columns) > 1:
                rows, columns = rows // 2, columns // 2
        sizes = [channels, w, 2 * w, 4 * w, 4 * w, 8 * w, 8 * w, 8 * w, 8 * w]
        total = sum((9 * a + 1) * b for a, b in pairwise(sizes))
        sizes = [8 * w * rows * columns, 8 * w, 8 * w, outputs]
        return total + sum((a + 1) * b for a, b in pairwise(sizes))


def build(numbers: Numbers, inputs: tuple[int, ...], outputs: int) -> nn.Module:
    """[N, channels, rows, columns] -> [N, outputs]: eight convolutions, three linear layers, ReLU between them.

    A pooling that would leave nothing is omitted, so images may be smaller than 32×32, for which five poolings
    leave one pixel.
    """
    from torch import nn

    channels, rows, columns = inputs
    layers: list[nn.Module] = []
    for stage in STAGES:
        for widths in stage:
            layers += [nn.Conv2d(channels, widths * numbers.width, 3, padding=1), nn.ReLU()]
            channels = widths * numbers.width
        if min(rows, columns) > 1:
            layers.insert(-1, nn.MaxPool2d(2))  # before the ReLU: the same function (cnn.py), for less
            rows, columns = rows // 2, columns // 2
    layers += [nn.Flatten(), nn.Linear(channels * rows * columns, channels), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, outputs))
