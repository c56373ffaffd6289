"""Rules that the papers do not have against torch's optimizers or transcriptions of the papers, in float64."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.linalg import fractional_matrix_power
from torch import nn

from analysis.models import build as build_model
from analysis.models.mlp import Numbers as MLPNumbers
from analysis.rules import build as build_rule
from analysis.rules.lion import Numbers as Lion
from analysis.rules.muon import Numbers as Muon
from analysis.rules.regularised import Numbers as Regularised
from analysis.rules.rmsprop import Numbers as RMSprop
from analysis.rules.shampoo import Numbers as Shampoo
from analysis.rules.signum import Numbers as Signum
from analysis.rules.weighed import Numbers as Weighed
from analysis.rules.weighed import weights
from sharpflat.curvature.objective import Objective
from sharpflat.errors import InputError

GENERATOR = torch.Generator().manual_seed(5)
X = torch.randn(9, 1, 3, 4, dtype=torch.float64, generator=GENERATOR)
Y = torch.arange(9) % 3
TARGETS = nn.functional.one_hot(Y, 3).double()
LR, STEPS = 0.01, 25
R = 0.125**0.5  # half of cos(π/4)
FULL = {"learning_rate": LR, "batch_size": None}


def model() -> nn.Module:
    return build_model(
        MLPNumbers(width=6, hidden_layers=1), (1, 3, 4), 3, torch.Generator().manual_seed(3), torch.float64
    )


def ours(numbers) -> torch.Tensor:
    """θ after some steps."""
    objective, rule = Objective(model(), "mse", X, Y, check=False), build_rule(numbers)
    theta = objective.theta
    state = rule.initial_state(theta)
    moment = SimpleNamespace(problem=SimpleNamespace(training=objective))
    for _ in range(STEPS):
        if hasattr(rule, "pieces"):
            rule.steer(moment, {})
        update, state = rule.update(theta, objective.gradient, state)
        theta = theta + update
    return theta


def theirs(step) -> torch.Tensor:
    """θ after `step(parameters)` as often, gradients in place."""
    net = model()
    for _ in range(STEPS):
        net.zero_grad()
        (0.5 * (net(X) - TARGETS).square().sum() / len(X)).backward()
        step(list(net.parameters()))
    return torch.cat([p.detach().flatten() for p in net.parameters()])


class Torchs:
    """torch's optimizers, made with the first step, of the parameters that `chosen` names."""

    def __init__(self, *made) -> None:
        self.made, self.optimizers = made, None

    def __call__(self, parameters) -> None:
        if self.optimizers is None:
            self.optimizers = [make([p for p in parameters if chosen(p)]) for chosen, make in self.made]
        for optimizer in self.optimizers:
            optimizer.step()


class Lions:
    """Chen et al., algorithm 2, in place, without weight decay."""

    def __init__(self) -> None:
        self.average: dict[int, torch.Tensor] = {}

    def __call__(self, parameters) -> None:
        with torch.no_grad():
            for p in parameters:
                m = self.average.setdefault(id(p), torch.zeros_like(p))
                p.sub_(LR * torch.sign(m.mul(0.9).add(p.grad, alpha=0.1)))
                m.mul_(0.99).add_(p.grad, alpha=0.01)


class Shampoos:
    """Gupta et al., algorithm 1, with SciPy's powers; a vector is a tensor of order one."""

    def __init__(self) -> None:
        self.sums: dict[int, list[np.ndarray]] = {}

    def __call__(self, parameters) -> None:
        for p in parameters:
            g = p.grad.numpy()
            if g.ndim == 1:
                (left,) = self.sums.setdefault(id(p), [1e-4 * np.eye(len(g))])
                left += np.outer(g, g)
                step = fractional_matrix_power(left, -0.5) @ g
            else:
                left, right = self.sums.setdefault(id(p), [1e-4 * np.eye(n) for n in g.shape])
                left += g @ g.T
                right += g.T @ g
                step = fractional_matrix_power(left, -0.25) @ g @ fractional_matrix_power(right, -0.25)
            p.data -= LR * torch.from_numpy(np.real(step))


def everything(parameter) -> bool:
    return True


