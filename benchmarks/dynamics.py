"""What the benchmarks of refreshing share: the full-size MLP's dynamics, the states they begin from, and runs that are
watched on the way.

The MLP is 784-200-200-10 with tanh, on the 5,000 images of MNIST-5k, with the half squared error, k = 10: the
problem of the laptop profile's settings `mlp` and, with examples held out, `zs-mlp`.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from analysis.data import load as load_data
from analysis.models.mlp import Numbers as MLPNumbers
from analysis.rules import build as build_rule
from analysis.rules.sam import Numbers as SAMNumbers
from analysis.rules.sgd import Numbers as SGDNumbers
from analysis.specs import DataSpec, ProblemSpec, RuleNumbers, SegmentSpec, StopSpec
from analysis.training.problem import Problem, make_problem
from analysis.training.sampler import Sampler
from analysis.training.segment import train_segment
from analysis.training.state import State, read_state, write_state
from sharpflat.curvature.eigensolver import top_eigenspace
from sharpflat.curvature.operators import Hessian
from sharpflat.curvature.subspace import DominantSubspace
from sharpflat.optim.refresh import Refresh
from sharpflat.optim.subspace_filter import SubspaceFilter, filter_update

K = 10
SEED = 0
TIGHT = 3e-3  # of the eigenvectors that all are compared with: 1 − overlap to some 1e-5 / (1 − λ_11/λ_10)²
WATCHED = 10  # steps between two comparisons
WEIGHTS = {"Dom": (1.0, 0.0), "Bulk": (0.0, 1.0)}  # α_dom, β_bulk


@dataclass(frozen=True)
class Dynamics:
    """An update rule, and how many of its plain steps come before the run that is watched."""

    title: str
    rule: RuleNumbers
    before: int
    holdout: int = 0
    loss: Literal["mse", "cross_entropy"] = "mse"
    tolerance: float = 0.05  # of our refreshes, as in the laptop profile


DYNAMICS = {
    "sgd": Dynamics("SGD", SGDNumbers(learning_rate=0.01, batch_size=50), 2000),
    "gd": Dynamics("GD at the edge of stability", SGDNumbers(learning_rate=0.1, batch_size=None), 1500),
    "sam": Dynamics("SAM at its edge", SAMNumbers(learning_rate=0.01, batch_size=None, rho=0.1), 2000),
    "zs": Dynamics("SGD, Hessian of a holdout", SGDNumbers(learning_rate=0.1, batch_size=50), 1000, holdout=500),
    "ce": Dynamics(
        "SGD with cross-entropy",
        SGDNumbers(learning_rate=0.1, batch_size=50),
        2000,
        loss="cross_entropy",
        tolerance=0.02,
    ),
}


def one_thread() -> None:
    """Restarts the program with one thread, unless it has one, because BLAS libraries read these settings when they
    load."""
    fixed = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    if any(os.environ.get(name) != value for name, value in fixed.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | fixed)
    torch.set_num_threads(1)


def begin(dynamics: Dynamics, name: str, data_dir: Path, folder: Path) -> tuple[Problem, State]:
    """The problem and the state that all runs of these dynamics begin from, trained once and kept in `folder`."""
    train, test = load_data("mnist5k", data_dir), load_data("mnist-test", data_dir)
    problem = ProblemSpec(
        data=DataSpec(
            train="mnist5k",
            train_sha256=train.attrs["sha256"],
            examples=5000,
            test="mnist-test",
            test_sha256=test.attrs["sha256"],
            test_examples=1000,
            holdout=dynamics.holdout,
        ),
        model=MLPNumbers(width=200),
        loss=dynamics.loss,
        k=K,
    )
    path = folder / f"{name}-{dynamics.before}.safetensors"
    if not path.exists():
        spec = SegmentSpec(
            problem=problem,
            seed=SEED,
            parent=None,
            rule=dynamics.rule,
            filter=None,
            probes={"loss": {"every": 10**6}, "test": {"every": 10**6}},
            stop=StopSpec(steps=dynamics.before),
        )
        folder.mkdir(parents=True, exist_ok=True)
        write_state(train_segment(spec, name, train, test, None).state, path, name)
    return make_problem(problem, train, test, SEED), read_state(path)


class Tracker(Protocol):
    """One way of having the dominant subspace along a run."""

    dominant: Tensor | None
    products: int
    refreshes: list[Refresh]

    def __call__(self, update: Tensor, step: int, theta: Tensor, weights: tuple[float, float]) -> Tensor:
        """The filtered update [P]."""


class Plain:
    """No filter."""

    def __init__(self) -> None:
        self.dominant: Tensor | None = None
        self.products = 0
        self.refreshes: list[Refresh] = []

    def __call__(self, update: Tensor, step: int, theta: Tensor, weights: tuple[float, float]) -> Tensor:
        return update


class Ours(Plain):
    """Our filter; `when` is its refresh_every, refresh_error or refresh_overlap."""

    def __init__(self, problem: Problem, when: dict[str, Any], tolerance: float) -> None:
        super().__init__()
        self.objective = problem.curvature
        self.filter = SubspaceFilter(k=K, tolerance=tolerance, **when)

    def __call__(self, update: Tensor, step: int, theta: Tensor, weights: tuple[float, float]) -> Tensor:
        update, refresh = self.filter.apply(
            update, step, lambda: Hessian(self.objective, theta), alpha_dom=weights[0], beta_bulk=weights[1]
        )
        self.dominant = self.filter.dominant
        if refresh is not None:
            self.products += refresh.products
            self.refreshes.append(refresh)
        return update


class Run:
    """One run under way. `cpu` is that of its steps, without that of what is watched.

    Attributes:
        losses: by number of steps made.
        distances: by number of steps made, (1 − overlap of the subspace that was used with tight eigenvectors at that
            θ; error of the filtered update against the one that they give, relative to it).
    """

    def __init__(
        self, dynamics: Dynamics, problem: Problem, state: State, tracker: Tracker, branch: str | None
    ) -> None:
        self.problem, self.tracker, self.branch = problem, tracker, branch
        self.rule = build_rule(dynamics.rule)
        data = problem.spec.data
        self.sampler = Sampler(data.examples - data.holdout, dynamics.rule.batch_size, SEED)
        self.theta, self.first, self.made = state.theta, state.step, 0
        self.memory = self.rule.initial_state(state.theta)
        self.cpu = 0.0
        self.losses = {0: float(problem.training.value(state.theta))}
        self.distances: dict[int, tuple[float, float]] = {}
        self._tight: Tensor | None = None

    def advance(self, watched: bool = False) -> None:
        """Makes one step. At every tenth, and if `watched`, examines the subspace that it used and the loss after
        it."""
        step, weights = self.first + self.made, WEIGHTS.get(self.branch or "", (1.0, 1.0))
        indices = self.sampler.indices(step)
        begun = time.process_time()
        update, self.memory = self.rule.update(
            self.theta, lambda theta: self.problem.training.gradient(theta, indices), self.memory
        )
        filtered = self.tracker(update, step, self.theta, weights)
        theta = self.theta + filtered
        self.cpu += time.process_time() - begun
        self.made += 1
        if watched or self.made % WATCHED == 0:
            if self.branch is not None:
                self.distances[self.made] = self._distances(update, filtered, weights)
            self.losses[self.made] = float(self.problem.training.value(theta))
        self.theta = theta

    def _distances(self, update: Tensor, filtered: Tensor, weights: tuple[float, float]) -> tuple[float, float]:
        assert self.tracker.dominant is not None
        start = self.tracker.dominant if self._tight is None else self._tight
        tight = top_eigenspace(Hessian(self.problem.curvature, self.theta), K, start=start, tolerance=TIGHT)
        self._tight = tight.start
        subspace = DominantSubspace(tight.eigenvectors)
        exact = filter_update(update, subspace, alpha_dom=weights[0], beta_bulk=weights[1])
        error = float((filtered - exact).norm() / exact.norm()) if bool(exact.norm() > 0) else inf
        return 1 - subspace.overlap(DominantSubspace(self.tracker.dominant, verify=False)), error

    def record(self) -> dict[str, Any]:
        """What the run was, as plain values."""
        return {
            "branch": self.branch,
            "steps": self.made,
            "cpu": self.cpu,
            "products": self.tracker.products,
            "losses": self.losses,
            "distances": self.distances,
            "refreshes": [
                {
                    key: getattr(r, key)
                    for key in ("step", "products", "converged", "interval", "overlap", "error", "kept")
                }
                for r in self.tracker.refreshes
            ],
        }
