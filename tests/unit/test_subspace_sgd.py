"""SubspaceSGD as an optimizer among PyTorch's: groups, schedulers, checkpoints, hooks, gradients that are not there."""

from __future__ import annotations

import copy
import io
import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler, swa_utils

from sharpflat.curvature.closure import LossHessian
from sharpflat.curvature.eigensolver import top_eigenspace
from sharpflat.curvature.objective import Objective
from sharpflat.curvature.symmetric import NonFiniteProductError
from sharpflat.errors import InputError
from sharpflat.optim import subspace_filter
from sharpflat.optim.refresh import Refresh
from sharpflat.optim.subspace_sgd import SubspaceSGD

ROOT = Path(__file__).parents[2]
INPUTS, TARGETS = torch.randn(2, 60, 4, generator=torch.Generator().manual_seed(1))
TARGETS = TARGETS[:, :2].contiguous()
HOLDOUT = slice(40, None)


def mlp(seed: int = 0) -> nn.Sequential:
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))
    generator = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        nn.init.normal_(p, std=0.7, generator=generator)
    return model


def loss(model: nn.Module, examples: slice | Tensor = HOLDOUT) -> Tensor:
    return nn.functional.mse_loss(model(INPUTS[examples]), TARGETS[examples])


def objective(model: nn.Module) -> Objective:
    return Objective(model, "mse", INPUTS[HOLDOUT], TARGETS[HOLDOUT])


def bulk_sgd(model: nn.Module, curvature: Any = None, **others: Any) -> SubspaceSGD:
    """Bulk-SGD with small numbers; a closure's Hessian unless said otherwise."""
    numbers = {"lr": 0.1, "alpha_dom": 0.0, "k": 2, "refresh_every": 3} | others
    return SubspaceSGD(model.parameters(), curvature=curvature or partial(loss, model), **numbers)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range, scheduler: Any = None) -> Tensor:
    """θ [P] afterwards, in the model's order; minibatches depend on the step alone."""
    for step in steps:
        batch = torch.randint(40, (8,), generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        loss(model, batch).backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
    return theta(model)


def theta(model: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(model.parameters()).detach()


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


# ---------------------------------------------------------------- importing
def test_it_is_one_of_torchs_optimizers():
    assert issubclass(SubspaceSGD, torch.optim.Optimizer)


# ---------------------------------------------------------------- arguments
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alpha_dom": 0.0}, "curvature is needed"),
        ({"alpha_dom": lambda step: 1.0}, "curvature is needed"),
        ({"alpha_dom": 0.0, "curvature": 3}, "curvature must be an Objective or a closure .* not a int"),
        ({"k": 0}, "k must be an integer of at least 1, not 0"),
        ({"k": 2.0}, "k must be an integer of at least 1, not 2.0"),
        ({"refresh_every": 0}, "refresh_every must be an integer of at least 1, not 0"),
        ({"tolerance": -1e-2}, "tolerance must be a finite number of at least 0, not -0.01"),
        ({"tolerance": float("nan")}, "tolerance must be a finite number of at least 0, not nan"),
        ({"beta_bulk": float("nan")}, "beta_bulk must be a finite number, not nan"),
        ({"alpha_dom": float("inf")}, "alpha_dom must be a finite number, not inf"),
    ],
)
def test_arguments_that_make_no_sense(arguments, message):
    with pytest.raises(InputError, match=message):
        SubspaceSGD(mlp().parameters(), 0.1, **arguments)


@pytest.mark.parametrize("argument", ["lr", "momentum", "weight_decay"])
def test_what_sgd_refuses_is_refused(argument):
    with pytest.raises(ValueError, match="Invalid"):
        SubspaceSGD(mlp().parameters(), **({"lr": 0.1} | {argument: -0.1}))


