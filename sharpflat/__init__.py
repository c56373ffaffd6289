"""Curvature of any PyTorch model's loss, and an optimizer that uses it.

Names are imported when they are first used: `from sharpflat.errors import InputError` does not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sharpflat.curvature.closure import LossHessian
    from sharpflat.curvature.eigensolver import TopEigenspace, top_eigenspace
    from sharpflat.curvature.energy import energy_decomposition
    from sharpflat.curvature.estimators import Estimate, diagonal, trace
    from sharpflat.curvature.objective import Objective
    from sharpflat.curvature.operators import FunctionalHessian, GaussNewton, Hessian, joint_products
    from sharpflat.curvature.spectrum import spectral_density
    from sharpflat.curvature.subspace import DominantSubspace
    from sharpflat.curvature.symmetric import NonFiniteProductError
    from sharpflat.errors import CurvatureWarning, InputError
    from sharpflat.optim.effective import effective_learning_rates
    from sharpflat.optim.refresh import Refresh
    from sharpflat.optim.subspace_filter import SubspaceFilter
    from sharpflat.optim.subspace_sgd import SubspaceSGD

__version__ = "0.3.0.dev0"

__all__ = [
    "CurvatureWarning",
    "DominantSubspace",
    "Estimate",
    "FunctionalHessian",
    "GaussNewton",
    "Hessian",
    "InputError",
    "LossHessian",
    "NonFiniteProductError",
    "Objective",
    "Refresh",
    "SubspaceFilter",
    "SubspaceSGD",
    "TopEigenspace",
    "__version__",
    "diagonal",
    "effective_learning_rates",
    "energy_decomposition",
    "joint_products",
    "spectral_density",
    "top_eigenspace",
    "trace",
]

_MODULES = {
    "CurvatureWarning": "errors",
    "DominantSubspace": "curvature.subspace",
    "Estimate": "curvature.estimators",
    "FunctionalHessian": "curvature.operators",
    "GaussNewton": "curvature.operators",
    "Hessian": "curvature.operators",
    "InputError": "errors",
    "LossHessian": "curvature.closure",
    "NonFiniteProductError": "curvature.symmetric",
    "Objective": "curvature.objective",
    "Refresh": "optim.refresh",
    "SubspaceFilter": "optim.subspace_filter",
    "SubspaceSGD": "optim.subspace_sgd",
    "TopEigenspace": "curvature.eigensolver",
    "diagonal": "curvature.estimators",
    "effective_learning_rates": "optim.effective",
    "energy_decomposition": "curvature.energy",
    "joint_products": "curvature.operators",
    "spectral_density": "curvature.spectrum",
    "top_eigenspace": "curvature.eigensolver",
    "trace": "curvature.estimators",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
