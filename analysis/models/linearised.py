"""A model f or, from a point θ_s on, f_c = f_lin + c (f − f_lin), where f_lin is the linearisation of f at θ_s.

At θ_s both have the same outputs, gradients and Gauss–Newton part H_o, and f_c has c times the functional part H_f.
Away from θ_s, f_c has c times all of f's curvature, so H_o changes along f_c too. c = 0 is the linearised model, and
c = 1 is f. A segment that measures `linearisation` is trained with f_c, linearised at its first step, with the probe's
c. Any other segment is trained with f.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from analysis.specs import ModelNumbers, ModelSpec

if TYPE_CHECKING:
    from torch import nn


class Numbers(ModelNumbers):
    """`of` contains the numbers of f, a model for images, including `kind`."""

    kind: Literal["linearised"] = "linearised"
    of: Annotated[ModelSpec, Field(description="The model that is linearised: its kind and numbers")]

    def words(self) -> str:
        return self.of.words()

    def parameter_count(self, inputs: tuple[int, ...], outputs: int) -> int:
        return self.of.parameter_count(inputs, outputs)


def build(numbers: Numbers, inputs: tuple[int, ...], outputs: int) -> nn.Module:
    """f in its wrapper, with the same parameters in the same order."""
    from importlib import import_module

    from analysis.models.modules.linearised import Linearised

    return Linearised(import_module(f"analysis.models.{numbers.of.kind}").build(numbers.of, inputs, outputs))