@pytest.mark.parametrize("name", ["alpha_dom", "beta_bulk", "k", "refresh_every", "curvature", "tolerance"])
def test_a_group_cannot_have_its_own_subspace(name):
    first, second = mlp().parameters(), mlp().parameters()
    with pytest.raises(InputError, match=rf"group 1 has its own {name}, but this applies to all groups together"):
        SubspaceSGD([{"params": first}, {"params": second, name: 1.0}], 0.1)
    optimizer = SubspaceSGD(mlp().parameters(), 0.1)
    with pytest.raises(InputError, match=rf"group 1 has its own {name}"):
        optimizer.add_param_group({"params": second, name: 1.0})
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize("name", ["nesterov", "dampening", "maximize"])
def test_a_group_with_what_is_not_supported(name):
    with pytest.raises(InputError, match=rf"parameter group 0: SubspaceSGD does not support {name}"):
        SubspaceSGD([{"params": mlp().parameters(), name: 0.5}], 0.1, momentum=0.9)
    model = mlp()
    optimizer = bulk_sgd(model, momentum=0.9)
    optimizer.param_groups[0][name] = 0.5
    with pytest.raises(InputError, match=rf"SubspaceSGD does not support {name}"):
        train(model, optimizer, range(1))


def test_a_weight_of_a_schedule_must_be_finite_too():
    model = mlp()
    optimizer = bulk_sgd(model, alpha_dom=lambda step: 1.0 if step < 2 else float("nan"))
    before = train(model, optimizer, range(2))
    with pytest.raises(InputError, match=r"alpha_dom must be a finite number, not nan \(step 2\)"):
        train(model, optimizer, range(2, 3))
    assert torch.equal(theta(model), before)
    assert optimizer.steps == 2


@pytest.mark.parametrize("parameters", ["another model's", "one too many", "one too few"])
def test_an_objective_of_other_parameters(parameters):
    model, other = mlp(), mlp(1)
    given = {
        "another model's": list(other.parameters()),
        "one too many": [*model.parameters(), other[0].bias],
        "one too few": [p for name, p in model.named_parameters() if name != "2.weight"],
    }[parameters]
    message = "trains parameters that the optimizer does not: 2.weight"
    if parameters != "one too few":
        message = "is not trained by the Objective"
    for weights in ((1.0, 1.0), (0.0, 1.0)):
        with pytest.raises(InputError, match=message):
            SubspaceSGD(given, 0.1, alpha_dom=weights[0], beta_bulk=weights[1], curvature=objective(model))


def test_a_parameter_that_occurs_twice():
    model = mlp()
    with (
        pytest.warns(UserWarning, match="duplicate parameters"),
        pytest.raises(InputError, match="a parameter occurs twice"),
    ):
        SubspaceSGD([*model.parameters(), model[0].bias], 0.1, alpha_dom=0.0, curvature=partial(loss, model))


def test_parameters_of_two_dtypes():
    model = mlp()
    model[2].double()
    with pytest.raises(InputError, match="real numbers of one dtype and on one device"):
        SubspaceSGD(model.parameters(), 0.1, alpha_dom=0.0, curvature=partial(loss, model))


# ---------------------------------------------------------------- weights
def test_weights_are_asked_at_the_number_of_steps_made():
    asked: list[int] = []

    def weight(step: int) -> float:
        asked.append(step)
        return 0.5

    model = mlp()
    train(model, bulk_sgd(model, alpha_dom=weight), range(4))
    assert asked == [0, 1, 2, 3]


def test_equal_weights_scale_sgds_step_without_curvature():
    ours, theirs = mlp(), mlp()
    optimizer = SubspaceSGD(ours.parameters(), 0.1, alpha_dom=0.5, beta_bulk=0.5)
    torch.testing.assert_close(
        train(ours, optimizer, range(9)), train(theirs, torch.optim.SGD(theirs.parameters(), 0.05), range(9))
    )
    assert optimizer.products == 0


def test_momentum_goes_on_whatever_the_weights():
    """Gradients are given here, so that the momentum does not depend on the path: it is bit-identical to SGD's."""
    ours, theirs = mlp(), mlp()
    optimizer = bulk_sgd(ours, momentum=0.9, alpha_dom=lambda step: 0.0 if step % 4 < 2 else 1.0)
    reference = torch.optim.SGD(theirs.parameters(), 0.1, momentum=0.9)
    for step in range(12):
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(step))
            q.grad = p.grad.clone()
        optimizer.step()
        reference.step()
        optimizer.zero_grad(set_to_none=False)  # in place: no buffer may be the gradient itself
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(optimizer.state[p]["momentum_buffer"], reference.state[q]["momentum_buffer"])
    assert optimizer.refreshes == 3
    assert not torch.equal(theta(ours), theta(theirs))


