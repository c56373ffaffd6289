"""ResNet8 with batch norm, as the authors of Song et al. have it.

Batch norm stays in training mode: a step takes the statistics of its minibatch, and the full-batch loss, its gradient
and its Hessian those of fixed groups of examples, so that they are functions of θ (`sharpflat.Objective`, `coupled`).
Shortcuts leave out pixels, normalise, and add channels of zeros. The last normalisation of each block starts from 0,
convolutions start as He et al.'s (normal, fan out) and have no bias.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from analysis.specs import Count, ModelNumbers

if TYPE_CHECKING:
    from torch import nn


class Numbers(ModelNumbers):
    product_cost: ClassVar[float] = 4
    kind: Literal["resnet8_batch_norm"] = "resnet8_batch_norm"
    width: Annotated[Count, Field(description="Channels of the first convolution; usually 16 [channels]")]
    group: Annotated[
        Count, Field(description="Full-batch quantities are normalised in groups of this many examples [examples]")
    ] = 1000
    initialisation: Annotated[
        Literal["he"], Field(description='Of convolutions: "he" is normal, by fan out; linear layers keep PyTorch\'s')
    ] = "he"

    def words(self) -> str:
        return f"8 layers, {self.width} to {4 * self.width} channels, batch norm"

    def parameter_count(self, inputs: tuple[int, ...], outputs: int) -> int:
        w = self.width
        total = (9 * inputs[0] + 2) * w
        for a, b in [(w, w), (w, 2 * w), (2 * w, 4 * w)]:
            total += (9 * a + 2) * b + (9 * b + 2) * b + (a != b) * 2 * a
        return total + (4 * w + 1) * outputs


def build(numbers: Numbers, inputs: tuple[int, ...], outputs: int) -> nn.Module:
    """[N, channels, rows, columns] -> [N, outputs], for images of any size; `coupled` says how many N may be."""
    from analysis.models.modules.batch_norm import BatchNorm, Block, Coupled
    from analysis.models.modules.resnet8 import layers

    return Coupled(numbers.group, *layers(inputs[0], numbers.width, outputs, Block, BatchNorm))
