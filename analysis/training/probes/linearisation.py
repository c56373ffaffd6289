"""An intervention: at the segment's first step, it switches the model `linearised` to f_c, linearised at that point."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from analysis.specs import ProbeNumbers, Real
from analysis.specs.kinds import Measurement
from analysis.store.words import Words
from analysis.training.probes import BaseProbe, Moment, Row, Variable


class Numbers(ProbeNumbers):
    """`scale` is c. It acts before each step, since a segment may continue from a checkpoint."""

    place = "first"
    every: Annotated[Literal[1], Field(description="Interval between measurements [steps]")] = 1
    scale: Annotated[Real, Field(description="c of the model f_lin + c (f − f_lin) [1]")]

    def measurement(self) -> Measurement:
        return Measurement(gradient=False)


class Probe(BaseProbe):
    """Its kind comes before all others that need the model, because the order is alphabetical."""

    dimension = "linearisation_step"
    variables = {
        "linearisation_scale": Variable(Words("scale of the nonlinear part", "c of the model f_lin + c (f - f_lin)"))
    }

    def measure(self, moment: Moment) -> Row:
        """
        Raises:
            InputError: the model is not of kind `linearised`.
        """
        from analysis.models.modules.linearised import Linearised
        from sharpflat.errors import InputError

        objective = moment.problem.training
        if not isinstance(objective.model, Linearised):
            raise InputError("the probe linearisation needs a model of kind linearised")
        if objective.model.at is None:
            objective.model.about(objective.vector.pieces(moment.start), self.numbers.scale)
        return {"linearisation_scale": self.numbers.scale}
