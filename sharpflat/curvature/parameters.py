"""A model's trainable parameters as one flat vector θ, and the way back into the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sharpflat.errors import InputError


class ParameterVector:
    """Every trainable parameter once, in the order of `model.parameters()`, and every place that holds it.

    Frozen parameters (`requires_grad=False`) are constants, a shared (tied) one counts once.

    Attributes:
        parameters: The parameters, in the order they have in θ.
        shapes: Their shapes.
        lengths: Their numbers of entries.
        size: P, the number of entries of θ.
        dtype: dtype of θ.
        device: Device of θ.
    """

    def __init__(self, model: nn.Module) -> None:
        """Collects the parameters; copies nothing.

        Raises:
            InputError: There is no trainable parameter, they differ in dtype or device, or are no real numbers.
        """
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        index = {id(p): i for i, p in enumerate(self.parameters)}
        self._slots: list[tuple[dict[str, Any], str, int]] = [
            (module._parameters, name, index[id(value)])
            for module in model.modules()
            for name, value in module._parameters.items()
            if value is not None and id(value) in index
        ]
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

    def current(self) -> Tensor:
        """The parameters' values now, as one vector: a detached copy [P]."""
        return torch.cat([p.detach().reshape(-1) for p in self.parameters])

    def check(self, theta: Tensor) -> None:
        """Raises InputError unless θ is a vector [P] of these parameters' dtype and device."""
        if theta.shape != (self.size,) or theta.dtype != self.dtype or theta.device != self.device:
            raise InputError(
                f"theta must be a vector [{self.size}] of {self.dtype} on {self.device}, not "
                f"{list(theta.shape)} of {theta.dtype} on {theta.device}"
            )

    def leaves(self, theta: Tensor) -> list[Tensor]:
        """Differentiable views of θ [P], one for each parameter, in its shape."""
        return [
            piece.view(shape).requires_grad_()
            for piece, shape in zip(theta.detach().split(self.lengths), self.shapes, strict=True)
        ]

    def pieces(self, vectors: Tensor) -> list[Tensor]:
        """Vectors [..., P] cut into the parameters' shapes, each [..., *shape]."""
        return [
            p.reshape(*vectors.shape[:-1], *s)
            for p, s in zip(vectors.split(self.lengths, dim=-1), self.shapes, strict=True)
        ]

    @contextmanager
    def replaced_by(self, leaves: list[Tensor]) -> Iterator[None]:
        """Lets the model compute with `leaves`; puts its own parameters back whatever happens.

        This is what `torch.func.functional_call` does, with the look-up of names done once (and without its
        flaw in torch 2.11: a module that occurs twice does not get its own parameters back).
        """
        for holder, name, i in self._slots:
            holder[name] = leaves[i]
        try:
            yield
        finally:
            for holder, name, i in self._slots:
                holder[name] = self.parameters[i]

    def gradient(self, share: Tensor, leaves: list[Tensor]) -> Tensor:
        """The gradient [P] of a scalar by `leaves`; zero for those it does not depend on."""
        if not share.requires_grad:
            return torch.zeros(self.size, dtype=self.dtype, device=self.device)
        parts = torch.autograd.grad(share, leaves, allow_unused=True, materialize_grads=True)
        return torch.cat([p.reshape(-1) for p in parts])