def test_weights_and_curvature_may_be_set_between_steps():
    model = mlp()
    optimizer = SubspaceSGD(model.parameters(), 0.1, k=2)
    train(model, optimizer, range(3))
    optimizer.alpha_dom = 0.0
    with pytest.raises(InputError, match="`curvature` must be set first"):
        train(model, optimizer, range(3, 4))
    with pytest.raises(InputError, match="curvature must be"):
        optimizer.curvature = "holdout"  # type: ignore[assignment]
    optimizer.curvature = objective(model)
    train(model, optimizer, range(3, 4))
    assert (optimizer.steps, optimizer.refreshes) == (4, 1)


# ---------------------------------------------------------------- refreshes
def test_what_refreshes_found_is_visible():
    model = mlp()
    optimizer = bulk_sgd(model)
    assert (optimizer.last_refresh, optimizer.refreshes, optimizer.products) == (None, 0, 0)
    found: list[Refresh] = []
    for step in range(7):
        train(model, optimizer, range(step, step + 1))
        assert optimizer.last_refresh is not None
        if not found or found[-1].step != optimizer.last_refresh.step:
            found.append(optimizer.last_refresh)
    assert [refresh.step for refresh in found] == [0, 3, 6]
    assert sum(refresh.products for refresh in found) == optimizer.products
    assert (optimizer.refreshes, optimizer.unconverged_refreshes) == (3, 0)
    assert found[0].overlap != found[0].overlap, "NaN: there was none before"
    assert all(0.5 < refresh.overlap <= 1.001 and refresh.converged for refresh in found[1:])
    assert found[0].eigenvalues.shape == (2,)


def test_an_unconverged_refresh_is_counted(monkeypatch):
    monkeypatch.setattr(subspace_filter, "top_eigenspace", partial(top_eigenspace, max_products=4))
    model = mlp()
    optimizer = bulk_sgd(model, tolerance=1e-6)
    train(model, optimizer, range(4))
    assert (optimizer.refreshes, optimizer.unconverged_refreshes, optimizer.products) == (2, 2, 8)
    assert optimizer.last_refresh is not None
    assert not optimizer.last_refresh.converged


@pytest.mark.parametrize("kind", ["objective", "closure"])
def test_curvature_leaves_gradients_alone(kind):
    model = mlp()
    optimizer = bulk_sgd(model, objective(model) if kind == "objective" else None)
    loss(model, slice(20)).backward()
    before = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    with torch.no_grad():
        optimizer.step()
    assert optimizer.refreshes == 1
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), before, strict=True))
    assert all(p.requires_grad and p.grad_fn is None for p in model.parameters())


@pytest.mark.parametrize("kind", ["objective", "closure"])
def test_curvature_that_is_not_finite_changes_nothing(kind):
    """Once it is finite again, training continues as if nothing had happened."""
    scale = torch.ones(())

    def scaled(model: nn.Module) -> Tensor:
        return scale * loss(model)

    def make(model: nn.Module) -> SubspaceSGD:
        curvature: Any = partial(scaled, model)
        if kind == "objective":
            curvature = Objective(model, lambda f, y: scale * (f - y).pow(2).sum(1), INPUTS[HOLDOUT], TARGETS[HOLDOUT])
        return bulk_sgd(model, curvature, momentum=0.9)

    model, uninterrupted = mlp(), mlp()
    optimizer = make(model)
    before = train(model, optimizer, range(3))
    state = copy.deepcopy(optimizer.state_dict())
    scale.fill_(float("inf"))
    with pytest.raises(NonFiniteProductError, match=r"step 3: the curvature is not finite \(product 1 .*nothing was"):
        train(model, optimizer, range(3, 4))
    assert torch.equal(theta(model), before)
    assert_same(optimizer.state_dict(), state)
    scale.fill_(1.0)
    assert torch.equal(train(model, optimizer, range(3, 8)), train(uninterrupted, make(uninterrupted), range(8)))


