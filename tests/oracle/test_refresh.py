"""Refreshes as often as an accuracy needs: against a subspace that turns by a known angle each step."""

from __future__ import annotations

import dataclasses
import itertools
import math
import warnings
from functools import partial

import pytest
import torch
from torch import nn

from sharpflat import (
    CurvatureWarning,
    DominantSubspace,
    Hessian,
    InputError,
    Objective,
    SubspaceFilter,
    SubspaceSGD,
)
from sharpflat.optim.memory import Conditions, nothing_yet
from sharpflat.optim.refresh import LONGEST, RefreshRule
from sharpflat.optim.subspace_filter import filter_update

P = 6


class Turned:
    """diag(4, 1, 0, …) turned by an angle in the plane of the axes 1 and 3: the second eigenvector turns with it."""

    size, dtype, device = P, torch.float64, torch.device("cpu")

    def __init__(self, angle: float) -> None:
        turn = torch.eye(P, dtype=torch.float64)
        c, s = math.cos(angle), math.sin(angle)
        turn[1, 1], turn[1, 3], turn[3, 1], turn[3, 3] = c, -s, s, c
        self.basis = turn[:, :2]
        self.matrix = turn @ torch.diag(torch.tensor([4.0, 1, 0, 0, 0, 0], dtype=torch.float64)) @ turn.T

    def matmat(self, V: torch.Tensor, /) -> torch.Tensor:
        return self.matrix @ V


UPDATE = torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, 1.0], dtype=torch.float64)
WEIGHTS = {"dom": (1.0, 0.0), "bulk": (0.0, 1.0), "both": (0.3, 1.2)}


def run(angles, weights, **rule):
    """The refreshes, and of each step the error of the filtered update and the overlap, against the true subspace."""
    alpha, beta = WEIGHTS[weights]
    subspace = SubspaceFilter(k=2, tolerance=1e-12, **rule)
    refreshes, errors, overlaps = [], [], []
    for step, angle in enumerate(angles):
        exact = Turned(angle)
        found, refresh = subspace.apply(UPDATE, step, lambda exact=exact: exact, alpha_dom=alpha, beta_bulk=beta)
        if refresh is not None:
            refreshes.append(refresh)
        true = exact.basis @ exact.basis.T @ UPDATE
        true = alpha * true + beta * (UPDATE - true)
        errors.append(float((found - true).norm() / true.norm()))
        overlaps.append(float((subspace.dominant.T @ exact.basis).square().sum()) / 2)
    return refreshes, errors, overlaps


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("pace", [1e-4, 1e-3, 1e-2, 0.1])
def test_every_filtered_update_is_as_exact_as_asked_for(weights, pace):
    angles = [pace * step for step in range(300)]
    refreshes, errors, _ = run(angles, weights, refresh_error=0.03)
    assert max(errors) <= 0.03 * 1.1  # of a turn that is not quite even: the update is another one at another angle
    assert all(r.kept for r in refreshes) or max(errors) > 0.03 * 0.99
    expected = {1e-4: 20, 1e-3: 50, 1e-2: 200, 0.1: 300}  # at most
    assert len(refreshes) <= expected[pace]


@pytest.mark.parametrize("pace", [1e-4, 1e-3, 1e-2, 0.1])
def test_every_subspace_in_use_overlaps_as_asked_for(pace):
    angles = [pace * step for step in range(300)]
    refreshes, _, overlaps = run(angles, "dom", refresh_overlap=0.999)
    assert min(overlaps) >= 0.999 - 1e-12
    steps = min(1 + math.floor(math.asin(math.sqrt(2e-3)) / pace), LONGEST)  # of so many, the last is just within it
    assert steps - 2 <= refreshes[-1].interval <= steps
    assert all(r.kept for r in refreshes)


class Crowded(Turned):
    """diag(4, 1, 0.98, …, 0.94, 0, …): a power step hardly turns the second eigenvector against the next five."""

    def __init__(self) -> None:
        self.matrix = torch.diag(torch.tensor([4.0, 1, 0.98, 0.97, 0.96, 0.95, 0.94, *[0] * 13], dtype=torch.float64))
        self.basis = torch.eye(20, dtype=torch.float64)[:, :2]

    size = 20


