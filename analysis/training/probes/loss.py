"""The training loss, and other results of one evaluation of the full batch."""

from __future__ import annotations

from analysis.specs import ProbeNumbers
from analysis.store.words import Words
from analysis.training.probes import BaseProbe, Moment, Row, Variable, finite


class Numbers(ProbeNumbers):
    everywhere = True


class Probe(BaseProbe):
    """Training ends as diverged if one of these numbers is not finite."""

    dimension = "step"
    variables = {
        "loss": Variable(Words("training loss", "L(theta), mean over all training examples")),
        "gradient_norm": Variable(Words("norm of the gradient", "Euclidean norm of the full-batch gradient of L")),
        "distance": Variable(
            Words("distance from the segment's start", "Euclidean norm of theta minus theta at the first step here")
        ),
    }

    def measure(self, moment: Moment) -> Row:
        import torch

        from sharpflat.curvature.inner import norms

        value, gradient = moment.value_and_gradient()
        numbers = torch.stack([value.double(), norms(gradient), norms(moment.theta - moment.start)])
        loss, norm, distance = numbers.tolist()  # all at once: each would wait for the device
        return {
            "loss": finite(loss, "the training loss"),
            "gradient_norm": finite(norm, "the gradient's norm"),
            "distance": finite(distance, "the distance from the start"),
        }
