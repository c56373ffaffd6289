"""VGG11 (configuration A) for small images, as in the edge-of-stability code: no dropout, no batch norm."""

from __future__ import annotations

from torch import nn

from analysis.specs import VGGSpec

STAGES = ((1,), (2,), (4, 4), (8, 8), (8, 8))  # convolutions' channels in widths; a 2×2 max-pool ends each stage


def build(spec: VGGSpec, inputs: tuple[int, ...], outputs: int) -> nn.Module:
    """[N, channels, rows, columns] -> [N, outputs]: eight convolutions, three linear layers, ReLU between them.

    A pooling that would leave nothing is left out, so images may be smaller than 32×32, where five poolings
    end in one pixel.
    """
    channels, rows, columns = inputs
    layers: list[nn.Module] = []
    for stage in STAGES:
        for widths in stage:
            layers += [nn.Conv2d(channels, widths * spec.width, 3, padding=1), nn.ReLU()]
            channels = widths * spec.width
        if min(rows, columns) > 1:
            layers.append(nn.MaxPool2d(2))
            rows, columns = rows // 2, columns // 2
    layers += [nn.Flatten(), nn.Linear(channels * rows * columns, channels), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, outputs))