CASES = {
    "sign descent": (
        Signum(**FULL),
        lambda: Torchs((everything, lambda p: torch.optim.Adam(p, LR, (0.0, 0.0), eps=1e-300))),
    ),
    "RMSprop": (RMSprop(**FULL), lambda: Torchs((everything, lambda p: torch.optim.RMSprop(p, LR)))),
    "Lion": (Lion(**FULL), Lions),
    "Shampoo": (Shampoo(**FULL, refresh=1), Shampoos),
    "Muon": (
        Muon(**FULL),
        lambda: Torchs(
            (lambda p: p.ndim == 2, lambda p: torch.optim.Muon(p, LR, weight_decay=0, momentum=0.95)),
            (lambda p: p.ndim != 2, lambda p: torch.optim.SGD(p, LR)),
        ),
    ),
    "weight decay": (
        Regularised(**FULL, weight_decay=0.1),
        lambda: Torchs((everything, lambda p: torch.optim.SGD(p, LR, weight_decay=0.1))),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_trajectories_are_the_oracles(name, monkeypatch):
    numbers, make = CASES[name]
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda tensor: tensor)  # torch's Muon rounds to it
    expected = theirs(make())
    start = torch.cat([p.detach().flatten() for p in model().parameters()])
    assert float((expected - start).norm()) > 0.02
    torch.testing.assert_close(ours(numbers), expected, rtol=1e-8, atol=1e-9)


def test_muon_is_torchs_to_its_bfloat16():
    numbers, make = CASES["Muon"]
    assert float((ours(numbers) - theirs(make())).norm()) < 0.05 * float(
        (theirs(make()) - theirs(lambda p: None)).norm()
    )


def test_signum_averages_gradients():
    rule = build_rule(Signum(**FULL, momentum=0.5))
    state = rule.initial_state(torch.zeros(1))
    signs = []
    for g in (4.0, -1.0, -3.0):  # averages 2, 0.5, -1.25
        update, state = rule.update(torch.zeros(1), lambda _, g=g: torch.tensor([g]), state)
        signs.append(float(update) / LR)
    assert signs == pytest.approx([-1, -1, 1])


def test_a_cosine_goes_from_the_learning_rate_to_nothing():
    rule, state = build_rule(Regularised(**FULL, decay_steps=4)), None
    state = rule.initial_state(torch.zeros(1))
    rates = []
    for _ in range(6):
        update, state = rule.update(torch.zeros(1), lambda _: torch.ones(1, dtype=torch.float64), state)
        rates.append(-float(update) / LR)
    half = (1 + 0.5**0.5) / 2
    assert rates == pytest.approx([1, half, 0.5, 1 - half, 0, 0])


def test_a_cap_lasts_until_the_next_measurement():
    """λ_1 = 400 is beyond 2/η = 200, 100 is not."""
    rule = build_rule(Regularised(**FULL, capped=True))
    state, rates = rule.initial_state(torch.zeros(1)), []
    for sharpness in (400.0, None, 100.0, None):
        if sharpness is not None:
            found = SimpleNamespace(eigenvalues=torch.tensor([sharpness]), start=torch.zeros(1, 3))
            row = rule.steer(SimpleNamespace(top_eigenspace=lambda *_, found=found: found), {})
            assert row == {"steered_sharpness": sharpness, "steered_rate": min(LR, 2 / sharpness)}
        update, state = rule.update(torch.zeros(1), lambda _: torch.ones(1, dtype=torch.float64), state)
        rates.append(-float(update))
    assert rates == pytest.approx([0.005, 0.005, 0.01, 0.01])


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("linear", [(0, 2), (0.25, 1.75), (0.5, 1.5), (0.75, 1.25), (1, 1), (1, 1)]),
        ("cosine", [(0, 2), (0.5 - R, 1.5 + R), (0.5, 1.5), (0.5 + R, 1.5 - R), (1, 1), (1, 1)]),
        ("step", [(0, 2), (0, 2), (1, 1), (1, 1), (1, 1), (1, 1)]),
    ],
)  # fmt: skip
def test_schedules(schedule, expected):
    numbers = Weighed(**FULL, schedule=schedule, first=(0, 2), last=(1, 1), length=4)
    for done, pair in enumerate(expected):
        assert weights(numbers, done, 0.0) == pytest.approx(pair)


def test_the_edge_decides_by_the_sharpness():
    numbers = Weighed(**FULL, schedule="edge", first=(0, 2), last=(1, 0.5), length=4)
    assert weights(numbers, 3, 199.9) == (0, 2)
    assert weights(numbers, 0, 200.0) == (1, 0.5)


@pytest.mark.parametrize("numbers", [Muon(**FULL), Shampoo(**FULL)], ids=["muon", "shampoo"])
def test_a_rule_that_was_not_steered_says_what_it_needs(numbers):
    rule, theta = build_rule(numbers), torch.zeros(3)
    with pytest.raises(InputError, match="let the segment measure steering"):
        rule.update(theta, lambda t: t, rule.initial_state(theta))


def test_sums_that_are_not_finite_end_in_an_update_that_is_not():
    rule, theta = build_rule(Shampoo(**FULL)), torch.zeros(3)
    rule.pieces = lambda vector: [vector]
    update, _ = rule.update(theta, lambda t: t + torch.inf, rule.initial_state(theta))
    assert not torch.isfinite(update).any()
