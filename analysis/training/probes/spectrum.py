"""The largest 2k eigenvalues of the Hessian, and how gradient and update lie in the dominant subspace."""

from __future__ import annotations

from math import nan
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from analysis.specs import Positive, ProbeNumbers
from analysis.specs.base import Decay
from analysis.specs.kinds import Measurement
from analysis.store.words import Words
from analysis.training.probes import BaseProbe, Moment, Row, Variable, finite

if TYPE_CHECKING:
    from torch import Tensor


class Numbers(ProbeNumbers):
    """`tolerance` is the largest residual of the first k + 1 eigenpairs, relative to λ_(k+1), for χ_k and λ_k/λ_(k+1).
    `next_tolerance` is that of the others up to 2k, relative to λ_1. They are only drawn, and λ_1 is the height of the
    plot.

    Both tolerances are at the limit of what is visible in a plot (docs/benchmarks/spectrum.md).
    """

    everywhere = True
    place = "first"
    tolerance: Annotated[
        Positive, Field(description="Largest residual of the first k + 1 eigenpairs, relative to λ_(k+1) [1]")
    ] = 0.05
    next_tolerance: Annotated[
        Positive, Field(description="Largest residual of the others up to 2k, relative to λ_1 [1]")
    ] = 0.01
    ema_factor: Annotated[Decay, Field(description="Decay of the alignment's moving average, per measurement [1]")] = (
        0.9
    )

    def measurement(self) -> Measurement:
        return Measurement(eigenpairs=2)


class Probe(BaseProbe):
    """The EMA begins at 0, so that it takes about thirty aligned measurements to pass 0.95, rather than one."""

    dimension = "spectrum_step"
    variables = {
        "eigenvalues": Variable(
            Words(
                "eigenvalues of the Hessian",
                "largest eigenvalues of the Hessian of L, descending; on the held-out examples where there are any",
            ),
            ("index",),
        ),
        "residual": Variable(
            Words("residual of the eigenpairs", "largest norm of H u - lambda u among these eigenpairs")
        ),
        "converged": Variable(
            Words("eigensolver converged", "1: the eigensolver reached its tolerances; 0: it did not"), dtype="int64"
        ),
        "alignment": Variable(
            Words(
                "alignment of the gradient",
                "chi_k = |P g| / |g| of the full-batch gradient g, P the projector on the dominant subspace",
            )
        ),
        "alignment_ema": Variable(
            Words(
                "moving average of the alignment", "exponential moving average of alignment over measurements, from 0"
            )
        ),
        "update_alignment": Variable(
            Words("alignment of the update", "chi_k of the update made at this step; NaN: none was made")
        ),
        "stability_threshold": Variable(
            Words("stability threshold", "sharpness beyond which the update rule is unstable; NaN: not known")
        ),
        "probe_products": Variable(
            Words("Hessian products of the probes", "used by the probes of this segment up to this step"), dtype="int64"
        ),
        "filter_products": Variable(
            Words("Hessian products of the filter", "used by the subspace filter of this segment up to this step"),
            dtype="int64",
        ),
    }
    coordinates = {"index": Words("rank of the eigenvalue", "1: the largest, which is the sharpness")}

    def lengths(self, k: int, parameters: int) -> dict[str, int]:
        return {"index": min(2 * k, parameters)}

    def measure(self, moment: Moment) -> Row:
        from sharpflat.curvature.inner import norms
        from sharpflat.curvature.subspace import DominantSubspace

        gradient = moment.gradient
        norm = finite(norms(gradient), "the gradient's norm")
        k = moment.spec.problem.k
        found = moment.top_eigenspace(
            k + 1,
            self.kept.get("start"),
            self.numbers.tolerance,
            beyond=k - 1,
            beyond_tolerance=self.numbers.next_tolerance,
        )
        self.kept["start"] = found.start.contiguous()
        moment.found = found
        self.dominant = DominantSubspace(found.eigenvectors[:, :k])
        alignment = float(self.dominant.alignment(gradient))
        average = self.kept.setdefault("alignment_ema", 0.0)
        # A segment's first measurement is its parent's last one, so it enters the average only once.
        if moment.step != moment.first_step or moment.spec.parent is None:
            factor = self.numbers.ema_factor
            average = factor * average + (1 - factor) * alignment
            self.kept["alignment_ema"] = average
        return {
            "eigenvalues": found.eigenvalues.double().cpu().numpy(),
            "residual": float(found.residuals.max()),
            "converged": int(found.converged),
            "alignment": alignment,
            "alignment_ema": average,
            "update_alignment": nan,
            "stability_threshold": moment.rule.stability_threshold(norm),
            "probe_products": moment.counters["probe_products"],
            "filter_products": moment.counters["filter_products"],
        }

    def updated(self, moment: Moment, update: Tensor) -> Row:
        return {"update_alignment": float(self.dominant.alignment(update))}
