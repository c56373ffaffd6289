"""Models by kind. A kind is a module of this package with its numbers and `build(numbers, inputs, outputs)`; it is
imported by name, so that a new model renames (and retrains) nothing of the others."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from analysis.specs import ModelNumbers


def build(
    numbers: ModelNumbers, inputs: tuple[int, ...], outputs: int, generator: torch.Generator, dtype: torch.dtype
) -> torch.nn.Module:
    """The model that `numbers` describe, initialised from `generator`: PyTorch's default but where they have another
    `initialisation`.

    Args:
        numbers: of the model's kind.
        inputs: shape of one example: (channels, rows, columns), or (vocabulary size, longest sentence).
        outputs: number of outputs.
        generator: CPU generator; no global seed is touched.
        dtype: of the parameters. They are drawn in it, so float32 and float64 models start apart.
    """
    import torch

    from analysis.models.modules.initialise import initialise, redraw_convolutions

    with torch.device("meta"):  # allocates and draws nothing
        model = import_module(f"analysis.models.{numbers.kind}").build(numbers, inputs, outputs)
    model = model.to(dtype).to_empty(device="cpu")
    initialise(model, generator)
    if getattr(numbers, "initialisation", "default") == "he":
        redraw_convolutions(model, generator)
    return model
