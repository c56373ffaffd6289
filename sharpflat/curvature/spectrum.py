"""The density of an operator's eigenvalues, by stochastic Lanczos quadrature."""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from sharpflat.arguments import check_counts, cpu_generator
from sharpflat.curvature.inner import inner_products, norms
from sharpflat.curvature.modes import without_autocast
from sharpflat.curvature.symmetric import SymmetricOperator, check_finite, check_operator, report_asymmetry
from sharpflat.errors import InputError

_BASIS_BYTES = 512 << 20
_SEED = 20240603  # of the probes, if no generator is given


def spectral_density(
    operator: SymmetricOperator,
    *,
    probes: int = 8,
    steps: int = 80,
    generator: torch.Generator | None = None,
    grid: int = 1000,
    width: float | None = None,
) -> xr.Dataset:
    """The spectral density φ(λ) = 1/P Σ_i N(λ; λ_i, σ²), by stochastic Lanczos quadrature.

    After m Lanczos steps, each random unit probe v gives m nodes and weights. They integrate polynomials up to
    degree 2m − 1 exactly against v's spectral measure, and the mean over probes estimates the density (Ghorbani,
    Krishnan, Xiao 2019, Algorithm 2). Probes advance together in blocks of products, as many as keep the Lanczos
    vectors within 512 MiB.

    Args:
        operator: Symmetric, with `size`, `dtype`, `device`, `matmat`.
        probes: Number of random probes.
        steps: Number m of Lanczos steps for each probe, with full reorthogonalisation. At most P are made.
        generator: CPU generator of the probes. `None` means one with a fixed seed.
        grid: Number of points λ. They are spread evenly over the range of the nodes and 5 σ beyond it.
        width: σ of the Gaussian that replaces each eigenvalue. `None` means a hundredth of the range of the nodes, or
            a thousandth of the largest one in magnitude if their range is only rounding errors.

    Returns:
        `density` and its standard error `density_se` (NaN for one probe) along `eigenvalue` (the grid), and the
        quadrature itself: `nodes` and `weights` along (probe, step). The weights of a probe sum to 1, and a probe
        that ended early is padded with weight 0. Attributes: `width`, `products`.

    Raises:
        InputError: `operator` lacks an attribute or is not symmetric, `probes`, `steps` or `grid` is less than 1, the
            generator is not a CPU generator, or the width is not positive and finite, or less than the distance of the
            grid's points (which could then miss a peak), or rounding errors of the eigenvalues are as large as that
            distance.
        NonFiniteProductError: A product is not finite.
    """
    check_operator(operator)
    check_counts(probes=probes, steps=steps, grid=grid)
    if width is not None and not 0 < width < float("inf"):
        raise InputError(f"width must be positive and finite, not {width!r}")
    generator = cpu_generator(generator, _SEED)
    start = torch.randn(probes, operator.size, dtype=torch.float64, generator=generator, device="cpu")
    start = start.to(device=operator.device, dtype=operator.dtype)
    steps = min(steps, operator.size)
    together = max(1, _BASIS_BYTES // (steps * operator.size * start.element_size()))
    alphas, betas = np.zeros((probes, steps)), np.zeros((probes, steps))
    products = 0
    for i in range(0, probes, together):
        with without_autocast(operator.device):
            products = _lanczos(
                operator, start[i : i + together], alphas[i : i + together], betas[i : i + together], products
            )

    nodes, weights = np.zeros_like(alphas), np.zeros_like(alphas)
    for p, (alpha, beta) in enumerate(zip(alphas, betas, strict=True)):
        ends = np.flatnonzero(beta[:-1] == 0)  # the probe's Krylov space is exhausted there
        m = int(ends[0]) + 1 if len(ends) else len(alpha)
        off = np.diag(beta[: m - 1], 1)
        values, vectors = np.linalg.eigh(np.diag(alpha[:m]) + off + off.T)
        nodes[p, :m], weights[p, :m] = values, vectors[0] ** 2
        nodes[p, m:] = values[-1]

    scale, extent = float(np.abs(nodes).max()), nodes.max() - nodes.min()
    if width is None:
        rounding = max(20 * torch.finfo(operator.dtype).eps, 1e-10) * scale
        width = extent / 100 if extent > rounding else 1e-3 * scale or 1e-3
    span = extent + 10 * width
    if (grid - 1) * width < span:
        raise InputError(
            f"{grid} points (grid) are too few for eigenvalues smoothed by {width:.3g} (width) over a range of "
            f"{span:.3g}: give at least {int(np.ceil(span / width)) + 1}, or a larger width"
        )
    if span < 100 * np.finfo(float).eps * scale * (grid - 1):
        raise InputError(
            f"the points of the grid are closer than rounding errors of eigenvalues of {scale:.3g}: give a larger "
            f"width (not {width:.3g}) or a smaller grid"
        )
    points = np.linspace(nodes.min() - 5 * width, nodes.max() + 5 * width, grid)
    densities = np.stack([_smooth(points, n, w, width) for n, w in zip(nodes, weights, strict=True)])
    error = densities.std(axis=0, ddof=1) / np.sqrt(probes) if probes > 1 else np.full(grid, np.nan)
    return xr.Dataset(
        {
            "density": ("eigenvalue", densities.mean(axis=0)),
            "density_se": ("eigenvalue", error),
            "nodes": (("probe", "step"), nodes),
            "weights": (("probe", "step"), weights),
        },
        coords={"eigenvalue": points},
        attrs={"width": float(width), "products": products},
    )


def _lanczos(operator: SymmetricOperator, start: Tensor, alphas: np.ndarray, betas: np.ndarray, products: int) -> int:
    """Lanczos from each row of `start` [K, P]; returns the products used so far, on top of `products`.

    Writes diagonals and off-diagonals into `alphas` and `betas` [K, steps]. An off-diagonal of exactly 0 marks the
    end of a row's Krylov space.
    """
    count, steps = alphas.shape
    eps = torch.finfo(operator.dtype).eps
    basis = start.new_zeros(count, steps, operator.size)
    current = start / norms(start.T).to(start)[:, None]
    scale = torch.zeros(count, dtype=torch.float64, device="cpu")
    asymmetry = 0.0
    for j in range(steps):
        basis[:, j] = current
        images = operator.matmat(current.T).T
        sizes = norms(images.T).cpu()
        check_finite(sizes, images, products)
        products += count
        scale = torch.maximum(scale, sizes)
        alphas[:, j] = inner_products(current.T, images.T).diagonal().cpu().numpy()
        if j:  # ⟨v_0, A v_j⟩ = ⟨A v_0, v_j⟩, which is the first off-diagonal, or 0
            back = inner_products(basis[:, 0].T, images.T).diagonal().cpu().numpy()
            asymmetry = max(asymmetry, float(np.abs(back - betas[:, 0] * (j == 1)).max()))
        made = basis[:, : j + 1]
        for _ in range(2):  # full reorthogonalisation, twice; otherwise copies of the outliers appear
            images = images - (made.transpose(1, 2) @ (made @ images[:, :, None])).squeeze(2)
        left = norms(images.T).cpu()
        left = torch.where(left > 10 * eps * scale, left, 0.0)
        betas[:, j] = left.numpy()
        if not bool((left > 0).any()):
            break
        current = images / torch.where(left > 0, left, torch.inf).to(images)[:, None]
    report_asymmetry(operator, asymmetry, float(scale.max()))
    return products


def _smooth(points: np.ndarray, nodes: np.ndarray, weights: np.ndarray, width: float) -> np.ndarray:
    """Σ_j w_j N(x; node_j, width²) at the points."""
    z = (points[:, None] - nodes[None, :]) / width
    density: np.ndarray = (np.exp(-0.5 * z**2) @ weights) / (width * np.sqrt(2 * np.pi))
    return density
