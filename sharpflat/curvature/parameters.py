"""A model's trainable parameters as one flat vector θ, and how to put θ back into the model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sharpflat.errors import InputError


class ParameterVector:
    """The trainable parameters of a model, in the order of `model.parameters()`, and every place that holds them.

    Frozen parameters (`requires_grad=False`) are constants. A shared (tied) parameter counts once.

    Attributes:
        parameters: The parameters, in their order in θ.
        names: Their names in the model.
        shapes: Their shapes.
        lengths: Their numbers of entries.
        size: P, the number of entries of θ.
        dtype: dtype of θ.
        device: Device of θ.
    """

    def __init__(self, model: nn.Module, chosen: Iterable[str | Tensor] | None = None) -> None:
        """Collects the parameters; copies nothing.

        Args:
            model: The module that holds them.
            chosen: The parameters that make up θ, as tensors, by their names, or by the name of a module for all of its
                parameters. The others are constants. `None` means all trainable parameters.

        Raises:
            InputError: There is no trainable parameter, they differ in dtype or device, they are not real numbers or
                not initialised, or a chosen parameter does not belong to the model.
        """
        self._model = model
        self._modules = list(model.modules())
        self._all = self._trainable()
        lazy = [name for name, p in model.named_parameters() if isinstance(p, nn.parameter.UninitializedParameter)]
        if lazy:
            raise InputError(
                f"parameter {lazy[0]!r} of a lazy layer has no shape yet: run the model once, model(inputs), before "
                "you make the Objective"
            )
        self.parameters = self._all if chosen is None else _chosen(model, chosen)
        names = {id(p): name for name, p in model.named_parameters()}
        self.names = [names[id(p)] for p in self.parameters]
        index = {id(p): i for i, p in enumerate(self.parameters)}
        self._slots: list[tuple[dict[str, Any], str, int]] = [
            (module._parameters, name, index[id(value)])
            for module in model.modules()
            for name, value in module._parameters.items()
            if value is not None and id(value) in index
        ]
        self._present: Sequence[Tensor] = self.parameters  # what the model computes with at the moment
        if not self.parameters:
            raise InputError("the model has no trainable parameter")
        dtypes = {p.dtype for p in self.parameters}
        devices = {p.device for p in self.parameters}
        if len(dtypes) > 1 or len(devices) > 1:
            raise InputError(f"trainable parameters must share dtype and device: {dtypes}, {devices}")
        self.shapes = [p.shape for p in self.parameters]
        self.lengths = [p.numel() for p in self.parameters]
        self.size = sum(self.lengths)
        self.dtype = self.parameters[0].dtype
        self.device = self.parameters[0].device
        if not self.dtype.is_floating_point:
            raise InputError(f"trainable parameters must be real numbers, not {self.dtype}")

    def _trainable(self) -> list[nn.Parameter]:
        return [p for p in self._model.parameters() if p.requires_grad]

    def check_unchanged(self) -> None:
        """Raises InputError if the model's modules or trainable parameters are no longer those that were collected."""
        self._check_modules()
        if not _same(self._trainable(), self._all):
            raise InputError(_CHANGED)

    def _check_modules(self) -> None:
        if not _same(self._model.modules(), self._modules):
            raise InputError(_CHANGED)

    def current(self) -> Tensor:
        """The parameters' current values as one vector, a detached copy [P]."""
        return torch.cat([p.detach().reshape(-1) for p in self.parameters])

    def check(self, theta: Tensor) -> None:
        """Raises InputError unless θ is a vector [P] of these parameters' dtype and device."""
        if not isinstance(theta, Tensor):
            raise InputError(f"theta must be a tensor [{self.size}], not a {type(theta).__name__}")
        if theta.layout != torch.strided:
            raise InputError(f"theta must be dense, not {theta.layout}: call to_dense() on it")
        if theta.shape != (self.size,) or theta.dtype != self.dtype or theta.device != self.device:
            raise InputError(
                f"theta must be a vector [{self.size}] of {self.dtype} on {self.device}, not "
                f"{list(theta.shape)} of {theta.dtype} on {theta.device}"
            )

    def leaves(self, theta: Tensor) -> list[Tensor]:
        """Differentiable views of θ [P], one for each parameter, in its shape."""
        if theta.is_inference() and not torch.is_inference_mode_enabled():
            theta = theta.clone()
        return [
            piece.view(shape).requires_grad_()
            for piece, shape in zip(theta.detach().split(self.lengths), self.shapes, strict=True)
        ]

    def pieces(self, vectors: Tensor) -> list[Tensor]:
        """Vectors [..., P] cut into the parameters' shapes, each [..., *shape]."""
        return [
            p.reshape((*vectors.shape[:-1], *s))
            for p, s in zip(vectors.split(self.lengths, dim=-1), self.shapes, strict=True)
        ]

    @contextmanager
    def replaced_by(self, leaves: list[Tensor]) -> Iterator[None]:
        """Lets the model compute with `leaves`, and restores its own parameters afterwards in any case.

        This is what `torch.func.functional_call` does, but the names are looked up only once. It also avoids a flaw of
        that function in torch 2.11, which does not restore the parameters of a module that occurs twice.

        Raises:
            InputError: A module or parameter was replaced.
        """
        self._check_modules()
        before = self._present
        for holder, name, i in self._slots:
            if name not in holder or holder[name] is not before[i]:
                raise InputError(
                    f"a parameter ({name!r} of a module) was replaced since the Objective was made; make a new one"
                )
        self._present = leaves
        try:
            for holder, name, i in self._slots:
                holder[name] = leaves[i]
            yield
        finally:
            self._present = before
            for holder, name, i in self._slots:
                holder[name] = before[i]

    def gradient(self, share: Tensor, leaves: list[Tensor]) -> Tensor:
        """The gradient [P] of a scalar with respect to `leaves`; zero for those on which it does not depend."""
        check_dependence(share)
        parts = torch.autograd.grad(share, leaves, allow_unused=True, materialize_grads=True)
        return torch.cat([p.reshape(-1) for p in parts])


