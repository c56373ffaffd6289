"""Curvature of training losses: exact products, eigenspaces, energies. A library in its own right."""

from analysis.curvature.closure import LossHessian
from analysis.curvature.eigensolver import NonFiniteProductError, TopEigenspace, top_eigenspace
from analysis.curvature.energy import energy_decomposition
from analysis.curvature.objective import Objective
from analysis.curvature.operators import FunctionalHessian, GaussNewton, Hessian, joint_products
from analysis.curvature.spectrum import spectral_density
from analysis.curvature.subspace import DominantSubspace

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