def assert_same(a: Any, b: Any) -> None:
    """Nested dictionaries and lists with equal tensors in them."""
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    elif isinstance(a, Tensor):
        assert torch.equal(a, b)
    else:
        assert a == b or (a != a and b != b)


def backward_too(model: nn.Module) -> Tensor:
    value = loss(model)
    value.backward()
    return value


@pytest.mark.parametrize(
    ("closure", "message"),
    [
        (lambda model: loss(model).item(), "must return the loss as a scalar tensor, not float"),
        (lambda model: model(INPUTS), r"must return the loss as a scalar tensor, not \[60, 2\]"),
        (lambda model: loss(model).detach(), "depends on none of the parameters"),
        (lambda model: loss(mlp(1)), "depends on none of the parameters"),
        (torch.no_grad()(loss), "depends on none of the parameters"),
        (backward_too, r"without calling backward\(\)"),
    ],
)
def test_a_closure_that_is_no_loss_of_these_parameters(closure: Callable[[nn.Module], Any], message: str):
    model = mlp()
    before = theta(model)
    with pytest.raises(InputError, match=message):
        train(model, bulk_sgd(model, partial(closure, model)), range(1))
    assert torch.equal(theta(model), before)


def test_what_a_loss_hessian_cannot_multiply():
    model = mlp()
    with pytest.raises(InputError, match="parameters must all share one dtype and device: none"):
        LossHessian(partial(loss, model), [])
    with pytest.raises(InputError, match="a parameter occurs twice"):  # H v would be wrong without a word
        LossHessian(partial(loss, model), [*model.parameters(), model[0].weight])
    operator = LossHessian(partial(loss, model), model.parameters())
    with pytest.raises(InputError, match=r"expected a tensor \[37, 'K'\] of torch.float32"):
        operator.matmat(torch.ones(36, 2))
    with pytest.raises(InputError, match=r"expected a tensor \[37\] of torch.float32"):
        operator.matvec(torch.ones(37, dtype=torch.float64))


def test_more_eigenvectors_than_parameters():
    """All of R^P is dominant then: Bulk-SGD stands still."""
    model = nn.Linear(4, 1)
    optimizer = SubspaceSGD(
        model.parameters(), 0.1, alpha_dom=0.0, curvature=lambda: (model(INPUTS) - TARGETS[:, :1]).square().mean(), k=10
    )
    before = theta(model)
    model(INPUTS).square().mean().backward()
    optimizer.step()
    assert torch.equal(theta(model), before)


# ---------------------------------------------------------------- schedulers, clipping, hooks
SCHEDULERS: dict[str, Callable[[torch.optim.Optimizer], Any]] = {  # ReduceLROnPlateau has a test of its own
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda step: 1 / (1 + step)),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda step: 0.9),
    "StepLR": lambda o: lr_scheduler.StepLR(o, 3),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [2, 5]),
    "ConstantLR": lambda o: lr_scheduler.ConstantLR(o, 0.5, 4),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o, 0.1),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.8),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, 8),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 8),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.2, 3),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.2, total_steps=12),
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(o, 0.5, 3), lr_scheduler.ExponentialLR(o, 0.9)], optimizer=o
    ),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o, 0.1, 2), lr_scheduler.ExponentialLR(o, 0.9)], milestones=[4]
    ),
    "SWALR": lambda o: swa_utils.SWALR(o, swa_lr=0.01, anneal_epochs=4),
}


def test_all_schedulers_are_listed():
    every = {name for name in lr_scheduler.__all__ if name not in ("LRScheduler", "ReduceLROnPlateau")}
    assert every <= SCHEDULERS.keys()


