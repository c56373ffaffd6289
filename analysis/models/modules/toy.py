"""A toy as a model. Its two parameters are θ = (x, y), an input is a side ±1, and the output is that example's loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from analysis import toys


class Toy(nn.Module):
    def __init__(self, numbers: toys.Toy) -> None:
        super().__init__()
        self.numbers = numbers
        self.theta = nn.Parameter(torch.empty(2))

    def initialise(self, generator: torch.Generator) -> None:
        """Sets θ to its configured start. Nothing is drawn."""
        self.theta.copy_(torch.tensor(self.numbers.start, dtype=torch.float64))

    def forward(self, sides: Tensor) -> Tensor:
        """[N, 1] -> [N, 1]"""
        return toys.loss(self.numbers, self.theta[0], self.theta[1], sides)
