"""Gives an update rule, before a step, what it cannot know from gradients: shapes, the Hessian, the step."""

from __future__ import annotations

from math import nan

from analysis.specs import ProbeNumbers
from analysis.specs.kinds import Measurement
from analysis.store.words import Words
from analysis.training.probes import BaseProbe, Moment, Row, Variable


class Numbers(ProbeNumbers):
    """Some rules need it at each step (muon, shampoo, weighed)."""

    place = "first"

    def measurement(self) -> Measurement:
        return Measurement(gradient=False)


class Probe(BaseProbe):
    """Calls `steer(moment, kept)` of a rule that has this method. It returns the values that it will use, by name, and
    `kept` survives an interruption."""

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
            InputError: the rule cannot be steered.
        """
        from sharpflat.errors import InputError

        steer = getattr(moment.rule, "steer", None)
        if steer is None:
            raise InputError(
                f"the probe steering is only for rules with a method `steer`; {moment.spec.rule.kind} has none"
            )
        return dict.fromkeys(self.variables, nan) | steer(moment, self.kept)
