"""What SubspaceSGD remembers between steps, besides SGD's momentum."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from math import hypot
from typing import Any, TypedDict

import torch
from torch import Tensor

from sharpflat.curvature.inner import inner_products
from sharpflat.curvature.orthonormal import orthonormal
from sharpflat.curvature.subspace import DominantSubspace
from sharpflat.errors import InputError
from sharpflat.optim.refresh import Refresh
from sharpflat.optim.subspace_filter import SubspaceFilter

MEMORY = "subspace"
"""Its key in the optimizer's state."""
_CHANGE = 0.1  # of a learning rate or of the weights (relative): a larger one makes a refresh due
_CAST_ERROR = 0.05  # of orthonormality, after a cast from bfloat16


class Memory(TypedDict):
    """State that belongs to no single parameter. `torch.load(weights_only=True)` can read it.

    It is kept in the state of the first parameter, as in `torch.optim.LBFGS`. There, whatever PyTorch and others do
    with an optimizer's state (saving, loading, moving to another device, clearing) includes it.
    """

    steps: int
    dominant: Tensor | None  # [P, k]
    start: Tensor | None  # [P, k + guard]
    order: list[int]  # of the parameters in θ: their numbers over all groups
    refreshed_at: int | None
    interval: int | None  # from there to the next refresh
    conditions: dict[str, Any]  # of the last refresh, see `Conditions`
    last_refresh: dict[str, Any] | None
    products: int
    refreshes: int
    unconverged_refreshes: int
    missed_refreshes: int


def nothing_yet() -> Memory:
    """The memory of an optimizer before its first step."""
    return Memory(
        steps=0,
        dominant=None,
        start=None,
        order=[],
        refreshed_at=None,
        interval=None,
        conditions={},
        last_refresh=None,
        products=0,
        refreshes=0,
        unconverged_refreshes=0,
        missed_refreshes=0,
    )


@dataclass(frozen=True)
class Conditions:
    """The optimizer's settings at a refresh.

    With a bound on the error or on the overlap, the next interval assumes that the subspace turns as fast as before and
    has the same weight in the update. If the settings change, this may be wrong, so a refresh is due.

    Attributes:
        bound: `refresh_error` and `refresh_overlap`; both are None where refreshes come at fixed steps.
        weights: α_dom and β_bulk, which differ.
        rates: the groups' learning rates.
    """

    bound: tuple[float | None, float | None]
    weights: tuple[float, float]
    rates: tuple[float, ...]

    def outdate(self, memory: Memory) -> bool:
        """Whether a refresh is due because of these settings.

        It is due if the bound has changed, if a learning rate is more than a tenth above that of the last refresh, or
        if the weights have changed by more than a tenth. A common factor of both weights does not count.
        """
        if self.bound == (None, None) or not memory["conditions"]:
            return False
        then = Conditions(**{name: tuple(numbers) for name, numbers in memory["conditions"].items()})
        grown = [now > (1 + _CHANGE) * before for now, before in zip(self.rates, then.rates, strict=True)]
        (a, b), (c, d) = self._relative_weights, then._relative_weights
        return (
            self.bound != then.bound
            or any(grown)
            or abs(a - b) > (1 + _CHANGE) * abs(c - d)
            or hypot(a - c, b - d) > _CHANGE
        )

    @property
    def _relative_weights(self) -> tuple[float, float]:
        alpha_dom, beta_bulk = self.weights
        return alpha_dom / hypot(*self.weights), beta_bulk / hypot(*self.weights)


