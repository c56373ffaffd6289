"""The curvature stage: H, H_o and H_f inside and outside the dominant subspace, from snapshots of θ."""

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
from analysis.store.words import STEP, Words, describe
from analysis.training.probes import Variable
from analysis.training.problem import Problem, device_name, make_problem
from analysis.training.torch_setup import prepare
from sharpflat.curvature.eigensolver import top_eigenspace
from sharpflat.curvature.energy import OPERATORS, energy_decomposition
from sharpflat.curvature.operators import FunctionalHessian, GaussNewton, Hessian
from sharpflat.curvature.spectrum import spectral_density
from sharpflat.curvature.subspace import DominantSubspace
from sharpflat.curvature.symmetric import NonFiniteProductError

if TYPE_CHECKING:
    from analysis.plan.plan import PlannedEnergies

SCHEMA = "energies-1"
GRID = 400  # points of a density
ENERGIES = Words(
    "Energies and spectral densities along a segment of training",
    "Of the Hessian H = H_o + H_f of the loss, of its outer-product part H_o and its functional part H_f, at the "
    "segment's snapshots of theta, on the held-out examples where there are any. U: the k dominant eigenvectors of H.",
)
_OF, _ON = ("operator",), ("operator", "point")
VARIABLES = {
    "energy_dominant": Variable(Words("dominant energy", "|M U|_F^2 of operator M, exact"), _OF),
    "energy_bulk": Variable(Words("bulk energy", "|M (I - U U^T)|_F^2 of operator M, from random vectors"), _OF),
    "energy_bulk_se": Variable(
        Words("standard error of the bulk energy", "from the spread of the random vectors"), _OF
    ),
    "energy_total": Variable(Words("total energy", "|M|_F^2: dominant and bulk energy together"), _OF),
    "fraction_dominant": Variable(
        Words("dominant fraction of the energy", "dominant by total energy; 0 where the total is 0"), _OF
    ),
    "fraction_dominant_se": Variable(
        Words("standard error of the dominant fraction", "that of the bulk energy, carried over to first order"), _OF
    ),
    "trace_dominant": Variable(Words("dominant trace", "tr(U^T M U) of operator M, exact"), _OF),
    "trace_bulk": Variable(Words("bulk trace", "tr(M (I - U U^T)) of operator M, from random vectors"), _OF),
    "trace_bulk_se": Variable(Words("standard error of the bulk trace", "from the spread of the random vectors"), _OF),
    "dominant_eigenvalues": Variable(Words("dominant eigenvalues", "the k largest of H, descending"), ("rank",)),
    "dominant_residual": Variable(
        Words("residual of the dominant eigenpairs", "largest norm of H u - lambda u among these eigenpairs")
    ),
    "dominant_converged": Variable(
        Words("eigensolver converged", "1: the eigensolver reached its tolerance; 0: it did not"), dtype="int64"
    ),
    "density": Variable(
        Words(
            "spectral density",
            "smoothed density of the operator's eigenvalues; its integral over density_eigenvalue is 1",
        ),
        _ON,
    ),
    "density_se": Variable(
        Words("standard error of the spectral density", "from the spread of the random vectors"), _ON
    ),
    "density_eigenvalue": Variable(Words("eigenvalue", "where on the axis of eigenvalues density is given"), _ON),
    "density_width": Variable(
        Words("width of the smoothing", "standard deviation of the Gaussian that stands for each eigenvalue"), _OF
    ),
    "energy_products": Variable(
        Words("Hessian products", "used at this snapshot; a product with all three operators counts three"),
        dtype="int64",
    ),
}
COORDINATES = {
    "snapshot_step": STEP,
    "operator": Words("operator", "H: the Hessian; H_o: its outer-product part; H_f: its functional part", units=""),
    "rank": Words("rank of the eigenvalue", "1: the largest, which is the sharpness"),
}
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
        energies: the planned energies.
        data: files of the training and the test subset.
        snapshots: file of each segment's snapshots.
        outputs: the output file of each.
        threads: number of torch threads.
        device: as in `analysis.training.torch_setup.prepare`.

    Raises:
        InputError: a file is damaged, an output cannot be written, or there is no such device.
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
        spec: numbers of random vectors and precision. Generators keyed by the step of a snapshot draw its vectors.
        problem: the trained problem, of which only `curvature` is used.
        snapshots: `theta` (snapshot_step, parameter). A snapshot is left out if it, or a product at it, is not finite.

    Returns:
        Along `snapshot_step`: all of `energy_decomposition` (× `operator`); `dominant_eigenvalues` (× `rank`),
        `dominant_residual` and `dominant_converged` of the subspace; `density`, `density_se` and `density_eigenvalue`,
        the grid λ (× `operator` × `point`), with `density_width` σ (× `operator`); and `energy_products`, the Hessian
        products used in total (a joint product of three operators counts three).
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
    specification = json.dumps(spec.model_dump(), sort_keys=True)
    along = xr.Variable("snapshot_step", np.asarray(steps, np.int64))
    whole = xr.concat(rows, along) if rows else _nothing(min(spec.problem.k, problem.curvature.size))
    describe(whole, {name: variable.words for name, variable in VARIABLES.items()} | COORDINATES)
    return whole.assign_attrs(ENERGIES.of_dataset(), schema=SCHEMA, specification=specification)


def _nothing(k: int) -> xr.Dataset:
    """All variables, without snapshots."""
    sizes = {"operator": len(OPERATORS), "point": GRID, "rank": k}
    return xr.Dataset(
        {
            name: (
                ("snapshot_step", *variable.dimensions),
                np.empty((0, *(sizes[d] for d in variable.dimensions)), variable.dtype),
            )
            for name, variable in VARIABLES.items()
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
    """The row of one snapshot, and the block from which the subspace of the next one starts."""
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
    """A separate generator for each snapshot and use, which is the same on every machine."""
    (word,) = np.random.SeedSequence([seed, step, use]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(word) >> 1)
