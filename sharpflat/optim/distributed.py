"""Data parallel training: every rank must find the same subspace."""

from __future__ import annotations

import torch
from torch import distributed

from sharpflat.errors import InputError
from sharpflat.optim.refresh import Refresh


def check_ranks_agree(refresh: Refresh, following: int) -> None:
    """Compares the ranks with one all-reduce. Without torch.distributed, it does nothing.

    Args:
        refresh: the last refresh. The sum of its eigenvalues must be the same on all ranks.
        following: steps to the next refresh. It must be the same on all ranks, because a rank that refreshed alone
            would wait for the others forever.

    Raises:
        InputError: The ranks differ. It is raised on every rank.
    """
    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
        return
    eigenvalues = refresh.eigenvalues
    total = eigenvalues.double().sum()
    steps = total.new_tensor(following)
    extremes = torch.stack([total, -total, eigenvalues.abs().double().max(), steps, -steps])
    distributed.all_reduce(extremes, op=distributed.ReduceOp.MAX)
    largest, smallest, scale = extremes[0].item(), -extremes[1].item(), extremes[2].item()
    if largest - smallest > torch.finfo(eigenvalues.dtype).eps ** 0.5 * scale:
        raise InputError(
            f"SubspaceSGD, step {refresh.step}: the ranks found different curvature (sums of eigenvalues from "
            f"{smallest:.6g} to {largest:.6g}), so their parameters would drift apart. Give every rank the same "
            "holdout, not its shard, and begin from the same parameters; use check_ranks=False if each rank "
            "trains alone"
        )
    if extremes[3].item() != -extremes[4].item():
        raise InputError(
            f"SubspaceSGD, step {refresh.step}: the ranks' next refreshes would be {-extremes[4].item():.0f} to "
            f"{extremes[3].item():.0f} steps away, since their gradients differ. Average the gradients over the ranks "
            "before the step, as DistributedDataParallel does; use check_ranks=False if each rank trains alone"
        )
