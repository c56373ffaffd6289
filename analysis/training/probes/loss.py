"""The training loss and what else one evaluation of the full batch tells."""

from __future__ import annotations

from analysis.specs import ProbeNumbers
from analysis.training.probes import BaseProbe, Moment, Row, Variable, finite


class Numbers(ProbeNumbers):
    everywhere = True


class Probe(BaseProbe):
    """Training ends as diverged where one of these numbers is not finite."""

    dimension = "step"
    variables = {
        "loss": Variable("training loss L on the full batch"),
        "gradient_norm": Variable("norm of the full-batch gradient"),
        "distance": Variable("distance of theta from the segment's start"),
    }

    def measure(self, moment: Moment) -> Row:
        import torch

        value, gradient = moment.value_and_gradient()
        numbers = torch.stack([value, gradient.norm(), (moment.theta - moment.start).norm()])
        loss, norm, distance = numbers.tolist()  # all at once: each would wait for the device
        return {
            "loss": finite(loss, "the training loss"),
            "gradient_norm": finite(norm, "the gradient's norm"),
            "distance": finite(distance, "the distance from the start"),
        }
