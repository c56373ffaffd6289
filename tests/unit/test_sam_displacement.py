"""The start of `benchmarks/sam_displacement.py` at the bottom of the valley."""

from __future__ import annotations

import runpy
from pathlib import Path

import torch
from torch import nn

from sharpflat import Hessian, Objective

ROOT = Path(__file__).parents[2]


def test_bottom_has_no_dominant_gradient_and_moves_only_in_the_dominant_subspace() -> None:
    bottom = runpy.run_path(str(ROOT / "benchmarks/sam_displacement.py"))["bottom"]
    torch.manual_seed(0)
    model = nn.Linear(6, 1, bias=False).double()
    x, y = torch.randn(20, 6, dtype=torch.float64) * torch.tensor([9.0, 5, 3, 1, 1, 1]), torch.randn(20, 1).double()
    objective = Objective(model, "mse", x, y)
    theta = objective.theta
    found = bottom(objective, theta, 2)
    eigenvectors = torch.linalg.eigh(Hessian(objective, theta) @ torch.eye(6, dtype=torch.float64)).eigenvectors
    dominant, bulk = eigenvectors[:, -2:], eigenvectors[:, :-2]
    gradients = [objective.value_and_gradient(at)[1] for at in (theta, found)]
    before, after = ((dominant.T @ gradient).norm() for gradient in gradients)
    assert after < 1e-4 * before
    assert (bulk.T @ (found - theta)).norm() < 1e-3 * (found - theta).norm()
