"""SubspaceSGD compared with torch.optim.SGD (bit-identical), and with a version that uses dense float64
eigenvectors."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, hessian, jacrev
from torch.nn.functional import mse_loss

from analysis.rules import build
from analysis.rules.sgd import Numbers as SGDNumbers
from sharpflat.curvature.objective import Objective
from sharpflat.curvature.operators import Hessian
from sharpflat.optim.subspace_filter import SubspaceFilter
from sharpflat.optim.subspace_sgd import SubspaceSGD

STEPS, K, REFRESH_EVERY = 23, 3, 5
INPUTS, TARGETS = torch.randn(2, 60, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
INPUTS, TARGETS = INPUTS + 1, TARGETS[:, :3].contiguous()
TRAINING, HOLDOUT = slice(40), slice(40, None)
BATCHES = torch.randint(40, (STEPS, 10), generator=torch.Generator().manual_seed(8))

Schedule = Callable[[int], float]


def mlp(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).to(dtype)
    generator = torch.Generator().manual_seed(10)  # of a dozen, one with a gap after the third eigenvalue throughout
    for p in model.parameters():
        nn.init.normal_(p, std=0.7, generator=generator)
    return model


def half_square(outputs: Tensor, targets: Tensor) -> Tensor:
    """The mean of ½‖f − y‖², as the loss "mse" of `Objective`."""
    return 1.5 * mse_loss(outputs, targets)


def loss(model: nn.Module, examples: slice | Tensor) -> Tensor:
    dtype = next(model.parameters()).dtype
    return half_square(model(INPUTS[examples].to(dtype)), TARGETS[examples].to(dtype))


def groups(model: nn.Module, settings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One group for each of `settings`, with parameters in turn: their order in θ is not that of the model."""
    parameters = list(model.parameters())
    return [{"params": parameters[i :: len(settings)], **setting} for i, setting in enumerate(settings)]


def train(model: nn.Module, optimizer: torch.optim.Optimizer, by_closure: bool = False) -> list[Tensor]:
    """θ [P] after each step, in the model's order."""
    path = []
    for batch in BATCHES:

        def closure(batch=batch):
            optimizer.zero_grad()
            value = loss(model, batch)
            value.backward()
            return value

        if by_closure:
            assert torch.equal(optimizer.step(closure), loss_before(model, batch, path))
        else:
            closure()
            optimizer.step()
        path.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    return path


def loss_before(model: nn.Module, batch: Tensor, path: list[Tensor]) -> Tensor:
    model = copy.deepcopy(model)
    if path:
        nn.utils.vector_to_parameters(path[-1], model.parameters())
    else:
        model.load_state_dict(mlp(next(model.parameters()).dtype).state_dict())
    return loss(model, batch).detach()


# ---------------------------------------------------------------- torch.optim.SGD
def never() -> Tensor:
    raise AssertionError("curvature was evaluated")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("weights", [(1.0, 1.0), (1, lambda step: 1.0)], ids=["numbers", "schedule"])
@pytest.mark.parametrize(
    "settings",
    [
        [{}],
        [{"momentum": 0.9}],
        [{"weight_decay": 0.1}],
        [{"lr": torch.tensor(0.07)}],
        [{"momentum": 0.9, "weight_decay": 0.1}, {"lr": 0.01, "momentum": 0.5}, {"lr": 0.3}],
    ],
    ids=["plain", "momentum", "decay", "tensor", "groups"],
)
@pytest.mark.parametrize("by_closure", [False, True])
def test_weights_of_one_are_torchs_sgd_to_the_bit(dtype, weights, settings, by_closure):
    theirs, ours = mlp(dtype), mlp(dtype)
    reference = torch.optim.SGD(groups(theirs, copy.deepcopy(settings)), lr=0.1)
    optimizer = SubspaceSGD(
        groups(ours, copy.deepcopy(settings)), 0.1, alpha_dom=weights[0], beta_bulk=weights[1], curvature=never
    )
    expected, found = train(theirs, reference, by_closure), train(ours, optimizer, by_closure)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    for p, q in zip(theirs.parameters(), ours.parameters(), strict=True):
        buffer = optimizer.state[q].get("momentum_buffer")
        kept = reference.state[p].get("momentum_buffer")
        assert kept is None if buffer is None else torch.equal(kept, buffer)
    assert (optimizer.steps, optimizer.products, optimizer.last_refresh) == (STEPS, 0, None)


