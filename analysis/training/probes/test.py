"""Loss and accuracy on the test split."""

from __future__ import annotations

from analysis.specs import ProbeNumbers
from analysis.specs.kinds import Measurement
from analysis.store.words import Words
from analysis.training.probes import BaseProbe, Moment, Row, Variable


class Numbers(ProbeNumbers):
    everywhere = True

    def measurement(self) -> Measurement:
        return Measurement(gradient=False, tests=1)


class Probe(BaseProbe):
    dimension = "test_step"
    variables = {
        "test_loss": Variable(Words("test loss", "loss at theta, mean over the examples of the test split")),
        "test_accuracy": Variable(Words("test accuracy", "fraction of the test split that is classified correctly")),
    }

    def measure(self, moment: Moment) -> Row:
        return {
            "test_loss": float(moment.problem.test.value(moment.theta)),
            "test_accuracy": moment.problem.test_accuracy(moment.theta),
        }
