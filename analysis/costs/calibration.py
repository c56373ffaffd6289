"""Measures the cost of each kind of work on this machine, in a short run on random data of the right shape.

Times depend on the sizes of data and model and not on the values, so pixels, words and labels are random and nothing is
downloaded. If an evaluation of all examples takes long, only some of them are evaluated, and the cost is scaled to all.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import xarray as xr
from torch.utils.flop_counter import FlopCounterMode

from analysis.data.catalogue import describe
from analysis.data.wordpiece import VOCABULARY
from analysis.rules import build as build_rule
from analysis.specs import ProblemSpec, RuleNumbers
from analysis.training.problem import Problem, make_problem
from analysis.training.sampler import Sampler
from sharpflat.curvature.eigensolver import top_eigenspace
from sharpflat.curvature.objective import Objective
from sharpflat.curvature.operators import GaussNewton, Hessian, joint_products
from sharpflat.curvature.spectrum import spectral_density

ENOUGH = 0.03  # seconds that a measured evaluation takes, so that the start-up cost hardly counts
REPEATS, LONG = 3, 0.5  # number of measurements, or seconds after which they stop
VERY_LONG = 5.0
STEERED = 10  # eigenvectors
LANCZOS_PROBES, LANCZOS_STEPS = 4, 40  # of a spectral density, about as profiles have them
FEWEST = {"image": 50, "text": 50}  # examples; of text, enough for all its words


@dataclass(frozen=True)
class Cost:
    """The cost of one piece of work: seconds of processor time of one core, and floating-point operations. They are
    those of matrix products and convolutions, which are nearly all. A multiplication with an addition counts as two."""

    seconds: float = 0.0
    operations: float = 0.0

    def __mul__(self, count: float) -> Cost:
        return Cost(self.seconds * count, self.operations * count)

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.seconds + other.seconds, self.operations + other.operations)


@dataclass(frozen=True)
class Rates:
    """The cost of one update (by `alike` rule), one evaluation of the full batch with its gradient, one of the test
    data, and one vector's product: with H in the eigensolver, with all three jointly, with one of them alone."""

    updates: dict[RuleNumbers, Cost]
    evaluation: Cost
    test: Cost
    product: Cost
    joint_product: Cost
    separate_product: Cost


def measure(problem: ProblemSpec, rules: set[RuleNumbers], *, energies: bool = False, threads: int = 1) -> Rates:
    """Measures the rates of a problem and of update rules on it, which takes seconds.

    Args:
        problem: the problem at its full size.
        rules: the rules whose updates are measured. Only one of several that are `alike` is measured.
        energies: whether to measure products with single operators, as spectral densities need them.
        threads: number of torch threads, as in jobs.
    """
    torch.set_num_threads(threads)
    info = describe(problem.data.train)
    count = problem.data.examples
    if info.kind != "toy":
        count = FEWEST[info.kind]
        while count < problem.data.examples and _cost(_evaluation(_part(problem, count).training)).seconds < ENOUGH:
            count = min(4 * count, problem.data.examples)
    made = _part(problem, count)
    trained = problem.data.examples - problem.data.holdout
    full = trained / len(made.training.inputs)
    held_out = (problem.data.holdout or trained) / len(made.curvature.inputs)
    k, theta, hessian = problem.k, made.training.theta, Hessian(made.curvature, made.training.theta)
    width = min(k + 2, theta.numel())
    vectors = torch.randn(theta.numel(), width, generator=torch.Generator().manual_seed(0), dtype=theta.dtype)
    evaluation = _cost(_evaluation(made.training)) * full
    return Rates(
        updates={rule: _update(made.training, rule, full) for rule in set(map(alike, rules))},
        evaluation=evaluation,
        test=_cost(lambda: (made.test.value(theta), made.test_accuracy(theta)))
        * (problem.data.test_examples / len(made.test.inputs)),
        product=_cost(lambda: hessian.matmat(vectors)) * (held_out / width) + _solver(theta, k),
        joint_product=_cost(lambda: joint_products(made.curvature, theta, vectors)) * (held_out / width),
        separate_product=_separate(made.curvature, vectors[:, :LANCZOS_PROBES]) * held_out + _lanczos(theta)
        if energies
        else Cost(),
    )


def alike(rule: RuleNumbers) -> RuleNumbers:
    """The rule, with all numbers that do not affect the cost set to 1, so that rules with the same cost are equal."""
    same = {"learning_rate": 1.0, "rho": 1.0, "beta2": 0.5, "epsilon": 1.0}
    return rule.model_copy(update={name: value for name, value in same.items() if hasattr(rule, name)})


def _evaluation(objective: Objective) -> Callable[[], object]:
    return lambda: objective.value_and_gradient(objective.theta)


class _Diagonal:
    """An operator with almost no cost."""

    def __init__(self, theta: torch.Tensor) -> None:
        self.size, self.dtype, self.device = theta.numel(), theta.dtype, theta.device
        self.values = torch.linspace(0, 1, self.size, dtype=theta.dtype)[:, None]

    def matmat(self, V: torch.Tensor) -> torch.Tensor:
        return self.values * V


