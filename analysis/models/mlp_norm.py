"""The fully connected network with a layer norm before each activation."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from analysis.specs import Count, ModelNumbers
from analysis.specs.base import Layers

if TYPE_CHECKING:
    from torch import nn


class Numbers(ModelNumbers):
    kind: Literal["mlp_norm"] = "mlp_norm"
    width: Annotated[Count, Field(description="Width of each hidden layer [units]")]
    hidden_layers: Annotated[Layers, Field(description="Number of hidden layers [layers]")] = 2
    activation: Annotated[Literal["tanh", "relu"], Field(description="Activation function")] = "tanh"

    def words(self) -> str:
        return f"{self.hidden_layers} × {self.width} {self.activation}, layer norm"

    def parameter_count(self, inputs: tuple[int, ...], outputs: int) -> int:
        sizes = [math.prod(inputs), *[self.width] * self.hidden_layers, outputs]
        return sum((a + 1) * b for a, b in pairwise(sizes)) + 2 * self.width * self.hidden_layers


def build(numbers: Numbers, inputs: tuple[int, ...], outputs: int) -> nn.Module:
    """[N, *inputs] -> [N, outputs]: in each hidden layer linear, layer norm with scale and shift, activation."""
    from torch import nn

    activation = {"tanh": nn.Tanh, "relu": nn.ReLU}[numbers.activation]
    layers: list[nn.Module] = [nn.Flatten()]
    size = math.prod(inputs)
    for _ in range(numbers.hidden_layers):
        layers += [nn.Linear(size, numbers.width), nn.LayerNorm(numbers.width), activation()]
        size = numbers.width
    return nn.Sequential(*layers, nn.Linear(size, outputs))
