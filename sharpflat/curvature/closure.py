"""The Hessian of a loss that is given as a closure, for code that has its own model, data and loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import torch
from torch import Tensor

from sharpflat.curvature.base import Operator, check_vectors
from sharpflat.curvature.modes import check_autograd, explaining, in_turn
from sharpflat.errors import InputError


class LossHessian(Operator):
    """The Hessian H of a closure's loss with respect to some parameters at their current values.

    Products are double backward passes. θ is the vector of the parameters in the given order. A parameter that does not
    require a gradient, or on which the loss does not depend, is a constant, and its rows and columns are zero. `.grad`
    of the parameters stays as it is. Hooks of the parameters (`Tensor.register_hook`) do not run, since they change the
    gradient. It can be neither copied nor pickled.

    Attributes:
        size: P, the number of entries of θ.
        dtype: dtype of θ.
        device: device of θ.
    """

    @in_turn
    def __init__(self, closure: Callable[[], Tensor], parameters: Iterable[Tensor | tuple[str, Tensor]]) -> None:
        """Evaluates the closure once, with gradients enabled. All products share that graph.

        Args:
            closure: returns the loss, a scalar, without calling `backward()`.
            parameters: leaf tensors of any shapes, or pairs of their names and them (`model.named_parameters()`).

        Raises:
            InputError: `closure` is not a function, or `parameters` are not tensors; there is no parameter or one
                occurs twice, dtypes or devices are mixed, or the closure's result is not a scalar tensor, depends on
                none of the parameters, was already differentiated, or was computed by a module with a backward hook.
        """
        check_autograd()
        if not callable(closure):
            raise InputError(f"closure must be a function that returns the loss, not {closure!r}")
        self._parameters = _tensors(parameters)
        lazy = [p for p in self._parameters if isinstance(p, torch.nn.parameter.UninitializedParameter)]
        if lazy:
            raise InputError("a parameter of a lazy layer has no shape yet: run the model once first, model(inputs)")
        if len({id(p) for p in self._parameters}) < len(self._parameters):
            raise InputError("a parameter occurs twice (tied weights?): give each parameter once")
        kinds = {(p.dtype, p.device) for p in self._parameters}
        if len(kinds) != 1:
            raise InputError(f"parameters must all share one dtype and device: {kinds or 'none'}")
        ((self.dtype, self.device),) = kinds
        if not self.dtype.is_floating_point:
            raise InputError(f"parameters must be real numbers, not {self.dtype}")
        self._lengths = [p.numel() for p in self._parameters]
        self.size = sum(self._lengths)
        self._variables = [p for p in self._parameters if p.requires_grad]
        self._gradients = self._differentiate(closure)

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise InputError(
            "a LossHessian cannot be copied or pickled, because its graph cannot: make a new LossHessian from the "
            "closure, or use an Objective and its Hessian, which can"
        )

    def _differentiate(self, closure: Callable[[], Tensor]) -> list[Tensor | None]:
        """The differentiable gradient with respect to each variable; None if the loss does not depend on it."""
        with explaining(), torch.enable_grad(), _without_hooks(self._variables):
            loss = closure()
            if not isinstance(loss, Tensor) or loss.numel() != 1:
                found = list(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
                raise InputError(f"the closure must return the loss as a scalar tensor, not {found}")
            if _has_backward_hooks(loss):
                raise InputError(
                    "a module has a backward hook (register_full_backward_hook), which may change the gradient: remove "
                    "the hook, or let the closure evaluate a copy of the model without it"
                )
            gradients: list[Tensor | None] = []
            if loss.requires_grad and self._variables:
                try:
                    gradients += torch.autograd.grad(loss.sum(), self._variables, create_graph=True, allow_unused=True)
                except RuntimeError as error:
                    if "backward through the graph a second time" not in str(error):
                        raise
                    raise InputError("the closure must return the loss without calling backward() on it") from error
        if all(g is None for g in gradients):
            raise InputError(
                "the closure's loss depends on none of the parameters that require a gradient: it must evaluate the "
                "model that they belong to, without no_grad() or detach()"
            )
        if any(g is not None and g.layout != torch.strided for g in gradients):
            raise InputError(
                "a parameter has sparse gradients, which products do not support: make the embedding with sparse=False"
            )
        return gradients

    def matvec(self, v: Tensor) -> Tensor:
        """The product with one vector [P], [P].

        Raises:
            InputError: v has another shape, dtype or device.
        """
        check_vectors(v, self, ndim=1)
        return self._product(v.detach())

    def matmat(self, V: Tensor) -> Tensor:
        """The products with the columns of V [P, K], [P, K] (stored column by column).

        Raises:
            InputError: V has another shape, dtype or device.
        """
        check_vectors(V, self, ndim=2)
        rows = V.new_empty(V.shape[1], V.shape[0])
        for row, v in zip(rows, V.detach().T, strict=True):
            row.copy_(self._product(v))
        return rows.T

    @in_turn
    def _product(self, v: Tensor) -> Tensor:
        pieces = {id(p): piece for p, piece in zip(self._parameters, v.split(self._lengths), strict=True)}
        # If a gradient is a constant (the loss is linear in it), nothing is left to differentiate.
        live = [
            (g, pieces[id(p)].view_as(p))
            for p, g in zip(self._variables, self._gradients, strict=True)
            if g is not None and g.requires_grad
        ]
        if not live:
            return torch.zeros_like(v)
        check_autograd()
        with explaining(), _without_hooks(self._variables):
            parts = torch.autograd.grad(
                [g for g, _ in live],
                self._variables,
                [piece for _, piece in live],
                retain_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
        found = {id(p): part for p, part in zip(self._variables, parts, strict=True)}
        return torch.cat([found.get(id(p), torch.zeros_like(p)).reshape(-1) for p in self._parameters])


@contextmanager
def _without_hooks(tensors: Iterable[Tensor]) -> Iterator[None]:
    """Removes the hooks of `Tensor.register_hook`, and restores them afterwards."""
    hooked = [(tensor, tensor._backward_hooks) for tensor in tensors if tensor._backward_hooks]
    for tensor, _ in hooked:
        tensor._backward_hooks = None
    try:
        yield
    finally:
        for tensor, hooks in hooked:
            tensor._backward_hooks = hooks


def _has_backward_hooks(loss: Tensor) -> bool:
    """Whether a module with a backward hook computed part of the loss. Such modules add a node to its graph."""
    found, left = set(), [loss.grad_fn]
    while left:
        node = left.pop()
        if node is not None and node not in found:
            if node.name().startswith("BackwardHookFunction"):
                return True
            found.add(node)
            left += [following for following, _ in node.next_functions]
    return False


def _tensors(parameters: Iterable[Tensor | tuple[str, Tensor]]) -> list[Tensor]:
    given = [parameters] if isinstance(parameters, Tensor) or not isinstance(parameters, Iterable) else parameters
    found = [p[1] if isinstance(p, tuple) and len(p) == 2 else p for p in given]
    tensors = [p for p in found if isinstance(p, Tensor)]
    if len(tensors) < len(found):
        kinds = sorted({type(p).__name__ for p in found if not isinstance(p, Tensor)})
        raise InputError(f"parameters must be tensors, as in model.parameters(), not {', '.join(kinds)}")
    return tensors