_CHANGED = (
    "the model's modules or trainable parameters are not those the Objective was made with: parameters or modules were "
    "replaced, added, removed, frozen or unfrozen; make a new Objective"
)


def _same(now: Iterable[object], before: Iterable[object]) -> bool:
    """Whether they are the same objects in the same order."""
    return [id(a) for a in now] == [id(b) for b in before]


def check_dependence(result: Tensor) -> None:
    """Raises InputError if autograd sees no dependence on a parameter in a result computed with gradients enabled."""
    if not result.requires_grad:
        raise InputError(
            "the loss depends on none of the parameters as far as autograd can see: the model or the loss computes "
            "under torch.no_grad() or inference_mode(), calls detach(), or leaves PyTorch (numpy(), item())"
        )


def _chosen(model: nn.Module, chosen: Iterable[str | Tensor]) -> list[nn.Parameter]:
    names = {name: p for name, p in model.named_parameters(remove_duplicate=False)}
    if isinstance(chosen, str | Tensor):
        chosen = [chosen]
    wanted: set[int] = set()
    for choice in chosen:
        if isinstance(choice, str):
            found = [id(p) for name, p in names.items() if name == choice or name.startswith(f"{choice}.")]
            what = repr(choice)
        else:
            found = [id(p) for p in names.values() if p is choice]
            what = f"a tensor of shape {list(choice.shape)}" if isinstance(choice, Tensor) else repr(choice)
        if not found:
            raise InputError(f"parameters: {what} does not belong to the model, which has {', '.join(names)}")
        wanted.update(found)
    frozen = [name for name, p in names.items() if id(p) in wanted and not p.requires_grad]
    if frozen:
        raise InputError(f"parameters: {frozen[0]!r} is frozen; call requires_grad_() on it first")
    return [p for p in model.parameters() if id(p) in wanted]
