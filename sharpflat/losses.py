"""The named losses, one value per example, so that any weighting of examples is exact."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from sharpflat.errors import InputError

PerExampleLoss = Callable[[Tensor, Tensor], Tensor]
"""`loss(outputs [N, ...], targets [N, ...]) -> [N]`."""


def mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """Half the squared distance ½‖f(x) − y‖² of each example.

    Args:
        outputs: [N, C] (or any shape that starts with N).
        targets: class indices [N] (integers), which become one-hot vectors, or floats of the shape of `outputs`.

    Returns:
        [N]

    Raises:
        InputError: The shapes of outputs and targets do not fit, or a class index is out of range.
    """
    if not targets.is_floating_point() and targets.ndim == outputs.ndim - 1:
        classes = outputs.shape[-1]
        if classes == 1:
            raise InputError(
                "loss 'mse': integer targets are class indices, but there is one output; give floats: targets.float()"
            )
        try:
            targets = F.one_hot(targets.long(), classes)
        except RuntimeError as error:
            raise InputError(f"loss 'mse': class indices must be 0 to {classes - 1} ({error})") from error
    if targets.shape != outputs.shape:
        raise InputError(
            f"loss 'mse': outputs have shape {list(outputs.shape)}, targets {list(targets.shape)}; "
            "targets must be class indices [N] or floats of the outputs' shape"
        )
    squares = (outputs - targets.to(outputs.dtype)).square()
    return 0.5 * (squares.flatten(1).sum(1) if squares.ndim > 1 else squares)


def cross_entropy(outputs: Tensor, targets: Tensor, ignore_index: int | None = None) -> Tensor:
    """Cross-entropy −log softmax(f(x))_y of each example.

    Args:
        outputs: Logits [N, C].
        targets: Class indices [N] (integers) or probabilities [N, C] (floats).
        ignore_index: Examples with this class index have the loss 0.

    Returns:
        [N]

    Raises:
        InputError: The shapes of outputs and targets do not fit.
    """
    expected = outputs.shape if targets.is_floating_point() else outputs.shape[:-1]
    if outputs.ndim != 2 or targets.shape != expected:
        raise InputError(
            f"loss 'cross_entropy': outputs have shape {list(outputs.shape)}, targets {list(targets.shape)}; "
            "outputs must be logits [N, C], targets class indices [N] or probabilities [N, C]"
        )
    if targets.is_floating_point():
        return -(targets.to(outputs.dtype) * F.log_softmax(outputs, dim=1)).sum(1)
    try:
        if ignore_index is not None:
            return F.cross_entropy(outputs, targets.long(), reduction="none", ignore_index=ignore_index)
        return F.cross_entropy(outputs, targets.long(), reduction="none")
    except IndexError as error:
        raise InputError(
            f"loss 'cross_entropy': class indices must be 0 to {outputs.shape[1] - 1} ({error})"
        ) from error


def value(outputs: Tensor, targets: Tensor) -> Tensor:
    """The output itself, for models that compute each example's loss (toys).

    Args:
        outputs: [N, 1].
        targets: [N], ignored.

    Returns:
        [N]

    Raises:
        InputError: The outputs are not one number per example.
    """
    if outputs.ndim != 2 or outputs.shape[1] != 1:
        raise InputError(f"loss 'value': outputs have shape {list(outputs.shape)}; they must have shape [N, 1]")
    return outputs[:, 0]


_LOSSES: dict[str, PerExampleLoss] = {"cross_entropy": cross_entropy, "mse": mse, "value": value}


def per_example_loss(name: str) -> PerExampleLoss:
    """The loss of that name, as a function `loss(outputs, targets) -> [N]`.

    Raises:
        InputError: There is no loss of that name.
    """
    if name not in _LOSSES:
        raise InputError(f"unknown loss {name!r}; allowed: {', '.join(sorted(_LOSSES))}, or a function")
    return _LOSSES[name]
