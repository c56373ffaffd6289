"""Minibatches as a function of (seed, step): branches see the same data, a resumed segment what it would have seen."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


class Sampler:
    """Without replacement within an epoch; the last minibatch of an epoch is short where it does not divide.

    The permutation of an epoch comes from a Philox generator keyed by (seed, epoch), drawn on the CPU.
    """

    def __init__(self, examples: int, batch_size: int | None, seed: int) -> None:
        """`batch_size` None is the full batch, for which `indices` returns None."""
        self.examples, self.batch_size, self.seed = examples, batch_size, seed
        self._epoch: tuple[int, Tensor] | None = None

    def indices(self, step: int) -> Tensor | None:
        """Examples of the minibatch at the global `step`, [batch_size] int64, or None for all."""
        if self.batch_size is None:
            return None
        epoch, place = divmod(step, -(-self.examples // self.batch_size))
        if self._epoch is None or self._epoch[0] != epoch:
            random = np.random.Generator(np.random.Philox(key=[self.seed, epoch]))
            self._epoch = (epoch, torch.from_numpy(random.permutation(self.examples)))
        return self._epoch[1][place * self.batch_size : (place + 1) * self.batch_size]
