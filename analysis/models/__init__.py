"""Models by kind. A kind is a module of this package with its numbers and `build(numbers, inputs, outputs)`; it is
imported by name, so that a new model renames (and retrains) nothing of the others."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from analysis.data.catalogue import describe

if TYPE_CHECKING:
    import torch

    from analysis.specs import ModelNumbers, ProblemSpec


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


def parameter_count(problem: ProblemSpec, vocabulary: int = 0) -> int:
    """P of a problem's model, without building it; for text a lower bound unless the vocabulary's size is given.

    Raises:
        ValueError: if the model and the data, or the model and the loss, do not fit; the message says how.
    """
    info, model, pooling = describe(problem.data.train), problem.model, problem.data.pooling
    toy = model.takes == "toy"
    if toy != (problem.loss == "value"):
        takes = "value" if toy else "mse or cross_entropy"
        raise ValueError(f"the loss of a {model.kind} is {takes}; the setting's is {problem.loss}")
    if info.kind != model.takes:
        raise ValueError(f"a {model.kind} takes {model.takes} data; {problem.data.train} is {info.kind}")
    if toy:
        return model.parameter_count((1,), info.classes)
    if model.takes == "text":
        return model.parameter_count((vocabulary, problem.data.max_length), info.classes)
    channels, rows, columns = (1, *info.shape)[-3:]
    rows, columns = rows // pooling, columns // pooling
    if rows * columns == 0:
        raise ValueError(f"data.pooling averages {pooling} × {pooling} pixels, which leaves nothing of the images")
    return model.parameter_count((channels, rows, columns), info.classes)
