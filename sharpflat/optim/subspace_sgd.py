"""SubspaceSGD, which replaces `torch.optim.SGD` and weights the dominant and the bulk component of its updates.

The method is from Zakarin & Singh, *Accelerating Neural Network Training Along Sharp and Flat Directions* (arXiv
2505.11972).
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from math import isfinite
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from sharpflat.arguments import NamedWhenPickled, check_counts, check_tolerance
from sharpflat.curvature.closure import LossHessian
from sharpflat.curvature.objective import Objective
from sharpflat.curvature.operators import Hessian
from sharpflat.curvature.symmetric import NonFiniteProductError, SymmetricOperator
from sharpflat.errors import CurvatureWarning, InputError
from sharpflat.optim.distributed import check_ranks_agree
from sharpflat.optim.groups import check_group, numbers_of, sgd_updates, theta_of
from sharpflat.optim.memory import (
    MEMORY,
    Conditions,
    Memory,
    Remembering,
    check_fits,
    check_version,
    forget,
    recall,
    remember,
)
from sharpflat.optim.refresh import Refresh, RefreshRule

Weight = float | Callable[[int], float]
"""A number, or a function of the number of earlier steps."""
Curvature = Objective | Callable[[], Tensor]
"""A loss on a holdout: an `Objective`, or a closure that returns it as a scalar."""


class SubspaceSGD(NamedWhenPickled, Remembering, torch.optim.SGD):
    """θ ← θ + α_dom P_k u + β_bulk P_k^⊥ u, with u = −lr · b the update of SGD (Zakarin & Singh, arXiv 2505.11972).

    b is the momentum direction of `torch.optim.SGD`, including weight decay but without dampening and Nesterov
    momentum. P_k projects onto the dominant subspace, the span of the k leading eigenvectors of the Hessian of a
    holdout's loss. There is one subspace for the parameters of all groups together. The weights (α_dom, β_bulk) are
    (1, 1) for SGD, (1, 0) for Dom-SGD and (0, 1) for Bulk-SGD.

    - If both weights are 1, a step is bit-identical to a step of `torch.optim.SGD`. If they are equal, no curvature is
      evaluated.
    - With `refresh_every`, a step that needs the subspace recomputes it if it is that many steps old. With
      `refresh_error` or `refresh_overlap`, it is recomputed as often as that accuracy needs (see `RefreshRule`), and
      also when a learning rate grows by more than a tenth or the weights change by about as much.
    - `lr`, `momentum` and `weight_decay` may differ between groups, and schedulers may change them between steps.
    - A parameter without a gradient is neither moved nor decayed, as in SGD. Its update counts as zero in the
      projection, so the step is then not exactly inside or outside the subspace.
    - If a gradient has a NaN entry, a step with two unequal weights makes all entries of all parameters NaN, because
      the projection mixes them. A step of SGD makes only that entry NaN. Check gradients before the step.
    - A step that raises an exception changes nothing, except what a closure passed to `step` did.
    - `state_dict` holds the number of steps, the subspace and the counts, besides SGD's momentum. It does not hold
      the weights, `k`, `tolerance`, `curvature` and the refresh setting, which are passed to the constructor. A
      resumed optimizer continues bit-identically. A `state_dict` of `torch.optim.SGD` can be loaded.

    Attributes:
        alpha_dom: weight of the dominant component; may be set between steps.
        beta_bulk: weight of the bulk component; may be set between steps.
        k: as passed to the constructor; so are `tolerance`, `refresh_every`, `refresh_error`, `refresh_overlap` and
            `check_ranks`.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor,
        *,
        alpha_dom: Weight = 1.0,
        beta_bulk: Weight = 1.0,
        k: int = 10,
        refresh_every: int | None = None,
        refresh_error: float | None = None,
        refresh_overlap: float | None = None,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        curvature: Curvature | None = None,
        tolerance: float | None = None,
        check_ranks: bool = True,
    ) -> None:
        """The constructor does not evaluate the model.

        Args:
            params: as for `torch.optim.SGD`. Groups may have their own `lr`, `momentum` and `weight_decay`. If
                curvature is needed, the parameters that require a gradient must share one dtype and device.
            lr: learning rate.
            alpha_dom: weight of the dominant component, a number or a function of the number of earlier steps.
            beta_bulk: weight of the bulk component, a number or a function of the number of earlier steps.
            k: dimension of the dominant subspace. If it is P or more, everything is dominant.
            refresh_every: steps between refreshes, at least 1. The default is 10 unless one of the next two is given.
            refresh_error: a target, the largest relative error of a filtered update, for example 0.05. The subspace is
                refreshed as often as this needs, judged by the last refreshes. `missed_refreshes` counts those that
                came too late.
            refresh_overlap: likewise, the smallest overlap of the subspace in use with a new one, for example 0.999.
                If λ_k and λ_(k+1) differ by little more than `tolerance` (relative to λ_k), neither bound may be met,
                because the new subspace itself is not that accurate.
            momentum: momentum of SGD.
            weight_decay: weight decay of SGD.
            curvature: the loss whose Hessian is used. It is an `Objective` that trains exactly these parameters (in
                any order), or a closure that returns the loss (a scalar) of the model with these parameters on a
                holdout, without `backward()`. The closure is called once in each refresh. It is needed unless both
                weights are the same number.
            tolerance: largest residual of the eigenpairs, relative to λ_k (see `SubspaceFilter`). `None` means 1e-2, or
                1e-4 with `refresh_error` or `refresh_overlap`, which usually end the search earlier.
            check_ranks: if torch.distributed is initialised, compare the ranks after each refresh. Set it to False if
                the ranks train separate models.

        Raises:
            InputError: `k`, `tolerance`, a weight or the refresh setting is out of range; more than one refresh setting
                is given; `curvature` is missing, or is neither an `Objective` nor a closure; an `Objective` trains
                other parameters; a parameter occurs twice; a group sets an option that applies to all groups
                (`alpha_dom`, `beta_bulk`, `k`, a refresh setting) or is not supported (`dampening`, `nesterov`,
                `maximize`, `differentiable`, `fused`).
            ValueError: `torch.optim.SGD` refuses an argument.
        """
        check_counts(k=k)
        if refresh_every is None and refresh_error is None and refresh_overlap is None:
            refresh_every = 10
        RefreshRule(refresh_every, refresh_error, refresh_overlap)  # checks them
        if tolerance is None:
            tolerance = 1e-2 if refresh_every is not None else 1e-4
        check_tolerance(tolerance)
        self.alpha_dom, self.beta_bulk = alpha_dom, beta_bulk
        self.check_ranks, self._warned = check_ranks, False
        self.k, self.tolerance = k, tolerance
        self.refresh_every, self.refresh_error, self.refresh_overlap = refresh_every, refresh_error, refresh_overlap
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

    @property
    def curvature(self) -> Curvature | None:
        """The loss whose Hessian is used from the next refresh on; may be set between steps."""
        return self._curvature

    @curvature.setter
    def curvature(self, curvature: Curvature | None) -> None:
        self._curvature = _checked(curvature)

    # ---------------------------------------------------------------- a step
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Makes one step.

        Args:
            closure: evaluates the training loss, computes gradients and returns the loss, as for `torch.optim.SGD`.

        Returns:
            The value that the closure returned, or None.

        Raises:
            InputError: a weight is not a finite number, `curvature` is missing or does not fit the parameters (see
                `LossHessian` for closures), or a gradient is sparse although a weight is not 1.
            NonFiniteProductError: the curvature of the holdout is not finite.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        step = self.steps
        alpha_dom, beta_bulk = self._weight("alpha_dom", step), self._weight("beta_bulk", step)
        if alpha_dom == beta_bulk == 1.0:
            # Unwrapped, because PyTorch wraps SGD's own step in calls of the step hooks, and this step has them
            # already.
            inspect.unwrap(torch.optim.SGD.step)(self)
        else:
            self._filtered_step(step, alpha_dom, beta_bulk)
        self._memory["steps"] = step + 1
        return loss

    def _filtered_step(self, step: int, alpha_dom: float, beta_bulk: float) -> None:
        updates, buffers = sgd_updates(self.param_groups, self.state)
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
        order = numbers_of(self.param_groups, theta)
        subspace = recall(self._memory, order, **{name: getattr(self, name) for name in _OF_THE_FILTER})
        conditions = Conditions(
            (self.refresh_error, self.refresh_overlap),
            (alpha_dom, beta_bulk),
            tuple(float(group["lr"]) for group in self.param_groups),
        )
        outdated = alpha_dom != beta_bulk and conditions.outdate(self._memory)
        if outdated:
            subspace.interval = 0  # due
        try:
            filtered, refresh = subspace.apply(
                update, step, lambda: _hessian(self._curvature, theta), alpha_dom=alpha_dom, beta_bulk=beta_bulk
            )
        except NonFiniteProductError as error:
            message = f"SubspaceSGD, step {step}: the curvature is not finite ({error}); nothing was changed"
            raise NonFiniteProductError(message) from error
        if refresh is not None:
            if outdated:
                subspace.interval = subspace.rule.first
            if self.check_ranks:
                check_ranks_agree(refresh, subspace.interval)
            if not ((refresh.converged and refresh.kept) or self._warned):
                self._warned = True
                _warn(refresh)
            remember(self._memory, order, subspace, refresh, conditions)
        return filtered

    def _weight(self, name: str, step: int) -> float:
        return _weight(name, getattr(self, name), step)

    def _theta(self) -> list[Tensor]:
        return theta_of(self.param_groups, self._curvature if isinstance(self._curvature, Objective) else None)

    # ---------------------------------------------------------------- groups and state
    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group, as `torch.optim.SGD` does, and drops the subspace, whose size has changed.

        If `curvature` is an `Objective`, replace it before the next step by one that also trains the new parameters.

        Raises:
            InputError: the group sets an option that applies to all groups or is not supported (see the constructor).
        """
        if isinstance(param_group, dict):
            check_group(param_group, len(self.param_groups))
        super().add_param_group(param_group)
        for state in self.state.values():
            if MEMORY in state:
                forget(state[MEMORY])

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), **{name: self.__dict__[name] for name in _OWN}}

    def functions(self) -> dict[str, object]:
        """The weights and the closure, which pickle must be able to find by name."""
        return {"alpha_dom": self.alpha_dom, "beta_bulk": self.beta_bulk, "curvature": self._curvature}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "_curvature" not in state:  # not a copy: `load_state_dict`
            memory: Memory | None = state["state"].get(self._keeper(), {}).get(MEMORY)
            if memory is not None:  # None where it was torch.optim.SGD's
                check_version(memory)
                if memory["dominant"] is not None:
                    theta = self._theta()
                    order, size = numbers_of(self.param_groups, theta), sum(p.numel() for p in theta)
                    check_fits(memory, order, size=size, k=self.k)
        super().__setstate__(state)  # type: ignore[no-untyped-call]


_OF_THE_FILTER = ("k", "tolerance", "refresh_every", "refresh_error", "refresh_overlap")
_OWN = ("alpha_dom", "beta_bulk", *_OF_THE_FILTER, "_curvature", "check_ranks", "_warned")


def _checked(curvature: Curvature | None) -> Curvature | None:
    if curvature is not None and not isinstance(curvature, Objective) and not callable(curvature):
        raise InputError(
            "curvature must be an Objective or a closure that returns the holdout's loss, not a "
            f"{type(curvature).__name__}"
        )
    return curvature


def _weight(name: str, weight: Weight, step: int) -> float:
    value = float(weight(step) if callable(weight) else weight)
    if not isfinite(value):
        raise InputError(f"{name} must be a finite number, not {value} (step {step})")
    return value


def _hessian(curvature: Curvature | None, theta: list[Tensor]) -> SymmetricOperator:
    if isinstance(curvature, Objective):
        return Hessian(curvature, curvature.theta)
    if curvature is None:
        raise InputError("alpha_dom and beta_bulk differ, so `curvature` must be set first")
    return LossHessian(curvature, theta)


def _warn(refresh: Refresh) -> None:
    counter, what = "unconverged_refreshes", f"did not converge but is used all the same: {refresh.reason}"
    if refresh.converged:
        counter = "missed_refreshes"
        what = (
            "turned faster than expected and was used for too long to meet the requested accuracy (after "
            f"{refresh.interval} steps: relative error of the filtered update {refresh.error:.1e}, overlap "
            f"{refresh.overlap:.6f}); it is now refreshed more often"
        )
    warnings.warn(
        f"SubspaceSGD, step {refresh.step}: the dominant subspace {what}. This warning appears once; `{counter}` "
        "counts these refreshes, and `last_refresh` has the details",
        CurvatureWarning,
        stacklevel=6,
    )
