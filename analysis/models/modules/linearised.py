"""The wrapper of `analysis.models.linearised`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call


class Linearised(nn.Module):
    """`model` itself until `about` is called, and then f_lin + c (f − f_lin)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.scale = model, 1.0
        self.at: dict[str, Tensor] | None = None

    def about(self, at: Sequence[Tensor], scale: float) -> None:
        """Linearise about parameters `at`, in the order of `parameters()`, with c = `scale`."""
        self.at = dict(zip(dict(self.model.named_parameters()), (one.detach() for one in at), strict=True))
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        if self.at is None or self.scale == 1.0:
            return self.model(x)
        own = dict(self.model.named_parameters())
        moved = {name: own[name] - start for name, start in self.at.items()}
        value, change = torch.func.jvp(lambda at: functional_call(self.model, at, (x,)), (self.at,), (moved,))  # type: ignore[misc]
        linear = value + change
        return linear if self.scale == 0.0 else linear + self.scale * (self.model(x) - linear)
