"""Models that couple the examples of fixed groups (batch norm), against plain autograd in float64."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import DataLoader, TensorDataset

from analysis.models import build
from analysis.models.resnet8_batch_norm import Numbers
from analysis.training.problem import make_problem
from sharpflat.curvature.chunks import Chunks
from sharpflat.curvature.objective import Objective
from sharpflat.curvature.operators import Hessian, joint_products
from sharpflat.errors import InputError
from tests.unit.test_segment import TEST, TRAIN, spec

GROUP, N = 4, 6  # the last group has two examples


class Residual(nn.Module):
    """A block of torch's own layers: batch norm in training mode; its shortcut leaves out pixels and adds zeros."""

    def __init__(self, channels: int, wider: int, stride: int) -> None:
        super().__init__()
        norm = nn.BatchNorm2d
        self.straight = nn.Sequential(
            nn.Conv2d(channels, wider, 3, stride, 1, bias=False), norm(wider), nn.ReLU(),
            nn.Conv2d(wider, wider, 3, 1, 1, bias=False), norm(wider),
        )  # fmt: skip
        self.norm = norm(channels) if wider > channels else None
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        y = self.straight(x)
        if self.norm is not None:
            x = self.norm(x[..., :: self.stride, :: self.stride])
            x = torch.cat([x, x.new_zeros(len(x), y.shape[1] - x.shape[1], *x.shape[2:])], 1)
        return (y + x).relu()


def reference() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 1, 3, padding=1, bias=False), nn.BatchNorm2d(1), nn.ReLU(),
        Residual(1, 1, 1), Residual(1, 2, 2), Residual(2, 4, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3),
    ).double()  # fmt: skip


@pytest.fixture(scope="module")
def problem() -> tuple[Objective, Tensor, Tensor]:
    g = torch.Generator().manual_seed(5)
    model = build(Numbers(width=1, group=GROUP), (2, 4, 4), 3, g, torch.float64)
    for p in model.parameters():  # so that no factor is 0 or 1 by default
        p.data += 0.3 * torch.randn(p.shape, dtype=p.dtype, generator=g)
    inputs, labels = torch.randn(N, 2, 4, 4, dtype=torch.float64, generator=g), torch.arange(N) % 3
    return Objective(model, "mse", inputs, labels, coupled=model.coupled), inputs, nn.functional.one_hot(labels, 3)


def of_groups(theta: Tensor, inputs: Tensor) -> Tensor:
    """The reference's outputs at θ, group by group."""
    with torch.random.fork_rng(devices=[]):
        model = reference()
    named = dict(model.named_parameters())
    pieces = theta.split([p.numel() for p in named.values()])
    swapped = {n: v.view_as(p) for (n, p), v in zip(named.items(), pieces, strict=True)}
    return torch.cat([functional_call(model, swapped, (x,)) for x in inputs.split(GROUP)])


