"""Data parallel training: every rank must find the same subspace."""

from __future__ import annotations

import torch
from torch import distributed

from sharpflat.errors import InputError
from sharpflat.optim.subspace_filter import Refresh


def check_ranks_agree(refresh: Refresh) -> None:
    """Compares the sum of the eigenvalues across ranks, with one all-reduce; nothing without torch.distributed.

    Raises:
        InputError: Ranks differ; raised on every rank.
    """
    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
        return
    eigenvalues = refresh.eigenvalues
    total = eigenvalues.double().sum()
    extremes = torch.stack([total, -total, eigenvalues.abs().double().max()])
    distributed.all_reduce(extremes, op=distributed.ReduceOp.MAX)
    largest, smallest, scale = extremes[0].item(), -extremes[1].item(), extremes[2].item()
    if largest - smallest > torch.finfo(eigenvalues.dtype).eps ** 0.5 * scale:
        raise InputError(
            f"SubspaceSGD, step {refresh.step}: the ranks found different curvature (sums of eigenvalues from "
            f"{smallest:.6g} to {largest:.6g}), so their parameters would drift apart. Give every rank the same "
            "holdout, not its shard, and begin from the same parameters; check_ranks=False where each rank trains alone"
        )
