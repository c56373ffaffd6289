"""Models by kind. A kind is a module of this package with `build(spec, inputs, outputs)`; it is imported by name,
so that a new model renames (and retrains) nothing of the others."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from analysis.specs import Frozen


def build(
    spec: Frozen, inputs: tuple[int, ...], outputs: int, generator: torch.Generator, dtype: torch.dtype
) -> torch.nn.Module:
    """The model that `spec` describes, initialised from `generator`: PyTorch's default but where the
    specification has another `initialisation`.

    Args:
        spec: one of the model specifications of `analysis.specs`.
        inputs: shape of one example: (channels, rows, columns), or (vocabulary size, longest sentence).
        outputs: number of outputs.
        generator: CPU generator; no global seed is touched.
        dtype: of the parameters. They are drawn in it, so float32 and float64 models start apart.
    """
    import torch

    from analysis.models.initialise import initialise, redraw_convolutions

    with torch.device("meta"):  # allocates and draws nothing
        model = import_module(f"analysis.models.{spec.kind}").build(spec, inputs, outputs)  # type: ignore[attr-defined]
    model = model.to(dtype).to_empty(device="cpu")
    initialise(model, generator)
    if getattr(spec, "initialisation", "default") == "he":
        redraw_convolutions(model, generator)
    return model
