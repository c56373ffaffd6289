"""Models by kind. A kind is a module of this package with its numbers and `build(numbers, inputs, outputs)`. It is
imported by name, so that a new model does not rename (and retrain) segments with other models."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from analysis.specs import ModelNumbers


def build(
    numbers: ModelNumbers, inputs: tuple[int, ...], outputs: int, generator: torch.Generator, dtype: torch.dtype
) -> torch.nn.Module:
    """The model that `numbers` describe, initialised from `generator`: by PyTorch's default unless they have another
    `initialisation`.

    Args:
        numbers: of the model's kind.
        inputs: shape of one example: (channels, rows, columns), or (vocabulary size, longest sentence).
        outputs: number of outputs.
        generator: CPU generator. No global seed is changed.
        dtype: of the parameters. They are drawn in this dtype, so float32 and float64 models start differently.
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