def _solver(theta: torch.Tensor, k: int) -> Cost:
    """The cost that the eigensolver adds to a product. It does not depend on the number of examples."""
    operator, products = _Diagonal(theta), min(2 * (k + 2), theta.numel())
    return _cost(lambda: top_eigenspace(operator, k, tolerance=1e-12, max_products=products)) * (1 / products)


def _separate(objective: Objective, vectors: torch.Tensor) -> Cost:
    """One vector's product with H, H_o or H_f alone. A product with H_f is assumed to cost as much as one with H."""
    of = [_cost(partial(kind(objective, objective.theta).matmat, vectors)) for kind in (Hessian, GaussNewton)]
    return (of[0] * 2 + of[1]) * (1 / (3 * vectors.shape[1]))


def _lanczos(theta: torch.Tensor) -> Cost:
    """The cost that Lanczos orthogonalisation adds to a product."""
    steps = min(LANCZOS_STEPS, theta.numel())
    density = partial(spectral_density, _Diagonal(theta), probes=LANCZOS_PROBES, steps=steps)
    return _cost(density) * (1 / (LANCZOS_PROBES * steps))


def _update(training: Objective, rule: RuleNumbers, full: float) -> Cost:
    """The cost of an update: measured for a minibatch, and scaled to all examples for the full batch."""
    built, theta = build_rule(rule), training.theta
    size = None if rule.batch_size is None else min(rule.batch_size, len(training.inputs))
    sampler = Sampler(len(training.inputs), size, seed=0, replacement=rule.replacement)
    # What the probe `steering` would pass. Its eigenvectors are not part of the cost of an update.
    given = {"pieces": training.vector.pieces, "steered": (theta.new_zeros(len(theta), STEERED), 0.0, 1.0)}
    for name in given.keys() & vars(built).keys():
        setattr(built, name, given[name])

    def update() -> None:
        indices = sampler.indices(0)
        state = built.initial_state(theta)
        step, _ = built.update(theta, lambda at: training.gradient(at, indices), state)
        bool(torch.isfinite(step).all())

    return _cost(update) * (full if size is None else (rule.batch_size or size) / size)


def _cost(work: Callable[[], object]) -> Cost:
    """The cost of one call. The first call counts operations and warms up."""
    begun = time.process_time()
    with FlopCounterMode(display=False) as counted:
        work()
    first = time.process_time() - begun
    times = [first] if first > VERY_LONG else []  # which counting and warming up hardly lengthen
    while not times or (len(times) < REPEATS and sum(times) < LONG):
        begun = time.process_time()
        work()
        times.append(time.process_time() - begun)
    return Cost(sorted(times)[len(times) // 2], float(counted.get_total_flops()))


# ---------------------------------------------------------------- data of the right shape


def _part(problem: ProblemSpec, count: int) -> Problem:
    """The problem with at most `count` examples for training, for the holdout (if there is one) and for testing."""
    data = problem.data
    held_out = min(data.holdout, count)
    count, tested = min(count, data.examples - data.holdout) + held_out, min(data.test_examples, count)
    smaller = data.model_copy(update={"examples": count, "test_examples": tested, "holdout": held_out})
    train, test = _random(data.train, count, data.max_length), _random(data.test, tested, data.max_length)
    return make_problem(problem.model_copy(update={"data": smaller}), train, test, seed=0)


def _random(name: str, count: int, length: int) -> xr.Dataset:
    """A dataset like that of `analysis.data.load` with this name, but with `count` random examples."""
    info, random = describe(name), np.random.default_rng(0)
    attributes = {"name": name, "title": "random", "classes": info.classes, "collection": info.collection}
    labels = ("example", random.integers(info.classes, size=count).astype(np.uint8))
    if info.kind == "text" and info.shape:
        ids = np.arange(count * length, dtype=np.int32).reshape(count, length) % max(info.words - 1, 1) + 1
        return xr.Dataset(
            {"ids": (("example", "position"), ids), "labels": labels}, attrs={**attributes, "vocabulary": VOCABULARY}
        )
    if info.kind == "text":
        words = np.arange(count * length).reshape(count, length) % max(info.words, 1)
        sentences = np.array([" ".join(f"w{word}" for word in row) for row in words])
        return xr.Dataset({"sentences": ("example", sentences), "labels": labels}, attrs=attributes)
    if info.kind == "toy":
        sides = np.resize(np.array([1, -1], np.int8), count)
        return xr.Dataset({"sides": ("example", sides), "labels": labels}, attrs=attributes)
    dims = ("row", "column") if len(info.shape) == 2 else ("channel", "row", "column")
    pixels = random.integers(256, size=(count, *info.shape)).astype(np.uint8)
    return xr.Dataset({"inputs": (("example", *dims), pixels), "labels": labels}, attrs=attributes)
