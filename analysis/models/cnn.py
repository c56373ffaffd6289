"""Convolutional network, as in the edge-of-stability code: (3×3 convolution, ReLU, 2×2 max-pool), linear."""

from __future__ import annotations

from torch import nn

from analysis.specs import CNNSpec


def build(spec: CNNSpec, inputs: tuple[int, ...], outputs: int) -> nn.Module:
    """[N, channels, rows, columns] -> [N, outputs]; the convolutions keep the size (padding 1)."""
    channels, rows, columns = inputs
    layers: list[nn.Module] = []
    for _ in range(spec.convolutions):
        layers += [nn.Conv2d(channels, spec.channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        channels, rows, columns = spec.channels, rows // 2, columns // 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * rows * columns, outputs))
