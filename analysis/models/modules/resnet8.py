"""The modules of ResNet8 (`analysis.models.resnet8`)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """Two 3×3 convolutions, with the block's input added before the last ReLU."""

    def __init__(self, channels: int, wider: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, wider, 3, stride, padding=1, bias=False)
        self.norm_first = Normalisation(wider)
        self.second = nn.Conv2d(wider, wider, 3, padding=1, bias=False)
        self.norm_second = Normalisation(wider)
        self.shortcut: nn.Module = nn.Identity()
        if (channels, stride) != (wider, 1):
            self.shortcut = nn.Sequential(nn.Conv2d(channels, wider, 1, stride, bias=False), Normalisation(wider))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm_first(self.first(x)))
        return torch.relu(self.norm_second(self.second(y)) + self.shortcut(x))


class Normalisation(nn.GroupNorm):
    """`nn.GroupNorm` with one group, written out by hand.

    In torch 2.11, the double backward of `nn.GroupNorm` fails under `vmap`. If a layer has as many channels as pixels,
    it can give wrong numbers instead.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(1, channels)

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean((1, 2, 3), keepdim=True)
        scale = (centred.square().mean((1, 2, 3), keepdim=True) + self.eps).rsqrt()
        return torch.addcmul(self.bias[:, None, None], centred, scale * self.weight[:, None, None])


class Mean(nn.Module):
    """[N, channels, rows, columns] -> [N, channels]."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))
