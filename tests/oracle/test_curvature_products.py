"""Products with H, H_o and H_f against dense float64 matrices."""

from __future__ import annotations

import pytest
import torch

from analysis.curvature import FunctionalHessian, GaussNewton, Hessian, joint_products
from tests.oracle.conftest import Problem

OPERATORS = {"H": Hessian, "H_o": GaussNewton, "H_f": FunctionalHessian}
CHUNKS = [None, 1, 3]  # 7 examples: in one piece, one by one, with a ragged last chunk


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-11 * max(1.0, float(b.abs().max())))


@pytest.mark.parametrize("chunk_size", CHUNKS)
@pytest.mark.parametrize("name", OPERATORS)
def test_operator_equals_the_dense_matrix(problem: Problem, name: str, chunk_size: int | None) -> None:
    dense = problem.dense()[name]
    objective = problem.objective(chunk_size)
    operator = OPERATORS[name](objective, objective.theta)
    assert (operator.size, operator.dtype) == (len(dense), torch.float64)
    close(operator.matmat(torch.eye(len(dense), dtype=torch.float64)), dense)
    v = torch.linspace(-1, 1, len(dense), dtype=torch.float64)
    close(operator.matvec(v), dense @ v)


@pytest.mark.parametrize("chunk_size", CHUNKS)
def test_joint_products_equal_the_dense_matrices(problem: Problem, chunk_size: int | None) -> None:
    dense = problem.dense()
    objective = problem.objective(chunk_size)
    joint = joint_products(objective, objective.theta, torch.eye(objective.size, dtype=torch.float64))
    for product, name in zip(joint, dense, strict=True):
        close(product, dense[name])


@pytest.mark.parametrize("chunk_size", CHUNKS)
def test_value_and_gradient(problem: Problem, chunk_size: int | None) -> None:
    outputs, mean_loss, theta = problem.functions()
    objective = problem.objective(chunk_size)
    assert torch.equal(objective.theta, theta)
    theta = theta + 0.1
    value, gradient = objective.value_and_gradient(theta)
    close(value, mean_loss(outputs(theta)))
    close(gradient, torch.func.jacrev(lambda t: mean_loss(outputs(t)))(theta))
    close(objective.value(theta), value)
    close(objective.gradient(theta), gradient)
    close(objective.outputs(theta), outputs(theta))


def test_a_minibatch_is_the_mean_over_its_examples(problem: Problem) -> None:
    indices = torch.tensor([5, 0, 2])
    part = Problem(problem.model, problem.loss, problem.inputs[indices], problem.targets[indices]).objective()
    for chunk_size in (None, 2):
        objective = problem.objective(chunk_size)
        close(objective.gradient(objective.theta, indices), part.gradient(part.theta))
        close(objective.value(objective.theta, indices), part.value(part.theta))