class Remembering:
    """The part of an optimizer that keeps a memory and gives access to it."""

    param_groups: list[dict[str, Any]]
    state: defaultdict[Tensor, Any]

    @property
    def steps(self) -> int:
        """Number of steps made so far. This number is passed to the weights at the next step."""
        return self._memory["steps"]

    @property
    def last_refresh(self) -> Refresh | None:
        """The results of the last refresh of the subspace, including `converged`; None before the first."""
        found = self._memory["last_refresh"]
        return None if found is None else Refresh(**found)

    @property
    def products(self) -> int:
        """Number of Hessian products used."""
        return self._memory["products"]

    @property
    def refreshes(self) -> int:
        """Number of refreshes of the subspace."""
        return self._memory["refreshes"]

    @property
    def unconverged_refreshes(self) -> int:
        """Number of refreshes that did not converge (see `Refresh.converged`). Their subspace was used all the same."""
        return self._memory["unconverged_refreshes"]

    @property
    def missed_refreshes(self) -> int:
        """Number of refreshes that came too late for `refresh_error` or `refresh_overlap`."""
        return self._memory["missed_refreshes"]

    @property
    def _memory(self) -> Memory:
        memory: Memory = self.state[self._keeper()].setdefault(MEMORY, nothing_yet())
        return memory

    def _keeper(self) -> Tensor:
        for group in self.param_groups:
            for p in group["params"]:
                keeper: Tensor = p
                return keeper
        raise InputError("the optimizer has no parameters")


def recall(memory: Memory, order: list[int], **numbers: Any) -> SubspaceFilter:
    """The filter as the last refresh left it, or a new one if θ now consists of other parameters or k has changed.

    θ changes if parameters are frozen or unfrozen, or if the curvature is replaced.

    Args:
        memory: of the last refresh.
        order: of the parameters in θ.
        numbers: `k`, `tolerance` and the refresh setting, as for `SubspaceFilter`.
    """
    basis = memory["dominant"]
    usable = memory["order"] == order and (basis is None or basis.shape[1] == min(numbers["k"], basis.shape[0]))
    return SubspaceFilter(
        **numbers,
        dominant=memory["dominant"] if usable else None,
        start=memory["start"] if usable else None,
        refreshed_at=memory["refreshed_at"] if usable else None,
        interval=memory["interval"] if usable else None,
    )


def remember(
    memory: Memory, order: list[int], subspace: SubspaceFilter, refresh: Refresh, conditions: Conditions
) -> None:
    """Stores a refresh of the filter in the memory."""
    memory["dominant"], memory["start"] = subspace.dominant, subspace.start
    memory["refreshed_at"], memory["last_refresh"] = subspace.refreshed_at, vars(refresh).copy()
    memory["interval"], memory["order"], memory["conditions"] = subspace.interval, order, asdict(conditions)
    memory["products"] += refresh.products
    memory["refreshes"] += 1
    memory["unconverged_refreshes"] += not refresh.converged
    memory["missed_refreshes"] += not refresh.kept


def forget(memory: Memory) -> None:
    """Drops the subspace; the counts stay."""
    memory["dominant"], memory["start"], memory["order"], memory["refreshed_at"] = None, None, [], None
    memory["conditions"] = {}


def check_version(memory: Memory) -> None:
    """Raises InputError if a memory to load is of another version of SubspaceSGD."""
    if memory.keys() != nothing_yet().keys():
        raise InputError(f"the state to load comes from another version of SubspaceSGD: it has {sorted(memory)}")


def _mend(memory: Memory) -> None:
    """Restores the orthonormality of a basis that was cast from a dtype of lower precision."""
    basis = memory["dominant"]
    assert basis is not None
    gram = inner_products(basis, basis)
    error = float((gram - torch.eye(basis.shape[1], dtype=torch.float64, device=basis.device)).abs().max())
    if torch.finfo(basis.dtype).eps ** 0.5 < error < _CAST_ERROR:
        memory["dominant"] = orthonormal(basis.T, None).T.contiguous()


def check_fits(memory: Memory, order: list[int], *, size: int, k: int) -> None:
    """Refuses the subspace of a memory to load if it does not fit.

    Args:
        memory: with a subspace.
        order: of the optimizer's parameters in θ.
        size: P.
        k: dimension of the optimizer's subspace.

    Raises:
        InputError: the subspace is not orthonormal, or has another size or order.
    """
    assert memory["dominant"] is not None
    _mend(memory)
    DominantSubspace(memory["dominant"])  # verified here, and not at every step
    expected, found = [size, min(k, size)], list(memory["dominant"].shape)
    if found != expected:
        raise InputError(f"the subspace to load has size {found} [P, k], but this optimizer needs size {expected}")
    if memory["order"] != order:
        raise InputError("the subspace to load has its parameters in another order than this optimizer")
