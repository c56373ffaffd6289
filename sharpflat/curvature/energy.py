"""How much of each operator acts in the dominant subspace of the loss Hessian, and how much in the bulk."""

from __future__ import annotations

import math

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from sharpflat.arguments import check_counts, cpu_generator
from sharpflat.curvature.modes import without_autocast
from sharpflat.curvature.objective import Objective
from sharpflat.curvature.operators import joint_products
from sharpflat.curvature.subspace import DominantSubspace
from sharpflat.errors import InputError

OPERATORS = ("H", "H_o", "H_f")


def energy_decomposition(
    objective: Objective,
    theta: Tensor,
    subspace: DominantSubspace,
    *,
    probes: int = 32,
    generator: torch.Generator | None = None,
) -> xr.Dataset:
    """Energies and traces of H, H_o and H_f in a dominant subspace (exact) and in its complement (estimated).

    With U the subspace's basis and z = P_k^⊥ s for random signs s, E[z zᵀ] = P_k^⊥, so for symmetric M

        energy_dominant = ‖M U‖_F²            energy_bulk = ‖M P_k^⊥‖_F² = E‖M z‖²
        trace_dominant  = tr(Uᵀ M U)          trace_bulk  = tr(P_k^⊥ M)  = E[zᵀ M z]

    The probes are signs rather than Gaussians, because the diagonal of P_k^⊥ M P_k^⊥ then adds no variance. All three
    operators use the same probes, so differences between operators are more certain than each value.

    Args:
        objective: Model, loss and data.
        theta: [P].
        subspace: The dominant subspace, of dimension k.
        probes: Number of random probes. It takes k + probes joint products with the operators.
        generator: CPU generator of the probes. `None` means one with a fixed seed.

    Returns:
        Along `operator` ("H", "H_o", "H_f"): `energy_dominant`, `energy_bulk`, `energy_bulk_se`,
        `energy_total`, `fraction_dominant` (0 where the total is 0), `fraction_dominant_se` (to first
        order), `trace_dominant`, `trace_bulk`, `trace_bulk_se`, all float64. Standard errors (`_se`) are
        exactly 0 where the subspace is the whole space. Attributes: `k`, `probes`, `products`
        (vectors multiplied; each by all three operators).

    Raises:
        InputError: There are fewer than two probes, which would give no standard error, the generator is not a CPU
            generator, or the subspace and θ have different sizes.
    """
    check_counts(at_least=2, probes=probes)  # for a standard error
    if subspace.size != objective.size:
        raise InputError(f"the subspace lies in R^{subspace.size}, theta in R^{objective.size}")
    generator = cpu_generator(generator, _SEED)
    k = subspace.k
    signs = 2 * torch.randint(2, (probes, objective.size), generator=generator, dtype=torch.int8, device="cpu") - 1
    bulk = subspace.project_out(signs.to(device=theta.device, dtype=theta.dtype).T)
    vectors = torch.cat([subspace.basis, bulk], dim=1)
    with without_autocast(theta.device):
        rows = [_decompose(vectors, images, k) for images in joint_products(objective, theta, vectors)]
    return xr.Dataset(
        {name: ("operator", np.array([row[name] for row in rows])) for name in rows[0]},
        coords={"operator": list(OPERATORS)},
        attrs={"k": k, "probes": probes, "products": k + probes},
    )


_SEED = 20240602  # of the probes, if no generator is given


def _decompose(vectors: Tensor, images: Tensor, k: int) -> dict[str, float]:
    """The row of one operator, from U and the probes [P, k + probes] and their images."""
    energies = torch.linalg.vector_norm(images, dim=0, dtype=torch.float64).square().cpu().numpy()
    traces = torch.linalg.vecdot(vectors.double(), images.double(), dim=0).cpu().numpy()
    dominant = float(energies[:k].sum())
    bulk, bulk_se = _mean(energies[k:])
    trace, trace_se = _mean(traces[k:])
    total = dominant + bulk
    square = total * total  # `total**2` raises where it overflows; it may be 0 where the total is not
    return {
        "energy_dominant": dominant,
        "energy_bulk": bulk,
        "energy_bulk_se": bulk_se,
        "energy_total": total,
        "fraction_dominant": dominant / total if total else 0.0,
        "fraction_dominant_se": dominant * bulk_se / square if square else 0.0,
        "trace_dominant": float(traces[:k].sum()),
        "trace_bulk": trace,
        "trace_bulk_se": trace_se,
    }


def _mean(samples: np.ndarray) -> tuple[float, float]:
    """The mean and its standard error."""
    return float(samples.mean()), float(samples.std(ddof=1)) / math.sqrt(len(samples))
