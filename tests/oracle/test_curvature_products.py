"""Products with H, H_o and H_f against dense float64 matrices, finite differences and a second library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sharpflat.curvature import operators
from sharpflat.curvature.objective import Objective
from sharpflat.curvature.operators import FunctionalHessian, GaussNewton, Hessian, joint_products
from sharpflat.losses import per_example_loss
from tests.oracle.conftest import Problem, linear_loss, make, smooth_loss

OPERATORS = {"H": Hessian, "H_o": GaussNewton, "H_f": FunctionalHessian}
CHUNKS = [None, 1, 3]  # 7 examples: in one piece, one by one, with a ragged last chunk


@pytest.fixture(params=["blocks", "one by one"])
def mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to multiply many vectors."""
    monkeypatch.setattr(operators, "_BLOCK_BYTES", 1 << 40 if request.param == "blocks" else 0)
    return request.param


def close(a: Tensor, b: Tensor, rtol: float = 1e-10) -> None:
    torch.testing.assert_close(a, b, rtol=rtol, atol=0.1 * rtol * max(1.0, float(b.abs().max())))


def identity(size: int) -> Tensor:
    return torch.eye(size, dtype=torch.float64)


@pytest.mark.parametrize("chunk_size", CHUNKS)
@pytest.mark.parametrize("name", OPERATORS)
def test_operator_equals_the_dense_matrix(problem: Problem, name: str, chunk_size: int | None, mode: str) -> None:
    dense = problem.dense[name]
    objective = problem.objective(chunk_size)
    operator = OPERATORS[name](objective, objective.theta)
    assert (operator.size, operator.dtype) == (len(dense), torch.float64)
    close(operator.matmat(identity(len(dense))), dense)
    v = torch.linspace(-1, 1, len(dense), dtype=torch.float64)
    close(operator.matvec(v), dense @ v)
    assert operator._products._batches, "an operation could not be batched"


def test_more_vectors_than_fit_the_caches_make_several_equal_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = make("mlp").objective(None)
    operator = Hessian(objective, objective.theta)
    whole = operator.matmat(identity(objective.size))
    widths = []
    block = operators._Products._block

    def counted(self: operators._Products, graph: Any, rows: Tensor) -> list[Tensor]:
        widths.append(len(rows))
        return block(self, graph, rows)

    monkeypatch.setattr(operators._Products, "_block", counted)
    each = objective.chunks.bytes_per_example * objective.chunks.size
    monkeypatch.setattr(operators, "_BLOCK_BYTES", 14 * each)
    close(operator.matmat(identity(objective.size)[:, :22]), whole[:, :22])
    assert widths == [11, 11]  # rather than 14 and 8, or one by one


@pytest.mark.parametrize("chunk_size", CHUNKS)
def test_joint_products_equal_the_dense_matrices(problem: Problem, chunk_size: int | None, mode: str) -> None:
    objective = problem.objective(chunk_size)
    joint = joint_products(objective, objective.theta, identity(objective.size))
    for product, name in zip(joint, OPERATORS, strict=True):
        close(product, problem.dense[name])


def test_the_parts_add_up_and_the_outer_one_is_positive(problem: Problem) -> None:
    objective = problem.objective(3)
    H, outer, functional = (
        operator(objective, objective.theta).matmat(identity(objective.size)) for operator in OPERATORS.values()
    )
    close(outer + functional, H)
    if problem.loss is not smooth_loss:  # not convex
        assert float(torch.linalg.eigvalsh(outer)[0]) > -1e-12
    assert float(functional.abs().max()) > 1e-3, "the test needs a functional part"


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


