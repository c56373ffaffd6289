"""The common parts of update rules that treat each parameter according to its shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sharpflat.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


class Shaped:
    """A rule of this kind needs the probe `steering`, which calls `steer` before each step."""

    def __init__(self) -> None:
        self.pieces: Callable[[Tensor], list[Tensor]] | None = None

    def steer(self, moment: Any, kept: dict[str, Any]) -> dict[str, float]:
        self.pieces = moment.problem.training.vector.pieces
        return {}

    def shaped(self, flat: Tensor) -> list[Tensor]:
        """A vector [P] as tensors of the parameters' shapes.

        Raises:
            InputError: the segment does not measure `steering`.
        """
        if self.pieces is None:
            kind = type(self).__module__.rpartition(".")[2]
            raise InputError(
                f"{kind} has to know the parameters' shapes: let the segment measure steering, at each step"
            )
        return self.pieces(flat)