@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedulers(name):
    """The learning rates, momenta and steps are bit-identical to SGD's, and then to those of Bulk-SGD."""
    ours, theirs = mlp(), mlp()
    optimizer = bulk_sgd(ours, momentum=0.9, alpha_dom=lambda step: 1.0 if step < 6 else 0.0)
    reference = torch.optim.SGD(theirs.parameters(), 0.1, momentum=0.9)
    pair = [(ours, optimizer, SCHEDULERS[name](optimizer)), (theirs, reference, SCHEDULERS[name](reference))]
    for step in range(10):
        paths = [train(model, o, range(step, step + 1), scheduler) for model, o, scheduler in pair]
        assert torch.equal(*paths) == (step < 6)
        for key in ("lr", "momentum"):
            assert optimizer.param_groups[0][key] == reference.param_groups[0][key]
    # At step 9, PolynomialLR is at 0, and an update of zero needs no refresh.
    assert optimizer.refreshes == (1 if name == "PolynomialLR" else 2)


def test_reduce_on_plateau():
    model = mlp()
    optimizer = bulk_sgd(model)
    scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
    for step in range(3):
        train(model, optimizer, range(step, step + 1))
        scheduler.step(1.0)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * 0.1**2)


def test_the_update_is_proportional_to_the_learning_rate():
    moved = []
    for lr in (0.1, torch.tensor(0.1), 0.05):
        model = mlp()
        moved.append(train(model, bulk_sgd(model, lr=lr), range(1)) - theta(mlp()))
    assert torch.equal(moved[0], moved[1])
    torch.testing.assert_close(moved[0], 2 * moved[2])


def test_gradients_are_clipped_before_the_filter():
    steps = []
    for largest in (0.01, 0.02):
        model = mlp()
        optimizer = bulk_sgd(model)
        loss(model, slice(20)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), largest)
        optimizer.step()
        steps.append(theta(model) - theta(mlp()))
    assert float(steps[0].norm()) <= 0.1 * 0.01
    torch.testing.assert_close(steps[1], 2 * steps[0], rtol=1e-3, atol=5e-7)  # θ is rounded to 1e-7


@pytest.mark.parametrize("alpha_dom", [0.0, 1.0])
def test_step_hooks_are_called_once(alpha_dom):
    model = mlp()
    torch.optim.SGD(model.parameters(), 0.1)  # PyTorch puts hooks around a class's step when it is first used
    optimizer = bulk_sgd(model, alpha_dom=alpha_dom)
    calls: list[str] = []
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    train(model, optimizer, range(2))
    assert calls == ["before", "after"] * 2


@pytest.mark.parametrize("alpha_dom", [0.0, 1.0])
def test_a_closure_handed_to_step(alpha_dom):
    """Evaluated once, before the update and with gradients enabled; its value comes back."""
    model, other = mlp(), mlp()
    optimizer = bulk_sgd(model, alpha_dom=alpha_dom)
    calls: list[bool] = []

    def closure() -> Tensor:
        calls.append(torch.is_grad_enabled())
        optimizer.zero_grad()
        value = loss(model, torch.randint(40, (8,), generator=torch.Generator().manual_seed(0)))
        value.backward()
        return value

    first = loss(model, torch.randint(40, (8,), generator=torch.Generator().manual_seed(0)))
    with torch.no_grad():
        assert torch.equal(optimizer.step(closure), first)
    assert calls == [True]
    assert torch.equal(theta(model), train(other, bulk_sgd(other, alpha_dom=alpha_dom), range(1)))


# ---------------------------------------------------------------- parameters without gradients
@pytest.mark.parametrize("kind", ["objective", "closure"])
def test_a_parameter_without_gradient_is_left_alone(kind):
    """As SGD leaves it: no step, no decay, no momentum; the others move as if its gradient were zero."""
    models, optimizers = [mlp(), mlp()], []
    for model in models:
        curvature = objective(model) if kind == "objective" else None
        optimizers.append(bulk_sgd(model, curvature, momentum=0.9, beta_bulk=0.5, alpha_dom=2.0))
        loss(model, slice(20)).backward()
    models[0][2].bias.grad = None
    models[1][2].bias.grad.zero_()
    for optimizer in optimizers:
        optimizer.step()
    assert torch.equal(models[0][2].bias, mlp()[2].bias)
    assert not torch.equal(models[1][2].bias, mlp()[2].bias), "zero is not none: the projection moves it"
    assert "momentum_buffer" not in optimizers[0].state[models[0][2].bias]
    for p, q in zip(list(models[0].parameters())[:-1], list(models[1].parameters())[:-1], strict=True):
        assert torch.equal(p, q)


