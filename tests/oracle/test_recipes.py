"""The operators that docs/library.md writes down for what the library has no door for."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sharpflat import Hessian, InputError, Objective, top_eigenspace

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "library.md").read_text(encoding="utf-8"), re.S)


def recipe(name: str) -> str:
    """The class of that name, as the page has it."""
    (block,) = (block for block in BLOCKS if f"class {name}" in block)
    return block.partition("\n\n\ndifferences = ")[0]


RANKS = """
import sys, torch
from torch import nn
from sharpflat import Hessian, Objective, top_eigenspace
{recipe}
rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{{folder}}/store", rank=rank, world_size=2)
torch.set_num_threads(1)
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
inputs, labels = torch.randn(30, 4).double(), torch.randint(3, (30,))
whole = Objective(model, "cross_entropy", inputs, labels)
mine = slice(0, 11) if rank == 0 else slice(11, 30)  # ragged
own = Objective(model, "cross_entropy", inputs[mine], labels[mine])
found = top_eigenspace(MeanOverRanks(Hessian(own, own.theta), len(labels[mine])), k=3, tolerance=1e-8)
expected = top_eigenspace(Hessian(whole, whole.theta), k=3, tolerance=1e-8)
torch.testing.assert_close(found.eigenvalues, expected.eigenvalues, rtol=1e-9, atol=1e-12)
both = [torch.empty_like(found.eigenvectors) for _ in range(2)]
dist.all_gather(both, found.eigenvectors)
print("equal" if torch.equal(*both) and found.converged else "apart")
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_products_over_two_processes_are_those_of_all_examples(tmp_path: Path) -> None:
    code = RANKS.format(recipe=recipe("MeanOverRanks"))
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(rank), str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    for process in started:
        output, _ = process.communicate(timeout=240)
        assert output == "equal\n"
        assert process.returncode == 0


class Once(torch.autograd.Function):
    """tanh, whose second derivative is not there."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:  # type: ignore[no-untyped-def, override]
        ctx.save_for_backward(x)
        return torch.tanh(x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, cotangent: Tensor) -> Tensor:  # type: ignore[no-untyped-def, override]
        (x,) = ctx.saved_tensors
        return cotangent * (1 - torch.tanh(x) ** 2)


class Activation(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return Once.apply(x)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 1e-3)])
def test_differences_stand_in_for_a_missing_second_derivative(dtype: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), Activation(), nn.Linear(6, 3)).to(dtype)
    twin = nn.Sequential(model[0], nn.Tanh(), model[2])
    inputs, labels = torch.randn(30, 4).to(dtype), torch.randint(3, (30,))
    objective, exact = (Objective(m, "cross_entropy", inputs, labels) for m in (model, twin))
    theta = objective.theta
    with pytest.raises(InputError):
        Hessian(objective, theta).matvec(theta)
    names: dict[str, object] = {}
    exec("import torch\n" + recipe("DifferenceHessian"), names)
    differences = names["DifferenceHessian"](objective, theta)  # type: ignore[operator]
    vectors = torch.randn(objective.size, 3, dtype=dtype)
    expected = Hessian(exact, theta).matmat(vectors)
    assert float((differences.matmat(vectors) - expected).norm() / expected.norm()) < tolerance
    found = top_eigenspace(differences, 3, tolerance=0.01)
    assert found.converged, found.reason
    torch.testing.assert_close(
        found.eigenvalues, top_eigenspace(Hessian(exact, theta), 3).eigenvalues, rtol=0.01, atol=0
    )
