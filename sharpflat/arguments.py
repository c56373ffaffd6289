"""Checks of arguments that several functions share."""

from __future__ import annotations

import copy
import operator
from math import inf
from types import FunctionType
from typing import Any, Self, TypeVar

import torch

from sharpflat.errors import InputError


def check_counts(*, at_least: int = 1, **counts: int | None) -> None:
    """Refuses a count that is too small or is not an integer. None stands for a default and passes.

    Raises:
        InputError: Names the first wrong argument.
    """
    for name, count in counts.items():
        if count is None:
            continue
        try:
            fits = operator.index(count) >= at_least
        except TypeError:
            fits = False
        if not fits:
            raise InputError(f"{name} must be an integer of at least {at_least}, not {count!r}")


def check_tolerance(tolerance: float, name: str = "tolerance") -> None:
    """Refuses a tolerance that is negative, infinite or not a number.

    Raises:
        InputError: Says what was found.
    """
    try:
        fits = bool(0 <= tolerance < inf)
    except (TypeError, ValueError, RuntimeError):
        fits = False
    if not fits:
        raise InputError(f"{name} must be a finite number of at least 0, not {tolerance!r}")


def cpu_generator(generator: torch.Generator | None, seed: int) -> torch.Generator:
    """The generator, or a new one with this seed.

    Raises:
        InputError: It is not a CPU generator. (Random vectors are drawn on the CPU, so that every device has the same.)
    """
    if generator is None:
        return torch.Generator().manual_seed(seed)
    if generator.device.type != "cpu":
        raise InputError("generator must be a CPU generator: torch.Generator()")
    return generator


def check_picklable(name: str, value: object) -> None:
    """Refuses to pickle a function that pickle cannot find by its name.

    Raises:
        InputError: It is a lambda, or it is defined inside another function.
    """
    function = getattr(value, "func", value)  # of a functools.partial
    where = function.__qualname__ if isinstance(function, FunctionType) else ""
    if "<lambda>" in where or "<locals>" in where:
        raise InputError(
            f"{name} cannot be pickled: it is a lambda or a function defined inside another one ({where}). Pass a "
            "function of a module, a functools.partial of one or, as curvature, an Objective; or save state_dict() "
            "instead"
        )


Made = TypeVar("Made")


class NamedWhenPickled:
    """An object that can be copied as usual, and whose pickling fails with the name of the function at fault."""

    def functions(self) -> dict[str, object]:
        """The functions among its attributes, by the name of the argument that passed them."""
        raise NotImplementedError

    def __reduce_ex__(self, protocol: Any) -> Any:
        for name, function in self.functions().items():
            check_picklable(name, function)
        return super().__reduce_ex__(protocol)

    def __copy__(self) -> Self:
        return self._made_of(type(self).__new__(type(self)), self.__getstate__())

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        made = type(self).__new__(type(self))
        memo[id(self)] = made
        return self._made_of(made, copy.deepcopy(self.__getstate__(), memo))

    @staticmethod
    def _made_of(made: Made, state: Any) -> Made:
        if hasattr(made, "__setstate__"):
            made.__setstate__(state)
        else:
            made.__dict__.update(state)
        return made
