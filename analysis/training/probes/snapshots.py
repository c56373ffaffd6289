"""The parameters themselves, for distances, for the paths of the toys and for the curvature stage."""

from __future__ import annotations

from analysis.specs import ProbeNumbers
from analysis.specs.kinds import Measurement
from analysis.store.words import Words
from analysis.training.probes import BaseProbe, Moment, Row, Variable


class Numbers(ProbeNumbers):
    apart = True

    def measurement(self) -> Measurement:
        return Measurement(gradient=False, stored=1)


class Probe(BaseProbe):
    dimension = "snapshot_step"
    variables = {
        "theta": Variable(
            Words("parameters", "all parameters of the model as one flat vector theta"), ("parameter",), None
        )
    }

    def lengths(self, k: int, parameters: int) -> dict[str, int]:
        return {"parameter": parameters}

    def measure(self, moment: Moment) -> Row:
        return {"theta": moment.theta.cpu().numpy().copy()}
