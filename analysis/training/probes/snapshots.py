"""The parameters themselves, for distances, toys' paths and the curvature stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.specs import ProbeNumbers
from analysis.specs.kinds import Measurement
from analysis.training.probes import BaseProbe, Moment, Row, Variable

if TYPE_CHECKING:
    from analysis.training.problem import Problem


class Numbers(ProbeNumbers):
    apart = True

    def measurement(self) -> Measurement:
        return Measurement(gradient=False, stored=1)


class Probe(BaseProbe):
    dimension = "snapshot_step"
    variables = {"theta": Variable("parameters", ("parameter",), dtype=None)}

    def lengths(self, problem: Problem) -> dict[str, int]:
        return {"parameter": problem.training.theta.numel()}

    def measure(self, moment: Moment) -> Row:
        return {"theta": moment.theta.cpu().numpy().copy()}
