"""Minibatches as a function of (seed, step), so that branches and resumed segments see the same data."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_DRAWS = 1000  # least number of steps of an epoch with replacement


class Sampler:
    """Draws minibatches without replacement within an epoch, or uniformly with replacement. Without replacement, the
    last minibatch of an epoch is shorter if the sizes do not divide.

    The permutation of an epoch, or its draws, come from a CPU Philox generator that is keyed by (seed, epoch). They are
    then moved to the device together.
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
        """With `batch_size` None, it is the full batch, for which `indices` returns None."""
        self.device = device
        self.examples, self.batch_size, self.seed, self.replacement = examples, batch_size, seed, replacement
        # With few examples, an epoch of one pass would contain few draws, so many passes share a generator.
        self.steps = 1 if batch_size is None else max(-(-examples // batch_size), _DRAWS * replacement)
        self._epoch: tuple[int, Tensor] | None = None

    def indices(self, step: int) -> Tensor | None:
        """The examples of the minibatch at the global `step`: [batch_size] int64 on the device, or None for all."""
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
