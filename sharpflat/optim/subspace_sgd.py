"""SubspaceSGD: SGD that weighs the dominant and the bulk component of its updates, in place of `torch.optim.SGD`.

After Zakarin & Singh, *Accelerating Neural Network Training Along Sharp and Flat Directions* (arXiv 2505.11972).
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
from sharpflat.curvature.eigensolver import NonFiniteProductError, SymmetricOperator
from sharpflat.curvature.objective import Objective
from sharpflat.curvature.operators import Hessian
from sharpflat.errors import CurvatureWarning, InputError
from sharpflat.optim.distributed import check_ranks_agree
from sharpflat.optim.groups import check_group, numbers_of, sgd_updates, theta_of
from sharpflat.optim.memory import MEMORY, Memory, Remembering, check_fits, check_version, forget, recall, remember
from sharpflat.optim.refresh import Refresh, RefreshRule

Weight = float | Callable[[int], float]
"""A number, or a function of the number of steps made before this one."""
Curvature = Objective | Callable[[], Tensor]
"""A loss on a holdout: an `Objective`, or a closure that returns it as a scalar."""


class SubspaceSGD(NamedWhenPickled, Remembering, torch.optim.SGD):
    """θ ← θ + α_dom P_k u + β_bulk P_k^⊥ u, with u = −lr · b the update of SGD (Zakarin & Singh, arXiv 2505.11972).

    b is the momentum direction of `torch.optim.SGD` (weight decay included; no dampening, no Nesterov), P_k projects
    on the dominant subspace: the k leading eigenvectors of the Hessian of a holdout's loss, by all parameters of all
    groups together. SGD is (α_dom, β_bulk) = (1, 1), Dom-SGD (1, 0), Bulk-SGD (0, 1).

    - Where both weights are 1, a step is `torch.optim.SGD`'s, to the bit. Where they are equal, no curvature is
      evaluated.
    - The subspace is found anew at a step that needs it if it is `refresh_every` or more steps old; or, with
      `refresh_error` or `refresh_overlap`, as often as that accuracy needs (see `RefreshRule`).
    - `lr`, `momentum` and `weight_decay` may differ between groups, and change between steps (schedulers do that).
    - A parameter without gradient is left alone, as SGD leaves it: not moved, not decayed. In the projection, its
      update counts as zero; so where there is one, the step made is not exactly inside (or outside) of the subspace.
    - A step that raises has changed nothing (but what a closure handed to `step` did).
    - `state_dict` holds the number of steps, the subspace and the counts, besides SGD's momentum; not the weights,
      `k`, `tolerance`, `curvature` and what says when to refresh, which are the constructor's. A resumed optimizer goes
      on to the bit. A `state_dict` of `torch.optim.SGD` can be loaded.

    Attributes:
        alpha_dom: weight of the dominant component; may be set between steps.
        beta_bulk: weight of the bulk component; may be set between steps.
        k: as given to the constructor; so are `tolerance`, `refresh_every`, `refresh_error`, `refresh_overlap` and
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
        tolerance: float = 1e-2,
        check_ranks: bool = True,
    ) -> None:
        """The constructor evaluates nothing.

        Args:
            params: as for `torch.optim.SGD`; groups may have `lr`, `momentum` and `weight_decay` of their own. Those
                that require a gradient share one dtype and device where curvature is needed.
            lr: learning rate.
            alpha_dom: weight of the dominant component, a number or a function of the number of steps made before.
            beta_bulk: weight of the bulk component, likewise.
            k: dimension of the dominant subspace, of at most the number of parameters.
            refresh_every: steps between refreshes, at least 1; 10 unless one of the next two is given.
            refresh_error: refresh as often as keeps the filtered update's relative error at most this (0.05, say).
            refresh_overlap: likewise the overlap of the subspace in use with a new one, at least this (0.999, say).
            momentum: of SGD.
            weight_decay: of SGD.
            curvature: where the Hessian is taken: an `Objective` that trains just these parameters (in any order), or
                a closure that returns the loss (a scalar) of the model with these parameters on a holdout, without
                `backward()`; it is called once a refresh. Needed unless both weights are the same number.
            tolerance: of the eigenpairs' residuals, relative to λ_k (see `SubspaceFilter`).
            check_ranks: where torch.distributed is initialised, compare one number across ranks after each refresh;
                False where ranks train models of their own.

        Raises:
            InputError: k, tolerance, a weight or what says when to refresh is out of range, two of the latter are
                given, curvature is missing or neither of the two, an `Objective` trains other parameters, parameters
                occur twice, or a group has what there is one of for all (alpha_dom, beta_bulk, k, refresh_every and its
                like) or what is not supported (dampening, nesterov, maximize, differentiable, fused).
            ValueError: what `torch.optim.SGD` refuses.
        """
        check_counts(k=k)
        if refresh_every is None and refresh_error is None and refresh_overlap is None:
            refresh_every = 10
        RefreshRule(refresh_every, refresh_error, refresh_overlap)  # checks them
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
        """Where the Hessian is taken, from the next refresh on; may be set between steps."""
        return self._curvature

    @curvature.setter
    def curvature(self, curvature: Curvature | None) -> None:
        self._curvature = _checked(curvature)

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
        try:
            filtered, refresh = subspace.apply(
                update, step, lambda: _hessian(self._curvature, theta), alpha_dom=alpha_dom, beta_bulk=beta_bulk
            )
        except NonFiniteProductError as error:
            message = f"SubspaceSGD, step {step}: the curvature is not finite ({error}); nothing was changed"
            raise NonFiniteProductError(message) from error
        if refresh is not None:
            if self.check_ranks:
                check_ranks_agree(refresh, subspace.interval)
            remember(self._memory, order, subspace, refresh)
            if not ((refresh.converged and refresh.kept) or self._warned):
                self._warned = True
                _warn(refresh)
        return filtered

    def _weight(self, name: str, step: int) -> float:
        return _weight(name, getattr(self, name), step)

    def _theta(self) -> list[Tensor]:
        return theta_of(self.param_groups, self._curvature if isinstance(self._curvature, Objective) else None)

    # ---------------------------------------------------------------- groups and state
    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group, as `torch.optim.SGD` does, and drops the subspace, which has another size now.

        Where curvature is an `Objective`, set one that trains the new parameters too before the next step.

        Raises:
            InputError: the group has what there is one of for all, or what is not supported (see the constructor).
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
        """The weights and the closure, which pickle must find by name."""
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
        raise InputError("alpha_dom and beta_bulk differ: set `curvature` first")
    return LossHessian(curvature, theta)


def _warn(refresh: Refresh) -> None:
    counter, what = "unconverged_refreshes", f"did not converge and is used all the same: {refresh.reason}"
    if refresh.converged:
        counter = "missed_refreshes"
        what = (
            "turned faster than expected and was used too long for the accuracy asked for (after "
            f"{refresh.interval} steps: relative error of the filtered update {refresh.error:.1e}, overlap "
            f"{refresh.overlap:.6f}); it is refreshed more often now"
        )
    warnings.warn(
        f"SubspaceSGD, step {refresh.step}: the dominant subspace {what}. Said once; `{counter}` counts and "
        "`last_refresh` tells more",
        CurvatureWarning,
        stacklevel=6,
    )
