"""The types of the numbers in specifications and configurations."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError


def _number(value: object) -> object:
    """Accepts `1e-3`, which YAML reads as a string, as a number. Refuses `yes`, which is not a number."""
    if isinstance(value, bool):
        raise PydanticCustomError("number", "Input should be a valid number")
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


Real = Annotated[float, Field(allow_inf_nan=False), BeforeValidator(_number)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False), BeforeValidator(_number)]
LARGEST = 2**31 - 1  # the largest count, more than any machine has memory or time for
Count = Annotated[int, Field(ge=1, le=LARGEST, strict=True)]
Several = Annotated[int, Field(ge=2, le=LARGEST, strict=True)]
Size = Annotated[int, Field(ge=0, le=LARGEST, strict=True)]
Layers = Annotated[int, Field(ge=1, le=1000, strict=True)]
Seed = Annotated[int, Field(ge=0, lt=2**32, strict=True)]
Fraction = Annotated[float, Field(ge=0, le=1), BeforeValidator(_number)]
Share = Annotated[float, Field(gt=0, lt=1), BeforeValidator(_number)]
Decay = Annotated[float, Field(ge=0, lt=1), BeforeValidator(_number)]  # of a moving average


class Frozen(BaseModel):
    """A model with immutable values that forbids unknown names."""

    model_config = ConfigDict(extra="forbid", frozen=True)
