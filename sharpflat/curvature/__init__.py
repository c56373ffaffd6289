"""Curvature of training losses: exact products, eigenspaces, energies. A library in its own right."""

from sharpflat.curvature.closure import LossHessian
from sharpflat.curvature.eigensolver import NonFiniteProductError, TopEigenspace, top_eigenspace
from sharpflat.curvature.energy import energy_decomposition
from sharpflat.curvature.objective import Objective
from sharpflat.curvature.operators import FunctionalHessian, GaussNewton, Hessian, joint_products
from sharpflat.curvature.spectrum import spectral_density
from sharpflat.curvature.subspace import DominantSubspace

__all__ = [
    "DominantSubspace",
    "FunctionalHessian",
    "GaussNewton",
    "Hessian",
    "LossHessian",
    "NonFiniteProductError",
    "Objective",
    "TopEigenspace",
    "energy_decomposition",
    "joint_products",
    "spectral_density",
    "top_eigenspace",
]
