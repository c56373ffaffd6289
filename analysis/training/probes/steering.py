"""Before a step, what an update rule cannot know from gradients: shapes, the Hessian, the step."""

from __future__ import annotations

from math import nan

from analysis.specs import ProbeNumbers
from analysis.specs.kinds import Measurement
from analysis.store.words import Words
from analysis.training.probes import BaseProbe, Moment, Row, Variable


class Numbers(ProbeNumbers):
    """At each step for rules that want it then (muon, shampoo, weighed)."""

    place = "first"

    def measurement(self) -> Measurement:
        return Measurement(gradient=False)


class Probe(BaseProbe):
    """Calls `steer(moment, kept)` of a rule that has it, which returns what it will use by name; `kept` survives."""

    dimension = "steering_step"
    variables = {
        "steered_sharpness": Variable(
            Words(
                "sharpness in use", "largest eigenvalue of the loss Hessian that the rule goes by; NaN: it goes by none"
            )
        ),
        "steered_rate": Variable(Words("learning rate in use", "NaN: the rule does not change it")),
        "steered_alpha": Variable(Words("weight of the dominant component", "weight in use; NaN: the rule has none")),
        "steered_beta": Variable(Words("weight of the bulk component", "weight in use; NaN: the rule has none")),
    }

    def measure(self, moment: Moment) -> Row:
        """
        Raises:
            InputError: if the rule cannot be steered.
        """
        from sharpflat.errors import InputError

        steer = getattr(moment.rule, "steer", None)
        if steer is None:
            raise InputError(f"the probe steering is for rules that want it; {moment.spec.rule.kind} does not")
        return dict.fromkeys(self.variables, nan) | steer(moment, self.kept)