# ---------------------------------------------------------------- a transcription
def transcription(settings: list[dict[str, Any]], alpha_dom: Schedule, beta_bulk: Schedule) -> list[Tensor]:
    """The method on flat vectors, with all eigenvectors of the dense Hessian; θ [P] after each step."""
    model = mlp()
    named = dict(model.named_parameters())
    theta = torch.cat([p.detach().flatten() for p in named.values()])

    def at(theta: Tensor, examples: slice | Tensor) -> Tensor:
        pieces = theta.split([p.numel() for p in named.values()])
        values = {name: piece.view_as(p) for (name, p), piece in zip(named.items(), pieces, strict=True)}
        return half_square(functional_call(model, values, (INPUTS[examples],)), TARGETS[examples])

    def spread(key: str, default: float) -> Tensor:
        values = [settings[i % len(settings)].get(key, default) for i in range(len(named))]
        return torch.cat([v * torch.ones(p.numel()).double() for v, p in zip(values, named.values(), strict=True)])

    rate, momentum, decay = spread("lr", 0.1), spread("momentum", 0.0), spread("weight_decay", 0.0)
    path, velocity, U, refreshed = [], None, torch.empty(0), None
    for step, batch in enumerate(BATCHES):
        gradient = jacrev(lambda x, batch=batch: at(x, batch))(theta) + decay * theta
        velocity = gradient if velocity is None else momentum * velocity + gradient
        update = -rate * velocity
        alpha, beta = alpha_dom(step), beta_bulk(step)
        if alpha != beta and (refreshed is None or step >= refreshed + REFRESH_EVERY):
            values, vectors = torch.linalg.eigh(hessian(lambda x: at(x, HOLDOUT))(theta))
            U, refreshed = vectors[:, -K:], step
            assert values[-K] > 1.1 * values[-K - 1], "without a gap the subspace is not defined"
        if alpha != beta:
            dominant = U @ (U.T @ update)
            update = alpha * dominant + beta * (update - dominant)
        else:
            update = alpha * update
        theta = theta + update
        path.append(theta)
    return path


SETTINGS = {
    "plain": [{}],
    "momentum and decay": [{"momentum": 0.8, "weight_decay": 0.05}],
    "groups": [{"momentum": 0.8}, {"lr": 0.03, "weight_decay": 0.1}, {"lr": 0.2, "momentum": 0.3}],
}
WEIGHTS: dict[str, tuple[Schedule, Schedule]] = {
    "Dom-SGD": (lambda step: 1.0, lambda step: 0.0),
    "Bulk-SGD": (lambda step: 0.0, lambda step: 1.0),
    "between": (lambda step: 0.3, lambda step: 0.8),
    "equal": (lambda step: 0.5, lambda step: 0.5),
    "schedules": (lambda step: 1.0 if step < 4 or step in (11, 12) else 0.9**step, lambda step: 1.0),
}


@pytest.mark.parametrize("curvature", ["objective", "closure"])
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("settings", SETTINGS)
def test_trajectories_equal_the_transcription(settings, weights, curvature):
    """To 1e-9, where the runs end further than 0.1 from their start and from SGD's end."""
    model = mlp()
    start = nn.utils.parameters_to_vector(model.parameters()).detach()
    holdout: Any = partial(loss, model, HOLDOUT)
    if curvature == "objective":
        holdout = Objective(model, "mse", INPUTS[HOLDOUT], TARGETS[HOLDOUT])
    optimizer = SubspaceSGD(
        groups(model, SETTINGS[settings]),
        0.1,
        alpha_dom=WEIGHTS[weights][0],
        beta_bulk=WEIGHTS[weights][1],
        k=K,
        refresh_every=REFRESH_EVERY,
        curvature=holdout,
        tolerance=1e-11,
    )
    found = train(model, optimizer)
    expected = transcription(SETTINGS[settings], *WEIGHTS[weights])
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-9)
    sgd = transcription(SETTINGS[settings], lambda step: 1.0, lambda step: 1.0)
    assert min(float((expected[-1] - other).norm()) for other in (start, sgd[-1])) > 0.1
    steps = {"equal": [], "schedules": [4, 9, 14, 19]}.get(weights, [0, 5, 10, 15, 20])
    assert optimizer.refreshes == len(steps)
    assert optimizer.unconverged_refreshes == 0
    if steps:
        assert optimizer.last_refresh is not None
        assert optimizer.last_refresh.step == steps[-1]


