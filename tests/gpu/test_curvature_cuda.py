"""The curvature engine on a GPU agrees with itself on the CPU: products to 1e-5, eigenvalues to 1e-4, in float32."""

from __future__ import annotations

import pytest
import torch

from analysis.models import build
from analysis.specs import CNNSpec, MLPSpec, TransformerSpec
from sharpflat.curvature.eigensolver import top_eigenspace
from sharpflat.curvature.energy import energy_decomposition
from sharpflat.curvature.objective import Objective
from sharpflat.curvature.operators import FunctionalHessian, GaussNewton, Hessian, joint_products
from sharpflat.curvature.subspace import DominantSubspace as Subspace

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

MODELS = {
    "mlp": (MLPSpec(width=32), (1, 14, 14)),
    "cnn": (CNNSpec(channels=8), (3, 16, 16)),
    "transformer": (TransformerSpec(width=16, heads=2, feed_forward=16), (50, 12)),
}


@pytest.fixture(params=list(MODELS))
def objectives(request):
    """The same problem on the CPU and on the GPU, with TF32 off."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    spec, shape = MODELS[request.param]
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (101,), generator=generator)
    if request.param == "transformer":
        inputs = torch.randint(1, 50, (101, 12), generator=generator)
    else:
        inputs = torch.rand(101, *shape, generator=generator)
    made = []
    for device in ("cpu", "cuda"):
        model = build(spec, shape, 4, torch.Generator().manual_seed(1), torch.float32).to(device)
        made.append(Objective(model, "mse", inputs.to(device), labels.to(device), chunk_size=40))
    return made


def close(gpu: torch.Tensor, cpu: torch.Tensor, tolerance: float) -> None:
    assert gpu.device.type == "cuda"
    assert float((gpu.cpu() - cpu).norm() / cpu.norm()) <= tolerance


def test_products_agree(objectives):
    cpu, gpu = objectives
    vectors = torch.randn(cpu.theta.numel(), 3, generator=torch.Generator().manual_seed(2))
    close(gpu.gradient(gpu.theta), cpu.gradient(cpu.theta), 1e-5)
    for kind in (Hessian, GaussNewton, FunctionalHessian):
        close(kind(gpu, gpu.theta).matmat(vectors.cuda()), kind(cpu, cpu.theta).matmat(vectors), 1e-5)
    for a, b in zip(
        joint_products(gpu, gpu.theta, vectors.cuda()), joint_products(cpu, cpu.theta, vectors), strict=True
    ):
        close(a, b, 1e-5)


def test_eigenvalues_agree(objectives):
    cpu, gpu = (top_eigenspace(Hessian(o, o.theta), k=4, tolerance=1e-4, max_products=2000) for o in objectives)
    assert cpu.converged
    assert gpu.converged
    close(gpu.eigenvalues, cpu.eigenvalues, 1e-4)


def test_energies_see_the_same_probes(objectives):
    found = []
    for objective in objectives:
        top = top_eigenspace(Hessian(objective, objective.theta), k=4, tolerance=1e-4, max_products=2000)
        generator = torch.Generator().manual_seed(3)
        found.append(
            energy_decomposition(objective, objective.theta, Subspace(top.eigenvectors), probes=8, generator=generator)
        )
    torch.testing.assert_close(
        torch.tensor(found[1].energy_total.values), torch.tensor(found[0].energy_total.values), rtol=1e-3, atol=0
    )
