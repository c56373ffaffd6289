"""The curvature stage: what H, H_o and H_f do within and without the dominant subspace, from snapshots of θ."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from analysis.specs import EnergiesSpec
from analysis.store.netcdf import read_dataset, write_dataset
from analysis.training.problem import Problem, device_name, make_problem
from analysis.training.torch_setup import prepare
from sharpflat.curvature.eigensolver import NonFiniteProductError, top_eigenspace
from sharpflat.curvature.energy import OPERATORS, energy_decomposition
from sharpflat.curvature.operators import FunctionalHessian, GaussNewton, Hessian
from sharpflat.curvature.spectrum import spectral_density
from sharpflat.curvature.subspace import DominantSubspace

if TYPE_CHECKING:
    from analysis.plan.plan import PlannedEnergies

SCHEMA = "energies-1"
GRID = 400  # points of a density
ENERGIES = (  # what `energy_decomposition` gives
    "energy_dominant",
    "energy_bulk",
    "energy_bulk_se",
    "energy_total",
    "fraction_dominant",
    "fraction_dominant_se",
    "trace_dominant",
    "trace_bulk",
    "trace_bulk_se",
)
log = logging.getLogger(__name__)


def measure_energies(
    energies: Sequence[PlannedEnergies],
    *,
    data: Sequence[str],
    snapshots: Sequence[str],
    outputs: Sequence[str],
    threads: int,
    device: str = "cpu",
) -> None:
    """The energies along several segments of the same data, from files to files.

    Args:
        energies: as planned.
        data: files of the training and the test subset.
        snapshots: file of each segment's snapshots.
        outputs: file of each.
        threads: of torch.
        device: as in `analysis.training.torch_setup.prepare`.

    Raises:
        InputError: if a file is damaged, an output cannot be written, or there is no such device.
    """
    on = prepare(device, threads)
    train, test = (read_dataset(Path(path)) for path in data)
    for planned, file, output in zip(energies, snapshots, outputs, strict=True):
        spec, begun = planned.spec, time.monotonic()
        problem = make_problem(spec.problem, train, test, spec.seed, on)
        measured = energies_along(spec, problem, read_dataset(Path(file)))
        seconds = time.monotonic() - begun
        provenance = {
            "fingerprint": planned.fingerprint,
            "device": device_name(problem.curvature.theta),
            "threads": threads,
            "seconds": round(seconds, 2),
            "chunk_halvings": problem.curvature.halvings,
        }
        write_dataset(measured.assign_attrs(id=planned.id), Path(output), provenance)
        log.info("%s: %d snapshots, %.1f s", planned.id, measured.sizes["snapshot_step"], seconds)


def energies_along(spec: EnergiesSpec, problem: Problem, snapshots: xr.Dataset) -> xr.Dataset:
    """Energies and spectral densities at each snapshot, of the Hessian on the held-out examples if there are any.

    Args:
        spec: random vectors and precision. Those of a snapshot come from generators keyed by its step.
        problem: as it was trained; only `curvature` is used.
        snapshots: `theta` (snapshot_step, parameter). Those that are not finite are left out, and those where a
            product is not.

    Returns:
        Along `snapshot_step`: all of `energy_decomposition` (× `operator`); `dominant_eigenvalues` (× `rank`),
        `dominant_residual` and `dominant_converged` of the subspace; `density`, `density_se` and `density_eigenvalue`,
        the grid λ (× `operator` × `point`), with `density_width` σ (× `operator`); `energy_products`, Hessian products
        used in all (a joint product of three operators counts three).
    """
    rows, steps, basis = [], [], None
    for step, values in zip(snapshots.snapshot_step.values, snapshots.theta.values, strict=True):
        theta = torch.from_numpy(values).to(problem.curvature.device)
        if not bool(torch.isfinite(theta).all()):
            continue
        try:
            row, basis = _at(spec, problem, theta, int(step), basis)
        except NonFiniteProductError as error:
            log.warning("%s: snapshot at step %d left out: %s", spec.segment, step, error)
            continue
        rows.append(row)
        steps.append(step)
    attributes = {"schema": SCHEMA, "specification": json.dumps(spec.model_dump(), sort_keys=True)}
    along = xr.Variable("snapshot_step", np.asarray(steps, np.int64))
    whole = xr.concat(rows, along) if rows else _nothing(min(spec.problem.k, problem.curvature.size))
    return whole.assign_attrs(attributes)


def _nothing(k: int) -> xr.Dataset:
    """All variables, of no snapshots."""
    shapes = {
        **{name: ("operator",) for name in (*ENERGIES, "density_width")},
        **{name: ("operator", "point") for name in ("density", "density_se", "density_eigenvalue")},
        "dominant_eigenvalues": ("rank",),
        **{name: () for name in ("dominant_residual", "dominant_converged", "energy_products")},
    }
    sizes = {"operator": len(OPERATORS), "point": GRID, "rank": k}
    integers = ("dominant_converged", "energy_products")
    return xr.Dataset(
        {
            name: (
                ("snapshot_step", *dimensions),
                np.empty((0, *(sizes[d] for d in dimensions)), np.int64 if name in integers else np.float64),
            )
            for name, dimensions in shapes.items()
        },
        coords={
            "snapshot_step": np.empty(0, np.int64),
            "operator": list(OPERATORS),
            "rank": np.arange(1, k + 1),
        },
    )


def _at(
    spec: EnergiesSpec, problem: Problem, theta: Tensor, step: int, basis: Tensor | None
) -> tuple[xr.Dataset, Tensor]:
    """One snapshot's row, and the block that the next one's subspace starts from."""
    objective = problem.curvature
    top = top_eigenspace(Hessian(objective, theta), spec.problem.k, start=basis, tolerance=spec.tolerance)
    subspace = DominantSubspace(top.eigenvectors)
    energies = energy_decomposition(
        objective, theta, subspace, probes=spec.probes, generator=_generator(spec.seed, step, 0)
    )
    densities = [
        spectral_density(
            operator(objective, theta),
            probes=spec.density_probes,
            steps=spec.density_steps,
            generator=_generator(spec.seed, step, 1),  # the same vectors for all three
            grid=GRID,
        )
        for operator in (Hessian, GaussNewton, FunctionalHessian)
    ]
    products = top.products + 3 * energies.attrs["products"] + sum(d.attrs["products"] for d in densities)
    row = energies.drop_attrs().assign(
        dominant_eigenvalues=("rank", top.eigenvalues.double().cpu().numpy()),
        dominant_residual=float(top.residuals.max()),
        dominant_converged=int(top.converged),
        density=(("operator", "point"), np.stack([d.density.values for d in densities])),
        density_se=(("operator", "point"), np.stack([d.density_se.values for d in densities])),
        density_eigenvalue=(("operator", "point"), np.stack([d.eigenvalue.values for d in densities])),
        density_width=("operator", np.array([d.attrs["width"] for d in densities])),
        energy_products=products,
    )
    return row.assign_coords(operator=list(OPERATORS), rank=np.arange(1, len(top.eigenvalues) + 1)), top.start


def _generator(seed: int, step: int, use: int) -> torch.Generator:
    """A generator of its own for each snapshot and use, the same on every machine."""
    (word,) = np.random.SeedSequence([seed, step, use]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(word) >> 1)
