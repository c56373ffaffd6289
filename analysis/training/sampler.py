"""Minibatches as a function of (seed, step): branches see the same data, a resumed segment what it would have seen."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_DRAWS = 1000  # steps an epoch with replacement, at least


class Sampler:
    """Without replacement within an epoch (then the last minibatch of an epoch is short where it does not divide), or
    with replacement, each example drawn uniformly.

    An epoch's permutation, or its draws, come from a Philox generator keyed by (seed, epoch), on the CPU, and are then
    moved to the device, all at once.
    """

    def __init__(
        self,
        examples: int,
        batch_size: int | None,
        seed: int,
        *,
        replacement: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        """`batch_size` None is the full batch, for which `indices` returns None."""
        self.device = device
        self.examples, self.batch_size, self.seed, self.replacement = examples, batch_size, seed, replacement
        # With few examples, an epoch of one pass would hold hardly a draw: many share a generator.
        self.steps = 1 if batch_size is None else max(-(-examples // batch_size), _DRAWS * replacement)
        self._epoch: tuple[int, Tensor] | None = None

    def indices(self, step: int) -> Tensor | None:
        """Examples of the minibatch at the global `step`, [batch_size] int64 on the device, or None for all."""
        if self.batch_size is None:
            return None
        epoch, place = divmod(step, self.steps)
        if self._epoch is None or self._epoch[0] != epoch:
            random = np.random.Generator(np.random.Philox(key=[self.seed, epoch]))
            if self.replacement:
                drawn = random.integers(self.examples, size=self.steps * self.batch_size)
            else:
                drawn = random.permutation(self.examples)
            self._epoch = (epoch, torch.from_numpy(drawn).to(self.device))
        return self._epoch[1][place * self.batch_size : (place + 1) * self.batch_size]