def test_without_any_gradient_nothing_is_done():
    model = mlp()
    optimizer = bulk_sgd(model, weight_decay=0.1)
    optimizer.step()
    assert torch.equal(theta(model), theta(mlp()))
    assert (optimizer.steps, optimizer.refreshes) == (1, 0)


@pytest.mark.parametrize("kind", ["objective", "closure"])
def test_frozen_parameters_are_no_part_of_theta(kind):
    model = mlp()
    model[0].requires_grad_(False)
    optimizer = bulk_sgd(model, objective(model) if kind == "objective" else None)
    train(model, optimizer, range(4))
    assert torch.equal(theta(model[0]), theta(mlp()[0]))
    saved = optimizer.state_dict()["state"][0]["subspace"]
    assert list(saved["dominant"].shape) == [12, 2]
    alone = mlp()
    alone[0].requires_grad_(False)
    curvature: Any = objective(alone) if kind == "objective" else partial(loss, alone)
    few = SubspaceSGD(alone[2].parameters(), 0.1, alpha_dom=0.0, k=2, refresh_every=3, curvature=curvature)
    assert torch.equal(train(alone, few, range(4)), theta(model))


def test_a_parameter_unfrozen_later():
    model = mlp()
    model[0].requires_grad_(False)
    optimizer = bulk_sgd(model, objective(model))
    train(model, optimizer, range(2))
    model[0].requires_grad_(True)
    with pytest.raises(InputError, match="is not trained by the Objective"):
        train(model, optimizer, range(2, 3))
    optimizer.curvature = objective(model)
    train(model, optimizer, range(2, 3))
    assert optimizer.refreshes == 2, "another θ has another subspace, due or not"
    assert not torch.equal(theta(model[0]), theta(mlp()[0]))


def test_sparse_gradients_are_sgds_only():
    """Where both weights are 1 they are what they are there; elsewhere they are refused."""
    embedding = nn.Embedding(5, 2, sparse=True)
    plain = copy.deepcopy(embedding)
    optimizer = SubspaceSGD(
        embedding.parameters(),
        0.1,
        alpha_dom=lambda step: 1.0 if step < 1 else 0.0,
        curvature=lambda: embedding.weight.pow(4).sum(),
    )
    reference = torch.optim.SGD(plain.parameters(), 0.1)
    for e, o in ((embedding, optimizer), (plain, reference)):
        e(torch.tensor([1, 3])).square().sum().backward()
        o.step()
    assert torch.equal(embedding.weight, plain.weight)
    with pytest.raises(InputError, match="sparse gradients"):
        optimizer.step()
    assert torch.equal(embedding.weight, plain.weight)


# ---------------------------------------------------------------- checkpoints and copies
@pytest.mark.parametrize("kind", ["objective", "closure"])
@pytest.mark.parametrize("at", [0, 1, 3, 5, 8])
def test_a_resumed_optimizer_goes_on_to_the_bit(kind, at):
    """Between refreshes, at one, and where a schedule has (1, 1)."""

    def make(model: nn.Module) -> tuple[SubspaceSGD, Any]:
        optimizer = bulk_sgd(
            model,
            objective(model) if kind == "objective" else None,
            momentum=0.9,
            weight_decay=0.01,
            alpha_dom=lambda step: 1.0 if step in (0, 4, 5) else 0.5**step,
        )
        return optimizer, lr_scheduler.ExponentialLR(optimizer, 0.95)

    straight, first, second = mlp(), mlp(), mlp(1)
    optimizer, scheduler = make(straight)
    expected = train(straight, optimizer, range(12), scheduler)
    before, scheduler_before = make(first)
    train(first, before, range(at), scheduler_before)
    saved = through_a_file(
        {"model": first.state_dict(), "optimizer": before.state_dict(), "scheduler": scheduler_before.state_dict()}
    )
    after, scheduler_after = make(second)
    train(second, after, range(20, 22))  # whatever was there before is replaced
    second.load_state_dict(saved["model"])
    after.load_state_dict(saved["optimizer"])
    scheduler_after.load_state_dict(saved["scheduler"])
    assert_same(after.state_dict(), before.state_dict())
    assert torch.equal(train(second, after, range(at, 12), scheduler_after), expected)
    assert_same(after.state_dict(), optimizer.state_dict())
    assert after.steps == 12
    assert_same(vars(after.last_refresh), vars(optimizer.last_refresh))