@pytest.mark.parametrize("rule", [{"refresh_error": 0.1}, {"refresh_overlap": 0.99}])
def test_a_subspace_that_a_power_step_hardly_turns_is_not_taken_for_accurate(rule):
    operator, axes = Crowded(), torch.eye(20, dtype=torch.float64)
    start = axes[:, :4].clone()
    start[:, 1] = math.cos(0.5) * axes[:, 1] + math.sin(0.5) * axes[:, 2:7].sum(1) / math.sqrt(5)
    start[:, 2] = (axes[:, 2] - axes[:, 3]) / math.sqrt(2)
    start[:, 3] = (axes[:, 5] - axes[:, 6]) / math.sqrt(2)
    update = torch.ones(20, dtype=torch.float64)
    subspace = SubspaceFilter(k=2, tolerance=1e-6, start=start, **rule)
    found, refresh = subspace.apply(update, 0, lambda: operator, alpha_dom=1.0, beta_bulk=0.0)
    stepped = torch.linalg.qr(operator.matrix @ start[:, :2])[0]
    before = start[:, :2] @ (start[:, :2].T @ update)
    after = stepped @ (stepped.T @ update)
    assert float((before - after).norm() / after.norm()) < 0.05, "the test needs a step that changes little"
    exact = operator.basis @ (operator.basis.T @ update)
    assert float((found - exact).norm() / exact.norm()) < 0.1
    assert refresh.converged
    assert refresh.products > 4