def test_the_last_refresh_is_that_of_the_dense_hessian():
    model = mlp()
    optimizer = SubspaceSGD(
        model.parameters(),
        0.1,
        alpha_dom=0.0,
        k=K,
        curvature=lambda: loss(model, HOLDOUT),
        refresh_every=STEPS,
        tolerance=1e-9,
    )
    named = dict(model.named_parameters())
    theta = torch.cat([p.detach().flatten() for p in named.values()])

    def at(theta: Tensor) -> Tensor:
        pieces = theta.split([p.numel() for p in named.values()])
        values = {name: piece.view_as(p) for (name, p), piece in zip(named.items(), pieces, strict=True)}
        return half_square(functional_call(model, values, (INPUTS[HOLDOUT],)), TARGETS[HOLDOUT])

    eigenvalues = torch.linalg.eigvalsh(hessian(at)(theta)).flip(0)[:K]
    train(model, optimizer)
    found = optimizer.last_refresh
    assert found is not None
    torch.testing.assert_close(found.eigenvalues, eigenvalues)
    assert found.converged
    assert found.residual <= 1e-9 * eigenvalues[-1]
    assert found.products == optimizer.products >= K


def test_objective_and_closure_agree_whatever_the_order_of_the_groups():
    paths = []
    for kind in ("closure", "objective", "reversed"):
        model = mlp()
        holdout: Any = partial(loss, model, HOLDOUT)
        if kind != "closure":
            holdout = Objective(model, "mse", INPUTS[HOLDOUT], TARGETS[HOLDOUT])
        parameters = list(model.parameters())[:: -1 if kind == "reversed" else 1]
        optimizer = SubspaceSGD(
            parameters, 0.1, alpha_dom=0.2, beta_bulk=0.9, k=K, refresh_every=3, momentum=0.5, curvature=holdout
        )
        paths.append(train(model, optimizer))
    for a, b, c in zip(*paths, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
        assert torch.equal(b, c)


@pytest.mark.parametrize("weights", [(0.0, 1.0), (1.0, 0.0), (0.3, 0.8)])
def test_the_pipelines_rule_and_filter_give_the_same_bits(weights):
    """In float32, from the same gradients: an interpolated segment and SubspaceSGD are one computation."""
    model = mlp(torch.float32)
    objective = Objective(model, "mse", INPUTS[HOLDOUT], TARGETS[HOLDOUT])
    training = Objective(model, "mse", INPUTS[TRAINING], TARGETS[TRAINING])
    optimizer = SubspaceSGD(
        model.parameters(),
        0.1,
        alpha_dom=weights[0],
        beta_bulk=weights[1],
        k=K,
        refresh_every=4,
        momentum=0.9,
        curvature=objective,
        tolerance=1e-3,
    )
    rule = build(SGDNumbers(learning_rate=0.1, batch_size=10, momentum=0.9))
    subspace = SubspaceFilter(k=K, refresh_every=4, tolerance=1e-3)
    theta = objective.theta
    state = rule.initial_state(theta)
    for step, batch in enumerate(BATCHES):
        gradient = training.gradient(theta, batch)
        update, state = rule.update(theta, lambda x, batch=batch: training.gradient(x, batch), state)
        alpha_dom, beta_bulk = weights
        update, _ = subspace.apply(
            update, step, partial(Hessian, objective, theta), alpha_dom=alpha_dom, beta_bulk=beta_bulk
        )
        for p, piece in zip(model.parameters(), gradient.split(objective.vector.lengths), strict=True):
            p.grad = piece.view_as(p)
        optimizer.step()
        theta = theta + update
        assert torch.equal(theta, objective.theta), step
