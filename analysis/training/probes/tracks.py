"""The largest eigenpairs, followed from one measurement to the next by their overlaps."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from analysis.specs import Positive, ProbeNumbers, Several
from analysis.specs.kinds import Measurement
from analysis.store.words import Words
from analysis.training.probes import BaseProbe, Moment, Row, Variable


class Numbers(ProbeNumbers):
    """`pairs` is the number of eigenpairs to follow. `tolerance` is their largest residual, relative to the smallest of
    them."""

    pairs: Annotated[Several, Field(description="Number of eigenpairs [eigenpairs]")] = 20
    tolerance: Annotated[
        Positive, Field(description="Largest residual of the eigenpairs, relative to the smallest eigenvalue [1]")
    ] = 1e-2

    def measurement(self) -> Measurement:
        return Measurement(gradient=False, eigenpairs=2)


class Probe(BaseProbe):
    """Row i and column j of the overlaps is |⟨u_i now, u_j at the previous measurement⟩|². It is NaN at the segment's
    first measurement."""

    dimension = "track_step"
    variables = {
        "track_eigenvalues": Variable(
            Words("eigenvalues of the Hessian", "largest eigenvalues of the loss Hessian, descending"), ("track",)
        ),
        "track_overlaps": Variable(
            Words("overlaps", "squared cosines between these eigenvectors and those of the measurement before"),
            ("track", "track_before"),
        ),
    }

    coordinates = {
        "track": Words("rank of the eigenpair", "1: that of the largest eigenvalue"),
        "track_before": Words("rank at the measurement before", "1: that of the largest eigenvalue"),
    }

    def lengths(self, k: int, parameters: int) -> dict[str, int]:
        pairs = min(self.numbers.pairs, parameters)
        return {"track": pairs, "track_before": pairs}

    def measure(self, moment: Moment) -> Row:
        import torch

        from sharpflat.curvature.inner import inner_products

        found = moment.top_eigenspace(self.numbers.pairs, self.kept.get("start"), self.numbers.tolerance)
        before, vectors = self.kept.get("vectors"), found.eigenvectors.contiguous()
        self.kept |= {"start": found.start.contiguous(), "vectors": vectors}
        if before is None or moment.step == moment.first_step:
            overlaps = torch.full((vectors.shape[1],) * 2, torch.nan)
        else:
            overlaps = inner_products(vectors, before).square()
        return {
            "track_eigenvalues": found.eigenvalues.double().cpu().numpy(),
            "track_overlaps": overlaps.double().cpu().numpy(),
        }
