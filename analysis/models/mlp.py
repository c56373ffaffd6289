"""Fully connected network, as in the edge-of-stability code: flatten, then linear and activation in turn."""

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
    kind: Literal["mlp"] = "mlp"
    width: Annotated[Count, Field(description="Units of each hidden layer [units]")]
    hidden_layers: Annotated[Layers, Field(description="Number of hidden layers [layers]")] = 2
    activation: Annotated[Literal["tanh", "relu"], Field(description="Activation after each hidden layer")] = "tanh"

    def words(self) -> str:
        return f"{self.hidden_layers} × {self.width} {self.activation}"

    def parameter_count(self, inputs: tuple[int, ...], outputs: int) -> int:
        sizes = [math.prod(inputs), *[self.width] * self.hidden_layers, outputs]
        return sum((a + 1) * b for a, b in pairwise(sizes))


def build(numbers: Numbers, inputs: tuple[int, ...], outputs: int) -> nn.Module:
    """[N, *inputs] -> [N, outputs], with `hidden_layers` layers of `width` units."""
    from torch import nn

    activation = {"tanh": nn.Tanh, "relu": nn.ReLU}[numbers.activation]
    layers: list[nn.Module] = [nn.Flatten()]
    size = math.prod(inputs)
    for _ in range(numbers.hidden_layers):
        layers += [nn.Linear(size, numbers.width), activation()]
        size = numbers.width
    return nn.Sequential(*layers, nn.Linear(size, outputs))
