"""Effective learning rates of the updates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from analysis.specs import Positive, ProbeNumbers
from analysis.specs.kinds import Measurement
from analysis.store.words import Words
from analysis.training.probes import BaseProbe, Moment, Row, Variable

if TYPE_CHECKING:
    from torch import Tensor


class Numbers(ProbeNumbers):
    """`tolerance` is the largest residual of the eigenvectors, relative to λ_k.

    It must be tight. If a gradient lies in the bulk except for χ_k = 1e-3, then a subspace with an error of 1e-2 gives
    a dominant component that is mostly bulk, and Dom-LR would measure Bulk-LR.
    """

    place = "update"
    tolerance: Annotated[Positive, Field(description="Largest residual of the eigenvectors, relative to λ_k [1]")] = (
        1e-4
    )

    def measurement(self) -> Measurement:
        return Measurement(eigenpairs=1)


class Probe(BaseProbe):
    dimension = "rate_step"
    variables = {
        "dom_lr": Variable(
            Words(
                "effective learning rate in the dominant subspace",
                "-<P g, update> / |P g|^2 of this step's update, g the full-batch gradient, P the projector on the "
                "dominant subspace; plain gradient descent has its learning rate; NaN: P g is 0",
            )
        ),
        "bulk_lr": Variable(
            Words(
                "effective learning rate in the bulk subspace",
                "as dom_lr, with the projector on the complement of the dominant subspace",
            )
        ),
    }

    def measure(self, moment: Moment) -> Row:
        """Computes the dominant subspace to its own tolerance. It starts from the spectrum's block."""
        from sharpflat.curvature.subspace import DominantSubspace

        k, start = moment.spec.problem.k, self.kept.get("start")
        if moment.found is not None:
            start = moment.found.start[:, : k + 2].contiguous()
        found = moment.top_eigenspace(k, start, self.numbers.tolerance)
        self.kept["start"] = found.start.contiguous()
        moment.count("unconverged_rates", int(not found.converged))
        self.dominant = DominantSubspace(found.eigenvectors)
        return {}

    def updated(self, moment: Moment, update: Tensor) -> Row:
        from sharpflat.optim.effective import effective_learning_rates

        dom_lr, bulk_lr = effective_learning_rates(update, gradient=moment.gradient, subspace=self.dominant)
        return {"dom_lr": dom_lr, "bulk_lr": bulk_lr}