def test_products_are_directional_derivatives_of_the_gradient(problem: Problem) -> None:
    """Central differences with step h err by h² times a third derivative (here below 100) and by ε/h."""
    if problem is make("cnn"):
        pytest.skip("its kinks have no third derivative")
    objective = problem.objective()
    theta, h = objective.theta, 1e-5
    v = torch.randn(objective.size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    v /= v.norm()
    difference = (objective.gradient(theta + h * v) - objective.gradient(theta - h * v)) / (2 * h)
    product = Hessian(objective, theta).matvec(v)
    assert float((product - difference).abs().max()) < 100 * h**2 + 100 * 2.2e-16 / h


@pytest.mark.parametrize("loss", ["mse", "cross_entropy", smooth_loss, linear_loss])
def test_a_model_linear_in_theta_has_no_functional_part(
    loss: str | Callable[[Tensor, Tensor], Tensor],
) -> None:
    torch.manual_seed(0)  # restored by the fixture of the package
    inputs = torch.randn(7, 4, dtype=torch.float64)
    targets = torch.rand(7, 3, dtype=torch.float64)
    objective = Objective(nn.Linear(4, 3).double(), loss, inputs, targets, chunk_size=3)
    eye = identity(objective.size)
    H, outer, functional = joint_products(objective, objective.theta, eye)
    assert not functional.any()
    assert not FunctionalHessian(objective, objective.theta).matmat(eye).any()
    close(Hessian(objective, objective.theta).matmat(eye), outer)
    assert bool(H.any()) == (loss is not linear_loss)


def test_closed_form_of_least_squares() -> None:
    """H = 1/N Σ x̃ x̃ᵀ for every output, with x̃ the input and a 1 for the bias."""
    inputs = torch.randn(7, 3, dtype=torch.float64)
    objective = Objective(nn.Linear(3, 2).double(), "mse", inputs, torch.randint(2, (7,)), chunk_size=3)
    second = inputs.T @ inputs / 7
    H = Hessian(objective, objective.theta).matmat(identity(8))
    close(H[:6, :6], torch.block_diag(second, second))
    close(H[6:, 6:], identity(2))


def test_closed_form_of_softmax_regression() -> None:
    """H = 1/N Σ (diag p − p pᵀ) ⊗ x xᵀ."""
    inputs = torch.randn(7, 3, dtype=torch.float64)
    model = nn.Linear(3, 4, bias=False).double()
    objective = Objective(model, "cross_entropy", inputs, torch.randint(4, (7,)), chunk_size=3)
    p = torch.softmax(model(inputs), dim=1).detach()
    bend = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    expected = torch.einsum("nab,ni,nj->aibj", bend, inputs, inputs).reshape(12, 12) / 7
    close(Hessian(objective, objective.theta).matmat(identity(12)), expected)
    close(GaussNewton(objective, objective.theta).matmat(identity(12)), expected)


class Valley(nn.Module):
    """A toy in two dimensions: outputs depend on θ alone."""

    def __init__(self) -> None:
        super().__init__()
        self.point = nn.Parameter(torch.tensor([0.5, -0.3], dtype=torch.float64))

    def forward(self, inputs: Tensor) -> Tensor:
        x, y = self.point
        return (x * x * y).expand(len(inputs), 1)


def test_a_toy_in_two_dimensions() -> None:
    objective = Objective(Valley(), lambda f, _: f.sum(1), torch.zeros(1, 1), torch.zeros(1, 1))
    x, y = objective.theta
    expected = torch.tensor([[2 * y, 2 * x], [2 * x, 0]], dtype=torch.float64)
    close(Hessian(objective, objective.theta).matmat(identity(2)), expected)
    close(FunctionalHessian(objective, objective.theta).matmat(identity(2)), expected)
    assert not GaussNewton(objective, objective.theta).matmat(identity(2)).any()


def test_float32_agrees_with_float64_to_rounding(problem: Problem) -> None:
    dense = problem.dense
    try:
        single = Objective(problem.model.float(), problem.loss, problem.inputs, problem.targets, chunk_size=3)
        V = identity(single.size).float()
        products = joint_products(single, single.theta, V)
        for product, (name, operator) in zip(products, OPERATORS.items(), strict=True):
            assert product.dtype == torch.float32
            scale = float(dense[name].abs().max())
            for p in (product, operator(single, single.theta).matmat(V)):
                assert float((p.double() - dense[name]).abs().max()) < 2e-5 * scale
    finally:
        problem.model.double()
        make.cache_clear()  # its parameters were rounded


@pytest.mark.slow
def test_sums_over_chunks_are_wide() -> None:
    """4,096 chunks of one example, summed in float32, would err by far more than one rounding."""
    inputs = torch.rand(4096, 1) + 1
    model = nn.Linear(1, 1, bias=False)
    objective = Objective(model, "mse", inputs, torch.zeros(4096, 1), chunk_size=1)
    exact = inputs.double().square().mean().item()
    product = Hessian(objective, objective.theta).matvec(torch.ones(1)).item()
    assert abs(product - exact) < 1.2e-7 * exact
    weight = model.weight.item()
    assert abs(objective.gradient(objective.theta).item() - weight * exact) < 1.2e-7 * abs(weight) * exact
    assert abs(objective.value(objective.theta).item() - weight**2 * exact / 2) < 1.2e-7 * weight**2 * exact


@pytest.mark.parametrize("name", ["H", "H_o"])
@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_curvlinops_agrees(name: str, loss: str) -> None:
    curvlinops = pytest.importorskip("curvlinops")
    problem = make("mlp")
    model, inputs, targets = problem.model, problem.inputs, problem.targets
    module: nn.Module = nn.CrossEntropyLoss()
    y = targets
    if loss == "mse":  # theirs is the mean over examples and outputs of squares, without the half
        module, y = nn.MSELoss(), nn.functional.one_hot(targets, 3).double()
    kind = {"H": curvlinops.HessianLinearOperator, "H_o": curvlinops.GGNLinearOperator}[name]
    theirs = kind(model, module, list(model.parameters()), [(inputs[:4], y[:4]), (inputs[4:], y[4:])])
    objective = Objective(model, loss, inputs, targets, chunk_size=3)
    ours = OPERATORS[name](objective, objective.theta).matmat(identity(objective.size))
    factor = 1.5 if loss == "mse" else 1.0
    close(ours, factor * (theirs @ identity(objective.size)))


def test_an_operation_without_batching_goes_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            if not g.any():  # a decision that depends on data: no batched tensor can take it
                return torch.zeros_like(x)
            return 3 * x**2 * g

    class Model(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return Cube.apply(super().forward(input))

    torch.manual_seed(0)
    model = Model(3, 2).double()
    inputs, targets = torch.randn(5, 3).double(), torch.randn(5, 2).double()
    objective = Objective(model, "mse", inputs, targets)
    operator = GaussNewton(objective, objective.theta)
    outputs = nn.functional.linear(inputs, model.weight, model.bias)
    slopes = 3 * outputs.square().detach()
    extended = torch.cat([inputs, torch.ones(5, 1).double()], dim=1)
    blocks = [(extended * s[:, None]).T @ (extended * s[:, None]) / 5 for s in slopes.T]
    order = torch.tensor([0, 1, 2, 6, 3, 4, 5, 7])
    close(operator.matmat(identity(8))[order][:, order], torch.block_diag(*blocks))
    assert not operator._products._batches


def test_losses_are_the_textbook_ones() -> None:
    z = torch.tensor([[1.0, 2.0, -1.0], [0.0, 0.5, 0.5]], dtype=torch.float64)
    y = torch.tensor([1, 2])
    close(per_example_loss("mse")(z, y), torch.tensor([1.5, 0.25], dtype=torch.float64))
    one_hot = nn.functional.one_hot(y, 3).double()
    close(per_example_loss("mse")(z, one_hot), per_example_loss("mse")(z, y))
    expected = -torch.log_softmax(z, 1)[torch.arange(2), y]
    close(per_example_loss("cross_entropy")(z, y), expected)
    close(per_example_loss("cross_entropy")(z, one_hot), expected)


def test_group_norm_is_never_batched():
    """torch 2.11's group norm is silently wrong under vmap where channels and pixels are as many."""
    generator = torch.Generator().manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 1), torch.nn.GroupNorm(1, 4), torch.nn.Flatten(), Scaled(16, 3))
    for p in model.parameters():
        torch.nn.init.normal_(p, generator=generator)
    model = model.double()
    inputs = torch.randn(1, 1, 2, 2, dtype=torch.float64, generator=generator)
    objective = Objective(model, "mse", inputs, torch.tensor([1]))
    hessian = Hessian(objective, objective.theta)
    vectors = torch.eye(objective.size, dtype=torch.float64)
    in_blocks = hessian.matmat(vectors)
    one_by_one = torch.stack([hessian.matvec(v) for v in vectors.T], dim=1)
    torch.testing.assert_close(in_blocks, one_by_one, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(in_blocks, in_blocks.T, rtol=1e-9, atol=1e-9)


class Scaled(torch.nn.Linear):
    """A linear layer and a curve, so that the model's own curvature counts."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(super().forward(x))