def test_values_gradients_and_curvature_are_those_of_the_function_of_groups(problem):
    ours, inputs, targets = problem

    def loss(theta: Tensor) -> Tensor:
        return 0.5 * (of_groups(theta, inputs) - targets).square().sum() / N

    theta = ours.theta
    leaf = theta.clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss(leaf), leaf)
    value, gradient = ours.value_and_gradient(theta)
    torch.testing.assert_close(value, loss(theta))
    torch.testing.assert_close(gradient, slope, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(ours.outputs(theta), of_groups(theta, inputs))
    V = torch.randn(ours.size, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    bent = torch.stack([torch.autograd.functional.vhp(loss, theta, v)[1] for v in V.T], 1)
    jacobian = torch.autograd.functional.jacobian(lambda t: of_groups(t, inputs), theta).flatten(0, 1)
    outer = jacobian.T @ (jacobian @ V) / N
    close = {"rtol": 1e-8, "atol": 1e-9}
    torch.testing.assert_close(Hessian(ours, theta).matmat(V), bent, **close)
    _, H_o, H_f = joint_products(ours, theta, V)
    torch.testing.assert_close(H_o, outer, **close)
    torch.testing.assert_close(H_f, bent - outer, **close)
    alone = Objective(ours.model, "mse", inputs, targets.argmax(1), chunk_size=N, check=False)
    assert not torch.allclose(alone.gradient(theta), gradient), "another grouping is another function"


def test_a_minibatch_is_a_group_of_its_own(problem):
    ours, inputs, targets = problem
    indices = torch.tensor([5, 0, 4])
    leaf = ours.theta.clone().requires_grad_()
    loss = 0.5 * (of_groups(leaf, inputs[indices]) - targets[indices]).square().sum() / len(indices)
    (slope,) = torch.autograd.grad(loss, leaf)
    torch.testing.assert_close(ours.gradient(ours.theta, indices), slope, rtol=1e-9, atol=1e-11)


def test_initialisation_is_he_normal_and_each_block_starts_as_its_shortcut():
    model = build(Numbers(width=16), (3, 8, 8), 10, torch.Generator().manual_seed(0), torch.float32)
    assert sum(p.numel() for p in model.parameters()) == Numbers(width=16).parameter_count((3, 8, 8), 10)
    widest = model[5].second.weight
    assert float(widest.detach().std()) == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)
    x = torch.randn(20, 16, 8, 8, generator=torch.Generator().manual_seed(1)).relu()
    assert torch.equal(model[3](x), x)


def test_what_changes_with_each_pass_is_refused_and_what_couples_is_named():
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2)).double()
    x, y = torch.randn(8, 4).double(), torch.arange(8) % 2
    with pytest.raises(InputError, match="or set coupled=, for fixed batches"):
        Objective(model, "mse", x, y)
    with pytest.raises(InputError, match="running statistics change with each forward pass"):
        Objective(model, "mse", x, y, coupled=4)
    free = copy.deepcopy(model)
    free[1] = nn.BatchNorm1d(3, track_running_stats=False).double()
    objective = Objective(free, "mse", x, y, coupled=4)
    outputs = torch.cat([free(part) for part in x.split(4)])
    torch.testing.assert_close(objective.outputs(objective.theta), outputs.detach())
    assert objective.check(objective.theta, products=True), "blocks of vectors are not given up for a group's sake"
    v = torch.randn(objective.size, dtype=torch.float64)
    assert Hessian(objective, objective.theta).matmat(v[:, None]).isfinite().all()
    with pytest.raises(InputError, match="omit chunk_size and lengths"):
        Objective(free, "mse", x, y, coupled=4, chunk_size=2)


def test_batches_of_a_stream_must_hold_whole_groups():
    """Groups of 4, 2, 4 and 2 would be another function of θ."""
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, track_running_stats=False), nn.Linear(3, 2)).double()
    x, y = torch.randn(12, 4).double(), torch.arange(12) % 2
    with pytest.raises(
        InputError, match=r"coupled=4 needs batches of a multiple of 4 examples .* 6 examples come before"
    ):
        Objective(model, "mse", DataLoader(TensorDataset(x, y), batch_size=6), coupled=4)
    expected = Objective(model, "mse", x, y, coupled=4)
    for data in (DataLoader(TensorDataset(x, y), batch_size=8), TensorDataset(x, y)):
        streamed = Objective(model, "mse", data, coupled=4)
        torch.testing.assert_close(streamed.gradient(streamed.theta), expected.gradient(expected.theta))


def test_what_remembers_earlier_calls_is_found_out_in_groups_too():
    class Counting(nn.Linear):
        calls = 0

        def forward(self, input: Tensor) -> Tensor:
            self.calls += 1
            return super().forward(input) + self.calls

    objective = Objective(Counting(4, 2), "mse", torch.randn(8, 4), torch.arange(8) % 2, coupled=4)
    with pytest.raises(InputError, match="two forward passes over the same examples gave different losses"):
        objective.value(objective.theta)


def test_the_pipeline_evaluates_the_models_groups():
    described = spec(holdout=6).problem.model_copy(update={"model": Numbers(width=1, group=GROUP)})
    problem = make_problem(described, TRAIN, TEST, 7)
    for objective in (problem.training, problem.curvature, problem.test):
        assert objective.coupled == GROUP
        assert len(next(objective.in_chunks())[0]) == GROUP


def test_a_group_is_not_halved_when_memory_runs_out():
    chunks = Chunks(8, lambda count: count, device=torch.device("cpu"), chunk_size=4, fixed=True)

    def evaluate() -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        chunks.with_halving(evaluate)
    assert chunks.size == 4
    assert not chunks.halvings
