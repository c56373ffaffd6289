"""An optimizer's parameter groups: which parameters make up θ, and the steps that SGD would make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sharpflat.curvature.objective import Objective
from sharpflat.errors import InputError

_ONE_FOR_ALL = frozenset(
    {"alpha_dom", "beta_bulk", "k", "refresh_every", "refresh_error", "refresh_overlap", "curvature", "tolerance"}
)
_NOT_HERE = ("dampening", "nesterov", "maximize", "differentiable", "fused")

Groups = Sequence[Mapping[str, Any]]


def theta_of(groups: Groups, objective: Objective | None) -> list[Tensor]:
    """The parameters that make up θ, in their order in θ.

    They are the parameters of the objective or, without an objective, those of the groups that are not frozen.

    Raises:
        InputError: they do not fit together, or they do not fit the objective.
    """
    given = _all_of(groups)
    if len({id(p) for p in given}) < len(given):
        raise InputError("a parameter occurs twice")
    if objective is not None:
        _check_trained(given, objective)
        return list(objective.parameters)
    theta = [p for p in given if _may_move(p)]
    kinds = {(p.dtype, p.device) for p in theta}
    if len(kinds) != 1 or not theta[0].is_floating_point():
        raise InputError(f"parameters must be real numbers of one dtype and on one device: {kinds or 'none'}")
    return theta


def numbers_of(groups: Groups, theta: list[Tensor]) -> list[int]:
    """The position of each parameter of θ, counted over all groups."""
    numbers = {id(p): number for number, p in enumerate(_all_of(groups))}
    return [numbers[id(p)] for p in theta]


def sgd_updates(
    groups: Groups, state: Mapping[Tensor, Mapping[str, Any]]
) -> tuple[dict[Tensor, Tensor], dict[Tensor, Tensor]]:
    """The updates that `torch.optim.SGD` would make, and the momentum buffers that it would keep; changes nothing.

    Parameters without a gradient have no update.

    Raises:
        InputError: a group sets an option that applies to all groups or is not supported, or a gradient is sparse.
    """
    updates: dict[Tensor, Tensor] = {}
    buffers: dict[Tensor, Tensor] = {}
    for number, group in enumerate(groups):
        check_group(group, number)
        for p in group["params"]:
            if p.grad is None:
                continue
            direction = _decayed_gradient(p, group["weight_decay"])
            if group["momentum"] != 0:  # in SGD's own arithmetic, but not in place yet
                buffer = state[p].get("momentum_buffer")
                direction = direction.clone() if buffer is None else buffer.mul(group["momentum"]).add_(direction)
                buffers[p] = direction
            updates[p] = -float(group["lr"]) * direction
    return updates, buffers


def _all_of(groups: Groups) -> list[Tensor]:
    return [p for group in groups for p in group["params"]]


def _decayed_gradient(p: Tensor, weight_decay: float | Tensor) -> Tensor:
    assert p.grad is not None
    if p.grad.layout != torch.strided:
        raise InputError(f"sparse gradients are allowed only if both weights are 1: parameter of shape {list(p.shape)}")
    return p.grad.add(p, alpha=float(weight_decay)) if weight_decay != 0 else p.grad


def check_group(group: Mapping[str, Any], number: int) -> None:
    """Raises InputError if a group sets an option that applies to all groups, or one that is not supported."""
    own = sorted(_ONE_FOR_ALL & group.keys())
    if own:
        raise InputError(
            f"parameter group {number} has its own {', '.join(own)}, but this applies to all groups together"
        )
    unsupported = [name for name in _NOT_HERE if group.get(name)]
    if unsupported:
        raise InputError(f"parameter group {number}: SubspaceSGD does not support {', '.join(unsupported)}")


def _may_move(p: Tensor) -> bool:
    """Whether SGD could move it. A frozen parameter has no gradient, unless one is left from earlier."""
    return p.requires_grad or p.grad is not None


def _check_trained(given: list[Tensor], objective: Objective) -> None:
    """Refuses given parameters that could move but that the objective does not train, and parameters that the
    objective trains but that are not given."""
    trained = {id(p) for p in objective.parameters}
    for number, p in enumerate(given):
        if id(p) not in trained and _may_move(p):
            raise InputError(
                f"parameter {number} (counted over the groups; shape {list(p.shape)}) is not trained by the Objective; "
                "give the optimizer the parameters of the Objective's own model"
            )
    names = {id(p): name for name, p in objective.model.named_parameters()}
    missing = [names.get(i, "?") for i in trained - {id(p) for p in given}]
    if missing:
        raise InputError(
            f"the Objective trains parameters that the optimizer does not: {', '.join(sorted(missing))}; freeze them "
            "(requires_grad_(False)) before the Objective is made"
        )