def test_a_checkpoint_in_memory_shares_no_counts():
    model, other = mlp(), mlp()
    optimizer, copied = bulk_sgd(model), bulk_sgd(other)
    train(model, optimizer, range(4))
    other.load_state_dict(model.state_dict())
    copied.load_state_dict(optimizer.state_dict())
    train(model, optimizer, range(4, 8))
    assert (copied.steps, copied.refreshes) == (4, 2)
    assert torch.equal(train(other, copied, range(4, 8)), theta(model))


@pytest.mark.parametrize(
    ("other", "k", "message"),
    [
        (mlp, 3, r"the subspace to load has size \[37, 2\] \[P, k\], but this optimizer needs size \[37, 3\]"),
        (lambda: nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)), 2, r"this optimizer needs size \[44, 2\]"),
    ],
)
def test_a_subspace_of_another_size_is_refused(other, k, message):
    model, target = mlp(), other()
    saved = bulk_sgd(model)
    train(model, saved, range(2))
    optimizer = bulk_sgd(target, k=k)
    train(target, optimizer, range(4))
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(InputError, match=message):
        optimizer.load_state_dict(saved.state_dict())
    assert_same(optimizer.state_dict(), before)


def test_a_subspace_in_another_order_is_refused():
    """A closure's θ is in the order of the groups, an Objective's in that of the model."""
    model = mlp()
    backwards = list(model.parameters())[::-1]
    saved = SubspaceSGD(backwards, 0.1, alpha_dom=0.0, k=2, curvature=objective(model))
    train(model, saved, range(1))
    with pytest.raises(InputError, match="has its parameters in another order"):
        SubspaceSGD(backwards, 0.1, alpha_dom=0.0, k=2, curvature=partial(loss, model)).load_state_dict(
            saved.state_dict()
        )
    SubspaceSGD(backwards, 0.1, alpha_dom=0.0, k=2, curvature=objective(model)).load_state_dict(saved.state_dict())


def test_a_checkpoint_of_another_version_is_refused():
    model = mlp()
    optimizer = bulk_sgd(model)
    train(model, optimizer, range(1))
    state = copy.deepcopy(optimizer.state_dict())
    del state["state"][0]["subspace"]["products"]
    with pytest.raises(InputError, match="comes from another version of SubspaceSGD"):
        optimizer.load_state_dict(state)


def test_checkpoints_of_sgd_are_exchanged():
    """Its momentum continues, and counts begin at zero."""
    ours, theirs = mlp(), mlp()
    reference = torch.optim.SGD(theirs.parameters(), 0.1, momentum=0.9)
    ours.load_state_dict({name: p.clone() for name, p in theirs.state_dict().items()})
    train(theirs, reference, range(3))
    ours.load_state_dict(theirs.state_dict())
    optimizer = SubspaceSGD(ours.parameters(), 0.5)
    optimizer.load_state_dict(through_a_file(reference.state_dict()))
    assert (optimizer.steps, optimizer.param_groups[0]["lr"]) == (0, 0.1)
    expected = train(theirs, reference, range(3, 6))
    assert torch.equal(train(ours, optimizer, range(3, 6)), expected)
    reference.load_state_dict(through_a_file(optimizer.state_dict()))
    assert torch.equal(train(theirs, reference, range(6, 9)), train(ours, optimizer, range(6, 9)))


def test_a_deep_copy_goes_on_by_itself():
    model = mlp()
    optimizer = bulk_sgd(model, objective(model), momentum=0.9)
    scheduler = lr_scheduler.StepLR(optimizer, 100)
    train(model, optimizer, range(4), scheduler)
    other, copied = copy.deepcopy((model, optimizer))
    train(other, copied, range(4, 8))
    assert (optimizer.steps, copied.steps) == (4, 8)
    assert not torch.equal(theta(other), theta(model))
    assert torch.equal(train(model, optimizer, range(4, 8), scheduler), theta(other))
    assert_same(copied.state_dict()["state"], optimizer.state_dict()["state"])


