"""A closure's Hessian against dense float64 matrices and against `Hessian` of an `Objective`."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from sharpflat.curvature.closure import LossHessian
from sharpflat.curvature.eigensolver import top_eigenspace
from sharpflat.curvature.operators import Hessian
from sharpflat.errors import InputError
from sharpflat.losses import per_example_loss
from tests.oracle.conftest import Problem, make


def closure(problem: Problem):
    per_example = per_example_loss(problem.loss) if isinstance(problem.loss, str) else problem.loss
    return lambda: per_example(problem.model(problem.inputs), problem.targets).mean()


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-11 * max(1.0, float(b.abs().max())))


def test_products_equal_the_dense_matrix(problem: Problem) -> None:
    """Tied parameters, buffers and a loss of its own among them; constants are rows and columns of zeros."""
    parameters = list(problem.model.parameters())
    operator = LossHessian(closure(problem), parameters)
    assert (operator.size, operator.dtype) == (sum(p.numel() for p in parameters), torch.float64)
    trained = torch.cat([torch.full((p.numel(),), p.requires_grad) for p in parameters])
    assert bool(trained.all()) == (problem is not make("custom")), "one problem has a frozen parameter"
    dense = torch.zeros(operator.size, operator.size, dtype=torch.float64)
    dense[trained.outer(trained)] = problem.dense["H"].flatten()
    with torch.no_grad():
        close(operator.matmat(torch.eye(operator.size, dtype=torch.float64)), dense)
        v = torch.linspace(-1, 1, operator.size, dtype=torch.float64)
        close(operator.matvec(v), dense @ v)
        assert operator.matmat(v[:, None].expand(-1, 0)).shape == (operator.size, 0)


def test_an_operator_made_without_gradients_enabled(problem: Problem) -> None:
    objective = problem.objective()
    with torch.no_grad():
        found = top_eigenspace(LossHessian(closure(problem), objective.parameters), 3, tolerance=1e-9)
        expected = top_eigenspace(Hessian(objective, objective.theta), 3, tolerance=1e-9)
    close(found.eigenvalues, expected.eigenvalues)


def test_the_order_is_that_of_the_parameters_given() -> None:
    problem = make("mlp")
    parameters = list(problem.model.parameters())[::-1]
    operator = LossHessian(closure(problem), parameters)
    numbers = torch.arange(operator.size).split([p.numel() for p in parameters[::-1]])
    order = torch.cat(numbers[::-1])
    close(operator.matmat(torch.eye(operator.size, dtype=torch.float64)), problem.dense["H"][order][:, order])


def test_a_loss_linear_in_some_parameters() -> None:
    """x² y + 3 z: the gradient by z is a constant, which nothing can be differentiated by."""
    x, y, z = (torch.tensor([value], dtype=torch.float64, requires_grad=True) for value in (0.5, -2.0, 1.0))
    operator = LossHessian(lambda: (x * x * y + 3 * z).squeeze(), [x, y, z])
    expected = torch.tensor([[-4, 1, 0], [1, 0, 0], [0, 0, 0]], dtype=torch.float64)
    assert torch.equal(operator.matmat(torch.eye(3, dtype=torch.float64)), expected)
    linear = LossHessian(lambda: 3 * z, [x, y, z])
    assert not linear.matvec(torch.ones(3, dtype=torch.float64)).any()


def test_hooks_of_parameters_do_not_change_the_hessian() -> None:
    problem = make("mlp")
    model = copy.deepcopy(problem.model)
    hooks = [p.register_hook(lambda gradient: 2 * gradient) for p in list(model.parameters())[:2]]
    per_example = per_example_loss(problem.loss)
    operator = LossHessian(lambda: per_example(model(problem.inputs), problem.targets).mean(), model.parameters())
    close(operator.matmat(torch.eye(operator.size, dtype=torch.float64)), problem.dense["H"])
    first = next(model.parameters())
    (doubled,) = torch.autograd.grad(first.sum(), first)
    assert (doubled == 2).all(), "they are back"
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("register", ["register_full_backward_hook", "register_full_backward_pre_hook"])
def test_a_module_with_a_backward_hook_is_refused(register: str) -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1))
    handle = getattr(model[2], register)(lambda *_: None)
    with pytest.raises(InputError, match="a module has a backward hook"):
        LossHessian(lambda: model(torch.ones(4, 3)).sum(), model.parameters())
    handle.remove()
    LossHessian(lambda: model(torch.ones(4, 3)).sum(), model.parameters())
