"""What ResNet8 with batch norm is built of (`analysis.models.resnet8_batch_norm`)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from analysis.models.modules import resnet8
from analysis.models.modules.resnet8 import normalised


class Coupled(nn.Sequential):
    """Modules in sequence, whose output for one example depends on up to `coupled` examples of its batch."""

    def __init__(self, coupled: int, *modules: nn.Module) -> None:
        super().__init__(*modules)
        self.coupled = coupled


class BatchNorm(nn.Module):
    """x [N, channels, rows, columns], normalised over all but the channels, always by x's own statistics.

    `nn.BatchNorm2d` in training mode without running statistics, from elementary operations, whose derivatives of any
    order are right under `vmap`.
    """

    def __init__(self, channels: int, scale: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels))
        self.bias = nn.Parameter(torch.empty(channels))
        self.eps, self._scale = 1e-5, scale

    def initialise(self, generator: torch.Generator) -> None:
        """Nothing is drawn."""
        self.weight.fill_(self._scale)
        self.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return normalised(x, (0, 2, 3), self.weight, self.bias, self.eps)


class Block(resnet8.Block):
    """ResNet8's block with batch norm, whose last one starts from 0, and with a shortcut without weights."""

    def __init__(self, channels: int, wider: int, stride: int) -> None:
        super().__init__(channels, wider, stride)
        self.norm_first, self.norm_second = BatchNorm(wider), BatchNorm(wider, scale=0.0)
        if not isinstance(self.shortcut, nn.Identity):
            self.shortcut = Shortcut(channels, wider, stride)


class Shortcut(nn.Module):
    """Every `stride`th row and column, normalised; channels that are missing are 0."""

    def __init__(self, channels: int, wider: int, stride: int) -> None:
        super().__init__()
        self.norm = BatchNorm(channels)
        self._missing, self._stride = wider - channels, stride

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x[:, :, :: self._stride, :: self._stride])
        return nn.functional.pad(x, (0, 0, 0, 0, 0, self._missing))
