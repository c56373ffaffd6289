"""Benchmark of keeping the dominant subspace along a run: each library's way, in the same Dom-SGD and Bulk-SGD.

    python benchmarks/tracking.py --data-dir DIR        # DIR holds MNIST/raw/*-ubyte; see --help

It takes about an hour on one core. Every method makes runs of its own from the same state (the full-size MLP after
2,000 SGD steps), with the same minibatches. The runs take turns: each makes one step, then each the next, so that
whatever else the machine does falls on all of them alike. A method too slow for 200 steps makes fewer; its time for 200
is extrapolated, and marked so. `--methods` measures some methods again, together with our refresh at each step, and
keeps the other rows.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from math import nan
from pathlib import Path
from typing import Any

import torch
from curvature import (
    Curvlinops,
    EdgeOfStability,
    HessianEigenthings,
    Lobpcg,
    PyHessian,
    environment,
    mlp,
)
from dynamics import DYNAMICS, SEED, TIGHT, K, Ours, Plain, Run, Tracker, begin, one_thread
from torch import Tensor

from analysis.training.problem import Problem
from sharpflat.curvature.subspace import DominantSubspace
from sharpflat.optim.subspace_filter import filter_update

TOLERANCE = DYNAMICS["sgd"].tolerance
STEPS = 200
BRANCHES = ("Dom", "Bulk")
LOSSES = (50, 100, 150, 200)
YARDSTICK = "ours, a refresh each step"


class Library(Plain):
    """Another library's eigenvectors, recomputed at each step."""

    def __init__(self, solve: Callable[[Tensor], tuple[Tensor, Tensor, int | None]]) -> None:
        super().__init__()
        self.solve = solve

    def __call__(self, update: Tensor, step: int, theta: Tensor, weights: tuple[float, float]) -> Tensor:
        _, vectors, products = self.solve(theta)
        self.dominant, _ = torch.linalg.qr(vectors.to(theta))
        self.products += products or 0
        subspace = DominantSubspace(self.dominant, verify=False)
        return filter_update(update, subspace, alpha_dom=weights[0], beta_bulk=weights[1])


class CentralFlows(Lobpcg):
    """LOBPCG as the central-flows code has it, from the last k eigenvectors, by SciPy's implementation on our products.

    That code stops where ‖A u_i − λ_i u_i‖ < 10 P · 1e-10 (‖A u_i‖ + λ_i) for every i, which is 4e-4 λ_i here; SciPy's
    takes one bound for all, so this one stops at 4e-4 λ_k.
    """

    def __init__(self, problem: Problem) -> None:
        objective = problem.curvature
        super().__init__(objective, 2e-9 * objective.size)

    def __call__(self, theta: Tensor) -> tuple[Tensor, Tensor, int | None]:
        if self.block is not None:
            self.block = self.block[:, :K]
        return super().__call__(theta)


def methods() -> dict[str, tuple[int, Callable[[Problem], Tracker]]]:
    """By name: how many steps it makes, and what makes its tracker."""

    def ours(**when: Any) -> Callable[[Problem], Tracker]:
        return lambda problem: Ours(problem, when, TOLERANCE)

    def library(kind: Callable[..., Any]) -> Callable[[Problem], Tracker]:
        def made(problem: Problem) -> Tracker:
            model = mlp(200, torch.Generator().manual_seed(SEED))
            inputs, targets = problem.curvature.inputs, problem.curvature.targets
            return Library(kind(model, inputs, targets))

        return made

    return {
        YARDSTICK: (STEPS, ours(refresh_every=1)),
        **{f"ours, refresh_error {bound:g}": (STEPS, ours(refresh_error=bound)) for bound in (0.02, 0.05, 0.1)},
        **{
            f"ours, refresh_overlap {bound:g}": (STEPS, ours(refresh_overlap=bound))
            for bound in (0.9999, 0.9995, 0.999)
        },
        "LOBPCG (SciPy) from the last block, to 0.05 λ_k": (10, lambda p: Library(Lobpcg(p.curvature, 0.05))),
        "LOBPCG (SciPy) as the central-flows code": (5, lambda p: Library(CentralFlows(p))),
        "eigsh (SciPy), as the edge-of-stability code": (10, library(EdgeOfStability)),
        "hessian-eigenthings, lanczos": (10, library(HessianEigenthings)),
        "curvlinops + eigsh": (5, library(Curvlinops)),
        "PyHessian": (3, library(PyHessian)),
    }


