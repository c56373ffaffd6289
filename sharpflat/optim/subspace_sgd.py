"""SubspaceSGD: SGD that weighs the dominant and the bulk component of its updates, in place of `torch.optim.SGD`.

After Zakarin & Singh, *Accelerating Neural Network Training Along Sharp and Flat Directions* (arXiv 2505.11972).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from math import isfinite
from typing import Any, TypedDict

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from sharpflat.arguments import check_counts, check_tolerance
from sharpflat.curvature import DominantSubspace, Hessian, LossHessian, NonFiniteProductError, Objective
from sharpflat.curvature.eigensolver import SymmetricOperator
from sharpflat.errors import InputError
from sharpflat.optim.subspace_filter import Refresh, SubspaceFilter

Weight = float | Callable[[int], float]
"""A number, or a function of the number of steps made before this one."""
Curvature = Objective | Callable[[], Tensor]
"""A loss on a holdout: an `Objective`, or a closure that returns it as a scalar."""

_ONE_FOR_ALL = frozenset({"alpha_dom", "beta_bulk", "k", "refresh_every", "curvature", "tolerance"})
_NOT_HERE = ("dampening", "nesterov", "maximize", "differentiable", "fused")
_MEMORY = "subspace"


class _Memory(TypedDict):
    """What belongs to no single parameter; plain enough for `torch.load(weights_only=True)`.

    Kept in the state of the first parameter, as `torch.optim.LBFGS` does: there, what PyTorch and others do with an
    optimizer's state (saving, loading, moving to another device, clearing) is done with this too.
    """

    steps: int
    dominant: Tensor | None  # [P, k]
    start: Tensor | None  # [P, k + guard]
    order: list[int]  # of the parameters in θ: their numbers over all groups
    refreshed_at: int | None
    last_refresh: dict[str, Any] | None
    products: int
    refreshes: int
    unconverged_refreshes: int


class SubspaceSGD(torch.optim.SGD):
    """θ ← θ + α_dom P_k u + β_bulk P_k^⊥ u, with u = −lr · b the update of SGD (Zakarin & Singh, arXiv 2505.11972).

    b is the momentum direction of `torch.optim.SGD` (weight decay included; no dampening, no Nesterov), P_k projects
    on the dominant subspace: the k leading eigenvectors of the Hessian of a holdout's loss, by all parameters of all
    groups together. SGD is (α_dom, β_bulk) = (1, 1), Dom-SGD (1, 0), Bulk-SGD (0, 1).

    - Where both weights are 1, a step is `torch.optim.SGD`'s, to the bit. Where they are equal, no curvature is
      evaluated.
    - The subspace is found anew at a step that needs it if it is `refresh_every` or more steps old.
    - `lr`, `momentum` and `weight_decay` may differ between groups, and change between steps (schedulers do that).
    - A parameter without gradient is left alone, as SGD leaves it: not moved, not decayed. In the projection, its
      update counts as zero; so where there is one, the step made is not exactly inside (or outside) of the subspace.
    - A step that raises has changed nothing (but what a closure handed to `step` did).
    - `state_dict` holds the number of steps, the subspace and the counts, besides SGD's momentum; not the weights,
      `k`, `refresh_every`, `tolerance` and `curvature`, which are the constructor's. A resumed optimizer goes on to the
      bit. A `state_dict` of `torch.optim.SGD` can be loaded.

    Attributes:
        alpha_dom: weight of the dominant component; may be set between steps.
        beta_bulk: weight of the bulk component; may be set between steps.
        k: dimension of the dominant subspace.
        refresh_every: steps between refreshes.
        tolerance: of the eigenpairs' residuals, relative to λ_k.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor,
        *,
        alpha_dom: Weight = 1.0,
        beta_bulk: Weight = 1.0,
        k: int = 10,
        refresh_every: int = 10,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        curvature: Curvature | None = None,
        tolerance: float = 1e-2,
    ) -> None:
        """Evaluates nothing.

        Args:
            params: as for `torch.optim.SGD`; groups may have `lr`, `momentum` and `weight_decay` of their own. Those
                that require a gradient share one dtype and device where curvature is needed.
            lr: learning rate.
            alpha_dom: weight of the dominant component, a number or a function of the number of steps made before.
            beta_bulk: weight of the bulk component, likewise.
            k: dimension of the dominant subspace, of at most the number of parameters.
            refresh_every: steps between refreshes, at least 1.
            momentum: of SGD.
            weight_decay: of SGD.
            curvature: where the Hessian is taken: an `Objective` that trains just these parameters (in any order), or
                a closure that returns the loss (a scalar) of the model with these parameters on a holdout, without
                `backward()`; it is called once a refresh. Needed unless both weights are the same number.
            tolerance: of the eigenpairs' residuals, relative to λ_k.

        Raises:
            InputError: k, refresh_every, tolerance or a weight is out of range, curvature is missing or neither of
                the two, an `Objective` trains other parameters, parameters occur twice, or a group has what there is
                one of for all (alpha_dom, beta_bulk, k, refresh_every) or what is not supported (dampening, nesterov,
                maximize, differentiable, fused).
            ValueError: what `torch.optim.SGD` refuses.
        """
        check_counts(k=k, refresh_every=refresh_every)
        check_tolerance(tolerance)
        self.alpha_dom, self.beta_bulk = alpha_dom, beta_bulk
        self.k, self.refresh_every, self.tolerance = k, refresh_every, tolerance
        schedules = callable(alpha_dom) or callable(beta_bulk)
        if curvature is None and (schedules or self._weight("alpha_dom", 0) != self._weight("beta_bulk", 0)):
            raise InputError(
                "curvature is needed, an Objective on a holdout or a closure that returns the loss on one, unless "
                "alpha_dom and beta_bulk are the same number"
            )
        self._curvature = _checked(curvature)
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay)
        if curvature is not None:
            self._theta()

    # ---------------------------------------------------------------- what there is to know
    @property
    def curvature(self) -> Curvature | None:
        """Where the Hessian is taken, from the next refresh on; may be set between steps."""
        return self._curvature

    @curvature.setter
    def curvature(self, curvature: Curvature | None) -> None:
        self._curvature = _checked(curvature)

    @property
    def steps(self) -> int:
        """Steps made; the argument of the weights at the next one."""
        return self._memory["steps"]

    @property
    def last_refresh(self) -> Refresh | None:
        """What the last refresh of the subspace found, `converged` among it; None before the first."""
        found = self._memory["last_refresh"]
        return None if found is None else Refresh(**found)

    @property
    def products(self) -> int:
        """Hessian products used."""
        return self._memory["products"]

    @property
    def refreshes(self) -> int:
        """Refreshes of the subspace."""
        return self._memory["refreshes"]

    @property
    def unconverged_refreshes(self) -> int:
        """Refreshes whose eigenpairs missed the tolerance; their subspace was used all the same."""
        return self._memory["unconverged_refreshes"]

    # ---------------------------------------------------------------- a step
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step.

        Args:
            closure: evaluates the training loss, computes gradients and returns the loss, as for `torch.optim.SGD`.

        Returns:
            What the closure returned, or None.

        Raises:
            InputError: a weight is not a finite number, curvature is missing or does not fit the parameters (see
                `LossHessian` for closures), or a gradient is sparse where a weight is not 1.
            NonFiniteProductError: the holdout's curvature is not finite.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        step = self.steps
        alpha_dom, beta_bulk = self._weight("alpha_dom", step), self._weight("beta_bulk", step)
        if alpha_dom == beta_bulk == 1.0:
            # Unwrapped: around SGD's own step PyTorch puts the calls of the step hooks, which are around this one too.
            inspect.unwrap(torch.optim.SGD.step)(self)
        else:
            self._filtered_step(step, alpha_dom, beta_bulk)
        self._memory["steps"] = step + 1
        return loss

    def _filtered_step(self, step: int, alpha_dom: float, beta_bulk: float) -> None:
        updates: dict[Tensor, Tensor] = {}
        buffers: dict[Tensor, Tensor] = {}
        for number, group in enumerate(self.param_groups):
            _check_group(group, number)
            for p in group["params"]:
                if p.grad is None:
                    continue
                direction = _decayed_gradient(p, group["weight_decay"])
                if group["momentum"] != 0:  # in SGD's own arithmetic, but not in place yet
                    buffer = self.state[p].get("momentum_buffer")
                    direction = direction.clone() if buffer is None else buffer.mul(group["momentum"]).add_(direction)
                    buffers[p] = direction
                updates[p] = -float(group["lr"]) * direction
        if not updates:
            return
        theta = self._theta()
        flat = torch.cat([updates.get(p, torch.zeros_like(p)).reshape(-1) for p in theta])
        filtered = self._filter(flat, theta, step, alpha_dom, beta_bulk)
        # Nothing raises from here on.
        for p, piece in zip(theta, filtered.split([p.numel() for p in theta]), strict=True):
            if p in updates:
                p.add_(piece.view_as(p))
        for p, buffer in buffers.items():
            self.state[p]["momentum_buffer"] = buffer

    def _filter(self, update: Tensor, theta: list[Tensor], step: int, alpha_dom: float, beta_bulk: float) -> Tensor:
        memory, order = self._memory, self._numbers(theta)
        usable = memory["order"] == order  # or another θ: parameters were frozen or unfrozen, or curvature replaced
        subspace = SubspaceFilter(
            k=self.k,
            refresh_every=self.refresh_every,
            tolerance=self.tolerance,
            dominant=memory["dominant"] if usable else None,
            start=memory["start"] if usable else None,
            refreshed_at=memory["refreshed_at"] if usable else None,
        )
        try:
            filtered, refresh = subspace.apply(
                update, step, lambda: self._hessian(theta), alpha_dom=alpha_dom, beta_bulk=beta_bulk
            )
        except NonFiniteProductError as error:
            message = f"SubspaceSGD, step {step}: the curvature is not finite ({error}); nothing was changed"
            raise NonFiniteProductError(message) from error
        if refresh is not None:
            memory["dominant"], memory["start"] = subspace.dominant, subspace.start
            memory["refreshed_at"], memory["last_refresh"] = subspace.refreshed_at, vars(refresh).copy()
            memory["order"] = order
            memory["products"] += refresh.products
            memory["refreshes"] += 1
            memory["unconverged_refreshes"] += not refresh.converged
        return filtered

    def _hessian(self, theta: list[Tensor]) -> SymmetricOperator:
        if isinstance(self._curvature, Objective):
            return Hessian(self._curvature, self._curvature.theta)
        if self._curvature is None:
            raise InputError("alpha_dom and beta_bulk differ: set `curvature` first")
        return LossHessian(self._curvature, theta)

    def _weight(self, name: str, step: int) -> float:
        weight = getattr(self, name)
        value = float(weight(step) if callable(weight) else weight)
        if not isfinite(value):
            raise InputError(f"{name} must be a finite number, not {value} (step {step})")
        return value

    # ---------------------------------------------------------------- parameters
    def _theta(self) -> list[Tensor]:
        """The parameters that make up θ, in its order: the objective's, or that of the groups without frozen ones.

        Raises:
            InputError: they do not fit together, or not the objective.
        """
        given: list[Tensor] = [p for group in self.param_groups for p in group["params"]]
        if len({id(p) for p in given}) < len(given):
            raise InputError("a parameter occurs twice")
        if isinstance(self._curvature, Objective):
            _check_trained(given, self._curvature)
            return list(self._curvature.parameters)
        theta = [p for p in given if _may_move(p)]
        kinds = {(p.dtype, p.device) for p in theta}
        if len(kinds) != 1 or not theta[0].is_floating_point():
            raise InputError(f"parameters must be real numbers of one dtype and on one device: {kinds or 'none'}")
        return theta

    def _numbers(self, theta: list[Tensor]) -> list[int]:
        given = (p for group in self.param_groups for p in group["params"])
        numbers = {id(p): number for number, p in enumerate(given)}
        return [numbers[id(p)] for p in theta]

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group, as `torch.optim.SGD` does, and drops the subspace, which has another size now.

        Where curvature is an `Objective`, set one that trains the new parameters too before the next step.

        Raises:
            InputError: the group has what there is one of for all, or what is not supported (see the constructor).
        """
        if isinstance(param_group, dict):
            _check_group(param_group, len(self.param_groups))
        super().add_param_group(param_group)
        for state in self.state.values():
            if _MEMORY in state:
                state[_MEMORY].update(dominant=None, start=None, order=[], refreshed_at=None)

    # ---------------------------------------------------------------- state
    @property
    def _memory(self) -> _Memory:
        memory: _Memory = self.state[self._keeper()].setdefault(_MEMORY, _nothing_yet())
        return memory

    def _keeper(self) -> Tensor:
        for group in self.param_groups:
            for p in group["params"]:
                return p
        raise InputError("the optimizer has no parameters")

    def __getstate__(self) -> dict[str, Any]:
        names = ("alpha_dom", "beta_bulk", "k", "refresh_every", "tolerance", "_curvature")
        return {**super().__getstate__(), **{name: self.__dict__[name] for name in names}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "_curvature" not in state:  # not a copy: `load_state_dict`
            self._check_loaded(state["state"].get(self._keeper(), {}).get(_MEMORY))
        super().__setstate__(state)

    def _check_loaded(self, memory: _Memory | None) -> None:
        if memory is None:  # torch.optim.SGD's
            return
        if memory.keys() != _nothing_yet().keys():
            raise InputError(f"the state to load is of another version of SubspaceSGD: it has {sorted(memory)}")
        if memory["dominant"] is None:
            return
        DominantSubspace(memory["dominant"])  # verified here, and not at every step
        theta = self._theta()
        size = sum(p.numel() for p in theta)
        expected, found = [size, min(self.k, size)], list(memory["dominant"].shape)
        if found != expected:
            raise InputError(f"the subspace to load is of size {found} [P, k], this optimizer's of size {expected}")
        if memory["order"] != self._numbers(theta):
            raise InputError("the subspace to load has the parameters in another order than this optimizer")


def _nothing_yet() -> _Memory:
    return _Memory(
        steps=0,
        dominant=None,
        start=None,
        order=[],
        refreshed_at=None,
        last_refresh=None,
        products=0,
        refreshes=0,
        unconverged_refreshes=0,
    )


def _decayed_gradient(p: Tensor, weight_decay: float | Tensor) -> Tensor:
    assert p.grad is not None
    if p.grad.layout != torch.strided:
        raise InputError(f"sparse gradients are for steps with both weights 1 only: parameter of shape {list(p.shape)}")
    return p.grad.add(p, alpha=float(weight_decay)) if weight_decay != 0 else p.grad


def _check_group(group: dict[str, Any], number: int) -> None:
    own = sorted(_ONE_FOR_ALL & group.keys())
    if own:
        raise InputError(f"parameter group {number} has its own {', '.join(own)}: there is one for all groups")
    unsupported = [name for name in _NOT_HERE if group.get(name)]
    if unsupported:
        raise InputError(f"parameter group {number}: {', '.join(unsupported)} not supported by SubspaceSGD")


def _checked(curvature: Curvature | None) -> Curvature | None:
    if curvature is not None and not isinstance(curvature, Objective) and not callable(curvature):
        raise InputError(
            "curvature must be an Objective or a closure that returns the holdout's loss, not a "
            f"{type(curvature).__name__}"
        )
    return curvature


def _may_move(p: Tensor) -> bool:
    """Whether SGD could move it: frozen ones have no gradient, unless one is left from before."""
    return p.requires_grad or p.grad is not None


def _check_trained(given: list[Tensor], objective: Objective) -> None:
    """Refuses parameters that could move and that the objective does not train, and those that it does and that are
    not given."""
    trained = {id(p) for p in objective.parameters}
    for number, p in enumerate(given):
        if id(p) not in trained and _may_move(p):
            raise InputError(
                f"parameter {number} (counted over the groups; shape {list(p.shape)}) is none that the Objective "
                "trains; give the optimizer the parameters of the Objective's own model"
            )
    names = {id(p): name for name, p in objective.model.named_parameters()}
    missing = [names.get(i, "?") for i in trained - {id(p) for p in given}]
    if missing:
        raise InputError(
            f"the Objective trains parameters that the optimizer does not: {', '.join(sorted(missing))}; freeze them "
            "(requires_grad_(False)) before the Objective is made"
        )
