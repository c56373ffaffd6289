"""Made-up runs for tests of what is drawn, judged and reported."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import numpy as np
import xarray as xr

P = ParamSpec("P")
T = TypeVar("T")


def remembered(make: Callable[P, T]) -> Callable[P, T]:
    """Made once a session for equal arguments (as they are printed). Nobody changes what is made."""
    made: dict[str, T] = {}

    @wraps(make)
    def given(*args: P.args, **kwargs: P.kwargs) -> T:
        key = repr((args, sorted(kwargs.items())))
        if key not in made:
            made[key] = make(*args, **kwargs)
        return made[key]

    return given


def unknown(one: xr.Dataset) -> xr.Dataset:
    """Not a number was measured."""
    return one.map(lambda v: v * np.nan if v.dtype.kind == "f" else v, keep_attrs=True)


def diverge(one: xr.Dataset) -> xr.Dataset:
    """At the last step."""
    return one.assign_attrs(status="diverged", diverged_at=one.attrs["last_step"])