def measure(args: argparse.Namespace) -> list[dict[str, Any]]:
    """One record a method and branch: `seconds` of its steps, `seconds_each_step` of the yardstick's same steps."""
    problem, state = begin(DYNAMICS["sgd"], "sgd", args.data_dir, args.folder)
    known = methods()
    chosen = [YARDSTICK, *(name for name in args.methods or known if name != YARDSTICK)]
    limits = {name: min(known[name][0], args.steps) for name in chosen}
    longest = max(limits[name] for name in chosen[1:] or chosen)
    limits[YARDSTICK] = longest
    made = {
        (name, branch): Run(DYNAMICS["sgd"], problem, state, known[name][1](problem), branch)
        for name in chosen
        for branch in args.branches
    }
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in made}

    def records() -> list[dict[str, Any]]:
        return [
            {
                "method": name,
                **run.record(),
                "seconds": seconds[name, branch],
                "seconds_each_step": seconds[YARDSTICK, branch][: run.made],
            }
            for (name, branch), run in made.items()
        ]

    for step in range(longest):
        for (name, branch), run in made.items():
            if step < limits[name]:
                before = run.cpu
                run.advance(watched=step + 1 == limits[name])
                seconds[name, branch].append(round(run.cpu - before, 4))
        if (step + 1) % 10 == 0:  # so that one that is stopped leaves something to look at
            (args.folder / f"tracking-{'-'.join(args.branches)}.part").write_text(json.dumps(records()) + "\n")
            print(f"{time.strftime('%H:%M:%S')} step {step + 1} of {longest}", flush=True)
    return records()


def whole(seconds: list[float]) -> float:
    """CPU seconds for all steps: measured, or the first, cold, and the mean of the others as often as needed."""
    first, *others = seconds
    return sum(seconds) if len(seconds) == STEPS else first + (STEPS - 1) * statistics.mean(others)


def relative(record: dict[str, Any] | None) -> float:
    """CPU time for all steps relative to that of our refresh at each step, measured together over the same steps."""
    return nan if record is None else whole(record["seconds"]) / whole(record["seconds_each_step"])


def table(records: list[dict[str, Any]], branch: str) -> str:
    """Markdown: one row a method, those of one branch."""
    mine = {r["method"]: r for r in records if r["branch"] == branch}
    eigsh, pyhessian = (
        next((r for n, r in mine.items() if n.startswith(name)), None) for name in ("eigsh", "PyHessian")
    )
    theirs = _by_step(mine[YARDSTICK]["losses"])
    lines = [
        "| method | steps made | refreshes | products | CPU time, s | ratio to ours each step | to eigsh "
        "| to PyHessian | 1 − overlap, mean | worst | losses after 50, 100, 150, 200 steps | relative difference |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- | ---: |",
    ]
    for name in (name for name in methods() if name in mine):
        record = mine[name]
        made, about = record["steps"], "" if record["steps"] == STEPS else "≈ "
        gaps = [max(0.0, gap) for gap, _ in record["distances"].values()] or [nan]
        losses = _by_step(record["losses"])
        apart = max((abs(loss / theirs[n] - 1) for n, loss in losses.items() if n in theirs), default=nan)
        cells = [
            name,
            f"{made}",
            f"{about}{len(record['refreshes']) or STEPS}",
            "–" if name == "PyHessian" else f"{about}{record['products'] * STEPS / made:,.0f}",
            f"{about}{whole(record['seconds']):,.0f}",
            *(f"{relative(record) / base:.3f}" for base in (1.0, relative(eigsh), relative(pyhessian))),
            f"{statistics.mean(gaps):.1e}",
            f"{max(gaps):.1e}",
            " ".join(f"{losses[n]:.5f}" if n in losses else "–" for n in LOSSES),
            "" if name == YARDSTICK else f"{apart:.1e}",
        ]
        lines.append(f"| {' | '.join(cells)} |".replace("nan", "–"))
    return "\n".join(lines)