@pytest.mark.parametrize("rule", [{"refresh_error": 0.05}, {"refresh_overlap": 0.99}, {"refresh_every": 1}])
@pytest.mark.parametrize("kind", ["four copies", "close eigenvalues"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_first_refresh_finds_every_eigenvector(rule, kind, seed):
    """From random vectors, where a power step changes little although some eigenvectors are missing."""
    torch.manual_seed(seed)
    inputs = torch.randn(100, 10, dtype=torch.float64) * torch.linspace(1, 2, 10, dtype=torch.float64)
    if kind == "four copies":
        model = nn.Linear(10, 4, bias=False).double()  # its Hessian is a multiple of I_4 ⊗ XᵀX
    else:
        model = nn.Sequential(nn.Linear(10, 60), nn.Tanh(), nn.Linear(60, 4)).double()
    objective = Objective(model, "mse", inputs, torch.randint(4, (100,)))
    hessian = Hessian(objective, objective.theta)
    dense = hessian @ torch.eye(objective.size, dtype=torch.float64)
    true = DominantSubspace(torch.linalg.eigh((dense + dense.T) / 2).eigenvectors[:, -4:].contiguous())
    update = objective.gradient(objective.theta)
    subspace = SubspaceFilter(k=4, tolerance=0.05, **rule)
    found, refresh = subspace.apply(update, 0, lambda: hessian, alpha_dom=0.0, beta_bulk=1.0)
    exact = true.project_out(update)
    assert refresh is not None
    assert refresh.converged
    assert subspace.dominant is not None
    assert DominantSubspace(subspace.dominant).overlap(true) > 0.99
    assert float((found - exact).norm()) <= 0.05 * float(exact.norm())


def test_a_subspace_that_turns_too_fast_is_found_anew_at_each_step():
    refreshes, errors, _ = run([0.3 * step for step in range(20)], "bulk", refresh_error=0.05)
    assert [r.step for r in refreshes] == list(range(20))
    assert max(errors) < 1e-9
    assert all(r.kept for r in refreshes)  # no step was made with an old one


def test_a_subspace_that_begins_to_turn_is_a_miss_and_followed_closely():
    angles = [0.0] * 60 + [0.02 * step for step in range(120)]
    refreshes, *_ = run(angles, "dom", refresh_overlap=0.999)
    missed = [r for r in refreshes if not r.kept]
    assert 1 <= len(missed) <= 2  # the first may see no more than the turn's first steps
    after = refreshes[refreshes.index(missed[-1]) + 1 :]
    assert after[0].interval < missed[-1].interval / 4  # at once, not by halves
    assert 60 < missed[0].step <= 60 + LONGEST
    assert max(r.interval for r in after) <= 4


class Planted:
    """Eigenvalues 3, 2.5 and 2 above a bulk up to 1, in turned axes."""

    size, dtype, device = 60, torch.float64, torch.device("cpu")

    def __init__(self, turned: float = 0.0) -> None:
        random = torch.randn(2, 60, 60, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        axes = torch.linalg.qr(random[0])[0] @ torch.linalg.matrix_exp(turned * (random[1] - random[1].T))
        values = torch.cat([torch.tensor([3.0, 2.5, 2.0]), torch.linspace(1, -0.5, 57)]).double()
        self.matrix, self.basis = axes @ torch.diag(values) @ axes.T, axes[:, :3]

    def matmat(self, V: torch.Tensor, /) -> torch.Tensor:
        return self.matrix @ V


@pytest.mark.parametrize(
    ("rule", "leaves"),
    [({"refresh_error": 0.05}, 0.05), ({"refresh_overlap": 0.99}, None), ({"refresh_every": 1}, 1e-9)],
)
def test_the_eigensolver_works_no_harder_than_the_bound_needs(rule, leaves):
    planted = Planted(turned=0.01)
    update = planted.matrix @ torch.linspace(-1, 1, 60, dtype=torch.float64)
    numbers = {"k": 3, "tolerance": 1e-10}
    subspace, exact = SubspaceFilter(**numbers, **rule), SubspaceFilter(**numbers, refresh_every=1)
    firsts = [one.apply(update, 0, Planted, alpha_dom=0.0, beta_bulk=1.0)[1] for one in (subspace, exact)]
    assert firsts[0].products == firsts[1].products  # from a random start every eigenvector has to be found
    found, refresh = subspace.apply(update, 1, lambda: planted, alpha_dom=0.0, beta_bulk=1.0)
    _, whole = exact.apply(update, 1, lambda: planted, alpha_dom=0.0, beta_bulk=1.0)
    assert refresh.converged
    assert refresh.products == whole.products if "refresh_every" in rule else refresh.products < 0.8 * whole.products
    true = DominantSubspace(planted.basis)
    if leaves is not None:
        bulk = true.project_out(update)
        assert float((found - bulk).norm() / bulk.norm()) <= leaves
    assert true.overlap(DominantSubspace(subspace.dominant)) >= rule.get("refresh_overlap", 0.9)


def test_an_interval_doubles_at_most_and_has_an_end():
    intervals = [r.interval for r in run([0.0] * 500, "dom", refresh_error=0.1)[0]]
    assert intervals == [0, 1, 3, 7, 15, 31, 63, LONGEST, LONGEST, LONGEST]


@pytest.mark.parametrize("rule", [{"refresh_error": 0.05}, {"refresh_overlap": 0.999}])
def test_a_subspace_that_returns_after_two_steps_is_seen_in_both_phases(rule):
    """As at the edge of stability, where a refresh after an even number of steps finds what it left."""
    refreshes, errors, overlaps = run([0.2 * (step % 2) for step in range(60)], "dom", **rule)
    assert len(refreshes) == 60
    assert max(errors) < 1e-9
    assert min(overlaps) > 1 - 1e-9
    assert all(r.interval % 2 for r in refreshes[1:])


@pytest.mark.parametrize("rule", [{"refresh_error": 0.03}, {"refresh_overlap": 0.999}])
def test_what_is_recorded_is_what_the_two_subspaces_differ_by(rule):
    angles = [1e-2 * step + 1e-5 * step**2 for step in range(60)]
    refreshes = run(angles, "both", **rule)[0]
    for before, after in itertools.pairwise(refreshes):
        old, new = Turned(angles[before.step]).basis, Turned(angles[after.step]).basis
        weights = {"alpha_dom": 0.3, "beta_bulk": 1.2}
        exact = filter_update(UPDATE, DominantSubspace(new), **weights)
        stale = filter_update(UPDATE, DominantSubspace(old), **weights)
        assert after.interval == after.step - before.step
        assert after.error == pytest.approx(float((stale - exact).norm() / exact.norm()), rel=1e-6)
        assert after.overlap == pytest.approx(float((old.T @ new).square().sum()) / 2, rel=1e-9)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({}, "exactly one of refresh_every, refresh_error and refresh_overlap"),
        ({"refresh_every": 1, "refresh_error": 0.1}, "exactly one"),
        ({"refresh_error": 0.0}, "refresh_error must be a finite number above 0, not 0.0"),
        ({"refresh_error": math.nan}, "refresh_error must be a finite number"),
        ({"refresh_error": "0.1"}, "refresh_error must be a finite number"),
        ({"refresh_overlap": 1.0}, "refresh_overlap must be a number between 0 and 1, not 1.0"),
        ({"refresh_overlap": True}, "refresh_overlap must be a number between"),
        ({"refresh_every": 0}, "refresh_every must be an integer of at least 1"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(rule, message):
    with pytest.raises(InputError, match=message):
        SubspaceFilter(k=2, tolerance=0.1, **rule)
    if rule:
        with pytest.raises(InputError, match=message):
            SubspaceSGD([torch.zeros(3, requires_grad=True)], 0.1, alpha_dom=0.0, curvature=lambda: None, **rule)


def test_the_steps_in_which_no_subspace_was_used_count_for_nothing():
    # planned for 2 steps and refreshed after 50, in which the weights were equal: it was at most one step old when used
    assert RefreshRule(error=0.1).next(50, 2, error=1.0, overlap=0.5) == (True, 5)
    assert RefreshRule(error=0.1).next(50, 50, error=1.0, overlap=0.5) == (False, 5)
    # They say nothing of the steps to come either: the interval grows from the planned one.
    assert RefreshRule(error=0.1).next(50, 2, error=0.0, overlap=1.0) == (True, 5)


@pytest.mark.parametrize("rule", [{"refresh_error": 0.05}, {"refresh_overlap": 0.999}, {"refresh_every": 1}])
def test_an_update_of_zero_makes_no_refresh(rule):
    """It has no error with any subspace, so the interval would grow."""
    subspace = SubspaceFilter(k=2, tolerance=1e-6, **rule)
    weights = {"alpha_dom": 0.0, "beta_bulk": 1.0}
    for step in range(10):
        update = UPDATE if step in (0, 9) else torch.zeros_like(UPDATE)
        filtered, refresh = subspace.apply(update, step, lambda: Turned(0.0), **weights)
        assert (refresh is not None) == (step in (0, 9))
        assert bool(filtered.any()) == (step in (0, 9))
    assert subspace.interval <= 3


# ---------------------------------------------------------------- the optimizer


def turning(optimized, pace):
    """A closure whose Hessian's second eigenvector turns with the first parameter: θ_0 is moved on by hand."""

    def loss():
        theta = optimized[0]
        angle = pace * theta[5].detach()
        return 0.5 * theta @ Turned(float(angle)).matrix @ theta

    return loss


def stepped(optimizer, theta, count, pace):
    for _ in range(count):
        theta.grad = torch.ones_like(theta) * 1e-3
        optimizer.step()
        with torch.no_grad():
            theta[5] += pace


def test_the_optimizer_refreshes_as_an_accuracy_needs_and_resumes_to_the_bit():
    def made():
        theta = torch.ones(P, dtype=torch.float64, requires_grad=True)
        held = [theta]
        numbers = {"alpha_dom": 0.0, "beta_bulk": 1.0, "k": 2, "refresh_overlap": 0.9995, "tolerance": 1e-10}
        return theta, SubspaceSGD([theta], 0.1, curvature=turning(held, 0.01), **numbers)

    theta, optimizer = made()
    stepped(optimizer, theta, 40, 1.0)
    assert 5 < optimizer.refreshes < 25
    assert optimizer.missed_refreshes == 0
    half, first = made()
    stepped(first, half, 23, 1.0)
    resumed, second = made()
    with torch.no_grad():
        resumed.copy_(half)
    second.load_state_dict(first.state_dict())
    stepped(second, resumed, 17, 1.0)
    assert torch.equal(resumed, theta)
    assert (second.refreshes, second.last_refresh.interval) == (optimizer.refreshes, optimizer.last_refresh.interval)


def test_the_optimizer_says_once_that_a_subspace_was_used_too_long():
    theta = torch.ones(P, dtype=torch.float64, requires_grad=True)
    numbers = {"alpha_dom": 0.0, "beta_bulk": 1.0, "k": 2, "refresh_error": 0.01, "tolerance": 1e-10}
    optimizer = SubspaceSGD([theta], 0.1, curvature=turning([theta], 0.01), **numbers)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stepped(optimizer, theta, 40, 0.0)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for pace in (3.0, 0.0, 3.0):
            stepped(optimizer, theta, 120, pace)
    assert [one.category for one in said] == [CurvatureWarning]
    assert "used for too long to meet the requested accuracy" in str(said[0].message)
    assert "missed_refreshes" in str(said[0].message)
    assert optimizer.missed_refreshes >= 2


# ---------------------------------------------------------------- what changes between steps


def watched(optimizer, model, loss, k=3):
    """A list to which each step adds the error of its filtered update, against the dense Hessian's eigenvectors."""
    errors, filtered = [], optimizer._filter

    def compared(update, theta, step, alpha_dom, beta_bulk):
        found = filtered(update, theta, step, alpha_dom, beta_bulk)
        objective = Objective(model, loss, INPUTS, OUTPUTS)
        hessian = Hessian(objective, objective.theta) @ torch.eye(objective.size, dtype=torch.float64)
        basis = torch.linalg.eigh(hessian).eigenvectors[:, -k:]
        true = beta_bulk * update + (alpha_dom - beta_bulk) * (basis @ (basis.T @ update))
        errors.append(float((found - true).norm() / true.norm()))
        return found

    optimizer._filter = compared
    return errors


INPUTS = torch.randn(60, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
OUTPUTS = (INPUTS @ torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))).tanh()


def trained(steps, each, alpha_dom=0.0, beta_bulk=1.0, **numbers):
    """The errors of each step of a small network, and its optimizer. `each` is called before each step."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).double()

    def loss():
        return 0.5 * (model(INPUTS) - OUTPUTS).square().sum(1).mean()

    numbers = {"k": 3, "refresh_error": 0.05, "curvature": loss} | numbers
    optimizer = SubspaceSGD(model.parameters(), 0.1, alpha_dom=alpha_dom, beta_bulk=beta_bulk, **numbers)
    errors = watched(optimizer, model, "mse", numbers["k"])
    for step in range(steps):
        each(step, optimizer)
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    return errors, optimizer


@pytest.mark.filterwarnings("ignore::sharpflat.CurvatureWarning")
@pytest.mark.parametrize("pause", [0.0, 1e-9])
def test_an_interval_of_a_small_learning_rate_ends_when_it_grows(pause):
    def rate(step, optimizer):
        optimizer.param_groups[0]["lr"] = pause if 30 <= step < 75 else 0.1

    errors, optimizer = trained(90, rate)
    assert max(errors[75:]) < 0.06  # 0.75 and 0.97 without
    assert optimizer.refreshes < 50


def test_other_weights_make_a_refresh_due():
    def weights(step, optimizer):
        optimizer.alpha_dom, optimizer.beta_bulk = (0.97, 1.0) if step < 60 else (1.0, 0.0)

    errors, _ = trained(75, weights)
    assert max(errors[60:]) < 0.06  # 3.3 without


@pytest.mark.filterwarnings("ignore::sharpflat.CurvatureWarning")
def test_weights_that_hardly_change_make_no_refresh_due():
    def scaled(step, optimizer):
        optimizer.alpha_dom, optimizer.beta_bulk = 0.0, 1 + 0.5 * step

    plain = trained(12, lambda step, optimizer: None)[1]
    optimizer = trained(12, scaled, refresh_error=0.05)[1]
    assert optimizer.refreshes <= plain.refreshes + 4  # the updates grow, and the subspace turns faster
    conditions = Conditions((0.05, None), (0.0, 1.0), (0.1,))
    memory = nothing_yet() | {"conditions": dataclasses.asdict(conditions)}
    replaced = partial(dataclasses.replace, conditions)
    unchanged = [replaced(weights=(0.0, 2.0)), replaced(weights=(0.05, 1.0)), replaced(rates=(0.109,))]
    unchanged += [replaced(rates=(0.0,))]
    changed = [replaced(weights=(0.2, 1.0)), replaced(weights=(0.0, -1.0)), replaced(rates=(0.12,))]
    changed += [replaced(bound=(0.01, None)), replaced(bound=(None, 0.99))]
    assert not any(now.outdate(memory) for now in [conditions, *unchanged])
    assert all(now.outdate(memory) for now in changed)
    assert not replaced(bound=(None, None), rates=(9.0,)).outdate(memory)


def test_another_k_or_bound_counts_from_the_next_step_on():
    def more(step, optimizer):
        optimizer.k = 3 if step < 15 else 6

    errors, optimizer = trained(16, more, refresh_every=10, refresh_error=None)
    assert optimizer.last_refresh.step == 15
    assert len(optimizer.last_refresh.eigenvalues) == 6

    def stricter(step, optimizer):
        if step == 15:
            optimizer.refresh_every, optimizer.refresh_error = None, 0.01

    errors, optimizer = trained(60, stricter, refresh_every=100, refresh_error=None)
    assert max(errors[16:]) < 0.013  # 0.49 without


def test_a_warning_that_is_raised_leaves_the_optimizer_as_it_was():
    theta = torch.ones(P, dtype=torch.float64, requires_grad=True)
    numbers = {"alpha_dom": 0.0, "beta_bulk": 1.0, "k": 2, "refresh_error": 0.01, "tolerance": 1e-10}
    optimizer = SubspaceSGD([theta], 0.1, curvature=turning([theta], 0.01), **numbers)

    def state():
        counts = optimizer.steps, optimizer.refreshes, optimizer.products, optimizer.missed_refreshes
        return *counts, theta.tolist()

    def turn_until_it_raises():
        for _ in range(120):
            before[:] = state()
            stepped(optimizer, theta, 1, 3.0)

    before = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stepped(optimizer, theta, 40, 0.0)
        with pytest.raises(CurvatureWarning):
            turn_until_it_raises()
        assert before == list(state())
        stepped(optimizer, theta, 1, 3.0)
    assert optimizer.missed_refreshes == 1
