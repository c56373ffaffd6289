"""Update rules against PyTorch's own optimizers, for the MLP of full size, 784-200-200-10: 20 steps on 400 images."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from analysis.data import describe, load
from analysis.data.preprocess import image_tensors, label_tensor
from analysis.models import build as build_model
from analysis.models.mlp import Numbers as MLPNumbers
from analysis.rules import build as build_rule
from analysis.rules.adam import Numbers as AdamNumbers
from analysis.rules.sam import Numbers as SAMNumbers
from analysis.rules.sam import sam_edge
from analysis.rules.sgd import Numbers as SGDNumbers
from sharpflat.curvature.objective import Objective

STEPS = 20
DATA_DIR = Path(os.environ.get("DATA_DIR", "data"))
# Real MNIST-5k where it is; else the MNIST images that install with the dependencies (4,000).
SUBSET = "mnist5k" if (DATA_DIR / "MNIST" / "raw").is_dir() else "mlxtend4k"
assert describe(SUBSET).kind == "image"


class SAM:
    """A direct transcription of Foret et al.'s algorithm on a module, in place, with SGD as its base."""

    def __init__(self, parameters, lr, rho):
        self.parameters, self.lr, self.rho = list(parameters), lr, rho

    def step(self, closure):
        closure()
        norm = torch.sqrt(sum(p.grad.square().sum() for p in self.parameters))
        start = [p.detach().clone() for p in self.parameters]
        with torch.no_grad():
            for p in self.parameters:
                p.add_(p.grad, alpha=float(self.rho / norm))
        closure()
        with torch.no_grad():
            for p, at in zip(self.parameters, start, strict=True):
                p.copy_(at).sub_(p.grad, alpha=self.lr)


RULES = {
    "GD": (SGDNumbers(learning_rate=0.1, batch_size=None), lambda p: torch.optim.SGD(p, lr=0.1)),
    "GD(+m)": (
        SGDNumbers(learning_rate=0.01, batch_size=None, momentum=0.9),
        lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
    ),
    "Adam(-m)": (
        AdamNumbers(learning_rate=1e-3, batch_size=None, momentum=0.0),
        lambda p: torch.optim.Adam(p, lr=1e-3, betas=(0.0, 0.999)),
    ),
    "Adam(+m)": (
        AdamNumbers(learning_rate=1e-3, batch_size=None, momentum=0.9),
        lambda p: torch.optim.Adam(p, lr=1e-3, betas=(0.9, 0.999)),
    ),
    "SAM": (SAMNumbers(learning_rate=0.01, batch_size=None, rho=0.1), lambda p: SAM(p, 0.01, 0.1)),
}


@pytest.fixture(scope="module")
def data():
    train = load(SUBSET, DATA_DIR)
    inputs, _ = image_tensors(train, train, "unit", torch.float64)
    return inputs[:400], label_tensor(train)[:400]


def model() -> nn.Module:
    return build_model(MLPNumbers(width=200), (1, 28, 28), 10, torch.Generator().manual_seed(3), torch.float64)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.slow
def test_trajectories_equal_pytorchs_optimizers(name, data):
    """In float64, to rounding: 20 steps move θ by some 1e-2 to 1, and the two agree to 1e-11."""
    spec, make = RULES[name]
    inputs, labels = data
    targets = nn.functional.one_hot(labels, 10).double()

    theirs = model()
    optimizer = make(theirs.parameters())

    def closure():
        theirs.zero_grad()
        loss = 0.5 * (theirs(inputs) - targets).square().sum() / len(inputs)
        loss.backward()
        return loss

    objective = Objective(model(), "mse", inputs, labels)
    theta, rule = objective.theta, build_rule(spec)
    start, state = theta, rule.initial_state(theta)
    for _ in range(STEPS):
        if isinstance(optimizer, SAM):
            optimizer.step(closure)
        else:
            closure()
            optimizer.step()
        update, state = rule.update(theta, objective.gradient, state)
        theta = theta + update
    expected = torch.cat([p.detach().flatten() for p in theirs.parameters()])
    moved = float((expected - start).norm())
    assert moved > 1e-2
    assert float((theta - expected).norm()) <= 1e-11 * moved * STEPS


def quadratic_is_stable(spec, curvature, size=1e-3):
    """Whether the rule's iterates on ½ λ x² shrink from a start with that gradient."""
    theta = torch.tensor([size / curvature], dtype=torch.float64)
    rule = build_rule(spec)
    state = rule.initial_state(theta)
    start = abs(float(theta))
    for _ in range(200):
        update, state = rule.update(theta, lambda x: curvature * x, state)
        theta = theta + update
    return abs(float(theta)) < start


@pytest.mark.parametrize("spec", [RULES["GD"][0], RULES["GD(+m)"][0]], ids=["GD", "GD(+m)"])
def test_the_stability_threshold_is_where_descent_on_a_quadratic_turns_unstable(spec):
    threshold = build_rule(spec).stability_threshold(1.0)
    assert quadratic_is_stable(spec, 0.99 * threshold)
    assert not quadratic_is_stable(spec, 1.01 * threshold)


@pytest.mark.parametrize("norm", [1e-3, 0.1, 1.0, 100.0])
def test_the_sam_edge_is_where_one_step_keeps_the_gradients_norm(norm):
    """On ½ λ x², SAM's step from x > 0 is x − ηλ(x + ρ): to −x at the edge, so the threshold solves ηλ(1 + ρ/x) = 2
    with the gradient's norm λ x."""
    spec = SAMNumbers(learning_rate=0.01, batch_size=None, rho=0.1)
    edge = build_rule(spec).stability_threshold(norm)
    x = torch.tensor([norm / edge], dtype=torch.float64)
    update, _ = build_rule(spec).update(x, lambda at: edge * at, {})
    torch.testing.assert_close(x + update, -x)


def test_the_sam_edge_tends_to_gradient_descents():
    assert sam_edge(1.0, learning_rate=0.1, rho=1e-12) == pytest.approx(2 / 0.1)
    assert sam_edge(0.0, learning_rate=0.1, rho=0.1) == 0.0
    assert sam_edge(0.5, learning_rate=0.01, rho=0.1) == pytest.approx(
        0.5 / 0.2 * ((1 + 8 * 0.1 / (0.01 * 0.5)) ** 0.5 - 1)
    )


def test_sam_stays_where_the_gradient_is_zero():
    theta = torch.zeros(3, dtype=torch.float64)
    update, _ = build_rule(RULES["SAM"][0]).update(theta, lambda at: 2 * at, {})
    assert torch.equal(update, theta)


def test_adam_without_second_moment_history_is_the_sign_of_the_gradient():
    rule = build_rule(AdamNumbers(learning_rate=0.5, batch_size=None, momentum=0.0, beta2=0.0, epsilon=1e-30))
    theta = torch.tensor([3.0, -2.0, 0.5], dtype=torch.float64)
    update, _ = rule.update(theta, lambda at: at, rule.initial_state(theta))
    torch.testing.assert_close(update, -0.5 * theta.sign())
