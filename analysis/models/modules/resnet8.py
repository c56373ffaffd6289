"""The modules of ResNet8 (`analysis.models.resnet8`)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """Two 3×3 convolutions, with the block's input added before the last ReLU."""

    def __init__(self, channels: int, wider: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, wider, 3, stride, padding=1, bias=False)
        self.norm_first: nn.Module = Normalisation(wider)
        self.second = nn.Conv2d(wider, wider, 3, padding=1, bias=False)
        self.norm_second: nn.Module = Normalisation(wider)
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
        return normalised(x, (1, 2, 3), self.weight, self.bias, self.eps)


def normalised(x: Tensor, over: tuple[int, ...], weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """x [N, channels, rows, columns] with mean 0 and variance 1 over the dimensions `over`, then scaled and shifted."""
    centred = x - x.mean(over, keepdim=True)
    scale = (centred.square().mean(over, keepdim=True) + eps).rsqrt()
    return torch.addcmul(bias[:, None, None], centred, scale * weight[:, None, None])


class Mean(nn.Module):
    """[N, channels, rows, columns] -> [N, channels]."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


def layers(
    channels: int, width: int, outputs: int, block: type[Block], norm: Callable[[int], nn.Module]
) -> list[nn.Module]:
    """The layers of ResNet8, from images with these channels to the outputs."""
    return [
        nn.Conv2d(channels, width, 3, padding=1, bias=False),
        norm(width),
        nn.ReLU(),
        block(width, width, stride=1),
        block(width, 2 * width, stride=2),
        block(2 * width, 4 * width, stride=2),
        Mean(),
        nn.Linear(4 * width, outputs),
    ]
