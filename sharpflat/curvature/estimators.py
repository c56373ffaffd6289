"""The trace and the diagonal of an operator, estimated from random signs, with standard errors (Hutchinson)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sharpflat.arguments import check_counts, cpu_generator
from sharpflat.curvature.inner import inner_products, norms
from sharpflat.curvature.modes import without_autocast
from sharpflat.curvature.symmetric import SymmetricOperator, check_finite, check_operator, report_asymmetry

_SEED = 20240605  # of the probes, if no generator is given
_TOGETHER = 8


@dataclass(frozen=True)
class Estimate:
    """A mean over random probes.

    Attributes:
        value: A scalar, or [P]; float64, on the operator's device.
        standard_error: Standard error of `value`, of the same shape.
        products: Number of matrix-vector products used.
    """

    value: Tensor
    standard_error: Tensor
    products: int


def trace(operator: SymmetricOperator, *, probes: int = 32, generator: torch.Generator | None = None) -> Estimate:
    """The trace, estimated as the mean of zᵀ A z over vectors z of random signs.

    Only the off-diagonal entries contribute to its error.

    Args:
        operator: Symmetric, with `size`, `dtype`, `device`, `matmat`.
        probes: Number of random probes, at least two. Each costs a product.
        generator: CPU generator of the probes. `None` means one with a fixed seed.

    Raises:
        InputError: `operator` lacks an attribute or is not symmetric, there are fewer than two probes, or the generator
            is not a CPU generator.
        NonFiniteProductError: A product is not finite.
    """
    return _estimate(operator, probes, generator, diagonal=False)


def diagonal(operator: SymmetricOperator, *, probes: int = 32, generator: torch.Generator | None = None) -> Estimate:
    """The diagonal [P], estimated as the mean of z ∘ A z over vectors z of random signs.

    Args:
        operator: Symmetric, with `size`, `dtype`, `device`, `matmat`.
        probes: Number of random probes, at least two. Each costs a product.
        generator: CPU generator of the probes. `None` means one with a fixed seed.

    Raises:
        InputError: `operator` lacks an attribute or is not symmetric, there are fewer than two probes, or the generator
            is not a CPU generator.
        NonFiniteProductError: A product is not finite.
    """
    return _estimate(operator, probes, generator, diagonal=True)


def _estimate(
    operator: SymmetricOperator, probes: int, generator: torch.Generator | None, *, diagonal: bool
) -> Estimate:
    check_operator(operator)
    check_counts(at_least=2, probes=probes)  # for a standard error
    generator = cpu_generator(generator, _SEED)
    mean = squares = torch.zeros(operator.size if diagonal else (), dtype=torch.float64, device=operator.device)
    done, asymmetry, scale = 0, 0.0, 0.0
    with without_autocast(operator.device):
        while done < probes:
            count = min(_TOGETHER, probes - done)
            bits = torch.randint(2, (count, operator.size), generator=generator, dtype=torch.int8, device="cpu")
            signs = (2 * bits - 1).to(device=operator.device, dtype=operator.dtype)
            images = operator.matmat(signs.T).T
            sizes = norms(images.T).cpu()
            check_finite(sizes, images, done)
            pairs = inner_products(signs.T, images.T)
            asymmetry = max(asymmetry, float((pairs - pairs.T).abs().max()))
            scale = max(scale, float(sizes.max()))
            samples = signs.double() * images.double()
            for sample in samples if diagonal else samples.sum(1):  # Welford's sums
                done += 1
                change = sample - mean
                mean = mean + change / done
                squares = squares + change * (sample - mean)
    report_asymmetry(operator, asymmetry, scale)
    return Estimate(mean, (squares / (probes - 1) / probes).sqrt(), probes)
