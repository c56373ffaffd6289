"""The mean over examples: one loss for each example, and the number by which their sum is divided."""

from __future__ import annotations

import functools
from collections.abc import Callable
from math import isfinite
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sharpflat.curvature.data import Examples, Stream, Tree, tensors_of
from sharpflat.errors import InputError
from sharpflat.losses import PerExampleLoss, cross_entropy, per_example_loss

if TYPE_CHECKING:
    Data = Examples | Stream

_IGNORED = -100  # the index that torch's cross-entropy leaves out by default


class Mean:
    """Σ_i ℓ_i / c, where c is the number of examples unless another number is given.

    Attributes:
        loss: `loss(outputs, targets) -> [N]`.
        denominator: c over all data; set by `bind`.
    """

    def __init__(self, loss: str | PerExampleLoss, count: float | None, ignore_index: int | None) -> None:
        """Does not evaluate the loss.

        Raises:
            InputError: The loss is unknown, the count is not positive and finite, `ignore_index` is given without
                "cross_entropy", or class weights are given without `count`.
        """
        if not isinstance(loss, str) and not callable(loss):
            raise InputError(f"loss must be a name or a function loss(outputs, targets) -> [N], not {loss!r}")
        if count is not None and not (_is_number(count) and count > 0):
            raise InputError(f"count must be a positive, finite number, not {count!r}")
        if ignore_index is not None and (loss != "cross_entropy" or not isinstance(ignore_index, int)):
            raise InputError(
                'ignore_index must be an integer and works only with the loss "cross_entropy"; in a loss of your own, '
                "return 0 for the examples to leave out, and pass count="
            )
        self._named = isinstance(loss, str)
        self.loss: PerExampleLoss = per_example_loss(loss) if isinstance(loss, str) else loss
        if ignore_index is not None:
            self.loss = functools.partial(cross_entropy, ignore_index=ignore_index)
        self._count, self._ignore_index = count, ignore_index
        seen = _option(self.loss, "ignore_index")
        self._left_out = sorted({_IGNORED} | ({seen} if isinstance(seen, int) else set()))
        if count is None and isinstance(_option(self.loss, "weight"), Tensor):
            raise InputError(
                "the loss has class weights: torch's mean divides by the sum of the examples' weights, not by their "
                "number; pass that sum as count=, or count=N for the plain mean"
            )
        self.denominator: float = 1

    @staticmethod
    def checked_decay(weight_decay: float) -> float:
        """Returns the weight decay if it is a finite number of at least 0.

        Raises:
            InputError: The weight decay is not such a number.
        """
        if not _is_number(weight_decay) or weight_decay < 0:
            raise InputError(f"weight_decay must be a finite number of at least 0, not {weight_decay!r}")
        return weight_decay

    def bind(self, data: Data) -> None:
        """Computes the denominator from all data.

        Raises:
            InputError: There are targets of −100, or of another index that a torch loss ignores, without `ignore_index`
                or `count`, or all targets are ignored.
        """
        self._total = data.count
        self.denominator = self._sum_of(data) if self._count is None else self._count

    def of(self, part: Examples) -> float:
        """The denominator of a part of the examples.

        Raises:
            InputError: The part has no examples.
        """
        if part.count == 0:
            raise InputError("need at least one example: the indices select none")
        if self._count is not None:
            return self._count * part.count / self._total
        # Without an index to ignore, all data were checked once. Checking each minibatch would wait for the device.
        return part.count if self._ignore_index is None else self._sum_of(part)

    def _sum_of(self, data: Data) -> int:
        if isinstance(data, Examples):
            kept = self._not_ignored(data.targets, data.count)
        else:
            pairs = data.pieces(data.count)
            kept = sum(self._not_ignored(targets, len(tensors_of(targets)[0])) for _, targets in pairs)
        if kept == 0:
            raise InputError(f"all targets are {self._ignore_index}, the ignore_index: there is nothing to average")
        return kept

    def _not_ignored(self, targets: Tree, count: int) -> int:
        integers = [t for t in tensors_of(targets) if not t.is_floating_point() and not t.is_complex()]
        if self._ignore_index is not None:
            return int((integers[0] != self._ignore_index).sum()) if integers else count
        for index in self._left_out:
            if any(bool((t == index).any()) for t in integers if (t.dtype.is_signed or index >= 0) and not t.is_meta):
                raise InputError(
                    f"targets hold {index}, which torch's cross-entropy leaves out of the sum and of the mean: pass "
                    f'ignore_index={index} with the loss "cross_entropy", or count= (the number by which the sum of '
                    "all losses is divided) with a loss of your own"
                )
        return count

    def losses(self, outputs: Any, targets: Tree) -> Tensor:
        """The loss of each example, [N].

        Raises:
            InputError: The loss is not one real number per example, or the outputs are not a tensor.
        """
        if self._named and not isinstance(outputs, Tensor):
            raise InputError(no_tensor(outputs))
        losses = self.loss(outputs, targets)
        shape = tensors_of(targets)[0].shape[:1]
        if not isinstance(losses, Tensor):
            raise InputError(f"the loss must return a tensor, one value per example, not a {type(losses).__name__}")
        if losses.shape != shape:
            raise InputError(
                f"the loss must return one value per example, shape {list(shape)}, not {list(losses.shape)}"
            )
        if losses.is_complex():
            raise InputError("the loss must return real numbers, not complex ones")
        return losses


def no_tensor(outputs: object) -> str:
    """The message about a model that does not return a tensor."""
    return (
        f"the model returns a {type(outputs).__name__}, not a tensor: say which part is its output, as in "
        "output=lambda out: out.logits (or out[0])"
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _option(loss: Callable[..., Any], name: str) -> Any:
    """An option of a torch loss, as far as it can be seen; None if it cannot."""
    if isinstance(loss, nn.CrossEntropyLoss | nn.NLLLoss):
        return getattr(loss, name)
    if isinstance(loss, functools.partial):
        return loss.keywords.get(name) if loss.func in _TORCHS else _option(loss.func, name)
    return None


_TORCHS = (torch.nn.functional.cross_entropy, torch.nn.functional.nll_loss)