def test_a_copys_closure_still_evaluates_the_first_model():
    """`copy.deepcopy` leaves functions as they are: said at the next refresh, and mended by setting `curvature`."""
    model = mlp()
    optimizer = SubspaceSGD(model.parameters(), 0.1, alpha_dom=0.0, k=2, refresh_every=3, curvature=lambda: loss(model))
    train(model, optimizer, range(3))
    other, copied = copy.deepcopy((model, optimizer))
    with pytest.raises(InputError, match="depends on none of the parameters"):
        train(other, copied, range(3, 4))
    copied.curvature = lambda: loss(other)
    assert torch.equal(train(other, copied, range(3, 8)), train(model, optimizer, range(3, 8)))


@pytest.mark.parametrize("kind", ["objective", "closure"])
def test_a_group_added_later(kind):
    model = mlp()
    model[2].requires_grad_(False)
    curvature: Any = objective(model) if kind == "objective" else partial(loss, model)
    optimizer = SubspaceSGD(model[0].parameters(), 0.1, alpha_dom=0.0, k=2, refresh_every=50, curvature=curvature)
    train(model, optimizer, range(2))
    model[2].requires_grad_(True)
    optimizer.add_param_group({"params": model[2].parameters(), "lr": 0.05})
    if kind == "objective":
        with pytest.raises(InputError, match="is not trained by the Objective"):
            train(model, optimizer, range(2, 3))
        optimizer.curvature = objective(model)
    train(model, optimizer, range(2, 5))
    assert (optimizer.steps, optimizer.refreshes) == (5, 2)
    assert not torch.equal(theta(model[2]), theta(mlp()[2]))
    state = through_a_file(optimizer.state_dict())
    assert list(state["state"][0]["subspace"]["dominant"].shape) == [37, 2]
    optimizer.load_state_dict(state)


def test_named_parameters_are_welcome():
    model, other = mlp(), mlp()
    named = SubspaceSGD(model.named_parameters(), 0.1, alpha_dom=0.0, k=2, curvature=objective(model))
    plain = SubspaceSGD(other.parameters(), 0.1, alpha_dom=0.0, k=2, curvature=objective(other))
    assert torch.equal(train(model, named, range(3)), train(other, plain, range(3)))


def test_an_optimizer_without_parameters():
    optimizer = SubspaceSGD([{"params": []}], 0.1)
    with pytest.raises(InputError, match="the optimizer has no parameters"):
        optimizer.step()


# ---------------------------------------------------------------- the example
EXAMPLE = ROOT / "examples" / "subspace_sgd.py"


def code(text: str) -> list[str]:
    """Lines of code: without the docstring, blank lines and whole-line comments."""
    text = re.sub(r'\A""".*?"""\n', "", text, flags=re.S)
    return [line for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]


def test_the_example_is_short_and_in_the_documentation():
    lines = code(EXAMPLE.read_text(encoding="utf-8"))
    assert len(lines) <= 20
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "optimizer.md").read_text(encoding="utf-8"), re.S)
    assert lines in [code(block) for block in blocks]


@pytest.mark.slow
def test_the_example_shows_what_the_paper_says(tmp_path):
    """Dom-SGD stalls where SGD and Bulk-SGD continue; SGD computes no curvature."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(EXAMPLE)], cwd=tmp_path, env=environment, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = {
        (name, int(step)): (float(loss), int(products))
        for name, step, loss, products in re.findall(
            r"^([\w-]+), step (\d+): training loss ([\d.]+), (\d+) Hessian products$", done.stdout, re.M
        )
    }
    assert len(found) == 6
    for name in ("SGD", "Bulk-SGD"):
        assert found[name, 600][0] < 0.7 * found[name, 200][0]
    assert found["Dom-SGD", 600][0] > 0.9 * found["Dom-SGD", 200][0]
    assert found["SGD", 600][1] == 0
    for name in ("Dom-SGD", "Bulk-SGD"):
        assert (found[name, 200][1], found[name, 600][1] > 0) == (0, True)
