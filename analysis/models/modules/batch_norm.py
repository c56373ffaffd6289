"""What ResNet8 with batch norm is built of (`analysis.models.resnet8_batch_norm`)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


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
        centred = x - x.mean((0, 2, 3), keepdim=True)
        scale = (centred.square().mean((0, 2, 3), keepdim=True) + self.eps).rsqrt()
        return torch.addcmul(self.bias[:, None, None], centred, scale * self.weight[:, None, None])


class Block(nn.Module):
    """Two 3×3 convolutions, with the block's input added before the last ReLU."""

    def __init__(self, channels: int, wider: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, wider, 3, stride, padding=1, bias=False)
        self.norm_first = BatchNorm(wider)
        self.second = nn.Conv2d(wider, wider, 3, padding=1, bias=False)
        self.norm_second = BatchNorm(wider, scale=0.0)
        self.shortcut: nn.Module = nn.Identity()
        if (channels, stride) != (wider, 1):
            self.shortcut = Shortcut(channels, wider, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm_first(self.first(x)))
        return torch.relu(self.norm_second(self.second(y)) + self.shortcut(x))


class Shortcut(nn.Module):
    """Every `stride`th row and column, normalised; channels that are missing are 0."""

    def __init__(self, channels: int, wider: int, stride: int) -> None:
        super().__init__()
        self.norm = BatchNorm(channels)
        self._missing, self._stride = wider - channels, stride

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x[:, :, :: self._stride, :: self._stride])
        return nn.functional.pad(x, (0, 0, 0, 0, 0, self._missing))