def _by_step(losses: dict[Any, float]) -> dict[int, float]:
    """Without the loss at the beginning; JSON's keys are texts."""
    return {int(step): loss for step, loss in losses.items() if int(step)}


PROSE = """\
# Tracking the dominant subspace along a run

`python benchmarks/tracking.py` on {cpu}, one thread, torch {torch}, SciPy {scipy}, curvlinops
{curvlinops-for-pytorch}, hessian-eigenthings {hessian-eigenthings}, PyHessian {pyhessian}, float32. The script writes
this page; the raw numbers are in `tracking.json`.

The network is an MLP (784-200-200-10, tanh) on the 5,000 images of MNIST-5k with the half squared error, and k = {k}.
All methods start from the same state, after 2,000 SGD steps at learning rate 0.01 with batches of 50. They make the
same {steps} steps of Dom-SGD or of Bulk-SGD, with the same minibatches, and take turns, one step each. Our refreshes
have tolerance {tolerance:g}. The libraries are used at each step, as `curvature.py` uses them.

CPU time includes the gradients. A method that is too slow made fewer steps: "≈" marks what is extrapolated from them
to {steps}, the first step (cold) apart. Each ratio compares with our refresh at each step over the same steps in the
same process. At every tenth step, and at a method's last, the subspace in use is compared with tight eigenvectors at
the same θ (residuals below {tight:g} λ_k). The last column compares the losses, every ten steps, with those of our
refresh at each step.

LOBPCG starts from its last vectors. One row stops at our tolerance and carries two guard vectors. The other follows
the central-flows code: k vectors, and that code's bound, which is 4e-4 λ_k here. Both use our products and SciPy's
implementation. PyHessian does not count products.
"""


def page(record: dict[str, Any]) -> str:
    """Markdown."""
    numbers = {"k": K, "steps": STEPS, "tolerance": TOLERANCE, "tight": TIGHT}
    made = {run["branch"] for run in record["runs"]}
    tables = [f"## {branch}-SGD\n\n{table(record['runs'], branch)}\n" for branch in BRANCHES if branch in made]
    return "\n".join([PROSE.format(**numbers, **record["environment"]), *tables])


def main() -> None:
    parser = argparse.ArgumentParser(description="Benchmark of keeping the dominant subspace along a run.")
    parser.add_argument("--data-dir", type=Path, required=True, help="folder with MNIST/raw/*-ubyte")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    parser.add_argument("--folder", type=Path, default=Path("results/refresh-budget"), help="of the starting state")
    parser.add_argument("--steps", type=int, default=STEPS, help="steps at most")
    parser.add_argument("--methods", nargs="+", choices=list(methods()), help="methods to measure again")
    parser.add_argument("--branches", nargs="+", choices=BRANCHES, default=BRANCHES, help="likewise")
    args = parser.parse_args()
    one_thread()
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "tracking.json"
    anew = args.methods is None and len(args.branches) == len(BRANCHES)
    measured = measure(args)
    before = json.loads(path.read_text()) if path.exists() and not anew else {"runs": [], "environment": {}}
    kept = before["runs"]
    runs = {(r["method"], r["branch"]): r for r in kept}
    for r in measured:  # with few other methods, our refresh at each step made fewer steps than before
        old = runs.get((r["method"], r["branch"]))
        if r["method"] != YARDSTICK or old is None or old["steps"] <= r["steps"]:
            runs[r["method"], r["branch"]] = r
    own = {name: said for name, said in environment(args).items() if said != "not installed"}  # rows of it are kept
    record = {"environment": {**before["environment"], **own}, "runs": list(runs.values())}
    path.write_text(json.dumps(record) + "\n")
    text = page(json.loads(path.read_text()))
    (args.out / "tracking.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
