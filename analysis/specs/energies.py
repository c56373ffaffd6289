"""What is measured along a trained segment."""

from __future__ import annotations

from analysis.specs.base import Count, Frozen, Positive, Seed, Several
from analysis.specs.problem import ProblemSpec


class EnergiesSpec(Frozen):
    """What the curvature stage makes of a segment's snapshots of θ.

    At each: the dominant subspace, the energies of H, H_o and H_f in it and in the bulk (`probes` random vectors), and
    their spectral densities (`density_probes` vectors, `density_steps` Lanczos steps each).
    """

    problem: ProblemSpec
    segment: str  # whose snapshots
    seed: Seed = 0  # of the random vectors
    probes: Several = 32
    density_probes: Count = 4
    density_steps: Count = 40
    tolerance: Positive = 1e-3  # residuals of the eigenvectors relative to λ_k
