"""Fully connected network, as in the edge-of-stability code: flatten, then linear and activation in turn."""

from __future__ import annotations

import math

from torch import nn

from analysis.specs import MLPSpec


def build(spec: MLPSpec, inputs: tuple[int, ...], outputs: int) -> nn.Module:
    """[N, *inputs] -> [N, outputs], with `hidden_layers` layers of `width` units."""
    activation = {"tanh": nn.Tanh, "relu": nn.ReLU}[spec.activation]
    layers: list[nn.Module] = [nn.Flatten()]
    size = math.prod(inputs)
    for _ in range(spec.hidden_layers):
        layers += [nn.Linear(size, spec.width), activation()]
        size = spec.width
    return nn.Sequential(*layers, nn.Linear(size, outputs))
