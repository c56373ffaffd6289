"""What the spectrum's tolerances cost, and what they change in figures: `python -m benchmarks.spectrum_tolerance`.

Trains settings of `quick` by SGD, and at the spectrum's interval measures the 2k largest eigenvalues to several
tolerances, each started from its own last measurement, compared with tight ones. Writes `spectrum.json` and
`spectrum.md`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from analysis.data import load  # noqa: E402
from analysis.plan.join import load_plan  # noqa: E402
from analysis.training.problem import make_problem  # noqa: E402
from analysis.training.sampler import Sampler  # noqa: E402
from sharpflat import DominantSubspace, Hessian, top_eigenspace  # noqa: E402

TIGHT = 2e-3  # of λ_2k, of the eigenpairs that the others are compared with
WAYS: dict[str, tuple[float, float | None]] = {  # tolerances: of the first pairs, and of the next (None: the same)
    "all 2k within 0.01 λ_2k": (0.01, None),
    "all 2k within 0.1 λ_2k": (0.1, None),
    "k + 1 within 0.02 λ_(k+1), others within 0.005 λ_1": (0.02, 0.005),
    "k + 1 within 0.05 λ_(k+1), others within 0.005 λ_1": (0.05, 0.005),
    "k + 1 within 0.05 λ_(k+1), others within 0.01 λ_1": (0.05, 0.01),
    "k + 1 within 0.1 λ_(k+1), others within 0.01 λ_1": (0.1, 0.01),
    "k + 1 within 0.1 λ_(k+1), others within 0.02 λ_1": (0.1, 0.02),
}


def measure(setting: str, begin: int, count: int) -> dict[str, object]:
    """Train a setting of `quick` by SGD; from step `begin` on measure `count` times at its interval."""
    plan = load_plan("quick")
    path = next(p for (s, n), p in known_runs(plan) if (s, n) == (setting, "sgd-until-aligned"))
    spec = plan.segments[path[0]].spec
    problem = make_problem(spec.problem, load(spec.problem.data.train), load(spec.problem.data.test), spec.seed)
    objective, theta, k = problem.training, problem.training.theta, spec.problem.k
    sampler = Sampler(len(objective.inputs), spec.rule.batch_size, seed=spec.seed, replacement=False)
    every = spec.probes["spectrum"].every
    starts: dict[str, torch.Tensor | None] = dict.fromkeys(["tight", *WAYS])
    rows: dict[str, list[list[float]]] = {name: [] for name in WAYS}
    leading = []
    for step in range(begin + (count - 1) * every + 1):
        if step >= begin and (step - begin) % every == 0:
            gradient = objective.gradient(theta)
            found, seconds = {}, {}
            for name, start in starts.items():
                begun = time.process_time()
                found[name] = solve(name, Hessian(objective, theta), k, start)
                seconds[name] = time.process_time() - begun
                starts[name] = found[name].start
            tight = found["tight"]
            chi = alignment(tight, k, gradient)
            leading.append(float(tight.eigenvalues[0]))
            gap = float(tight.eigenvalues[k - 1] / tight.eigenvalues[k])
            for name in WAYS:
                own_gap = float(found[name].eigenvalues[k - 1] / found[name].eigenvalues[k])
                errors = (found[name].eigenvalues - tight.eigenvalues).abs() / tight.eigenvalues[0]
                rows[name].append(
                    [
                        found[name].products,
                        seconds[name],
                        float(errors[:k].max()),
                        float(errors[k:].max()),
                        abs(alignment(found[name], k, gradient) - chi),
                        abs(own_gap / gap - 1),
                    ]
                )
        theta = theta - spec.rule.learning_rate * objective.gradient(theta, sampler.indices(step))
    # The first measurement of each way starts from random vectors: it is no measurement along a run.
    ways = {
        name: {
            "products": float(np.mean([row[0] for row in own[1:]])),
            "seconds": float(np.median([row[1] for row in own[1:]])),
            "first_k": float(max(row[2] for row in own[1:])),
            "next_k": float(max(row[3] for row in own[1:])),
            "next_k_median": float(np.median([row[3] for row in own[1:]])),
            "alignment": float(max(row[4] for row in own[1:])),
            "gap": float(max(row[5] for row in own[1:])),
        }
        for name, own in rows.items()
    }
    title = f"{setting}: {problem.titles[0]}, k = {k}, every {every} steps from step {begin} to {step}"
    return {"title": title, "sharpness": [leading[0], leading[-1]], "ways": ways}


def known_runs(plan):
    yield from plan.runs.items()
    yield from ((key, family[0].path) for key, family in plan.families.items())


def solve(name, hessian, k, start):
    tolerance, others = WAYS.get(name, (TIGHT, None))
    if others is None:
        return top_eigenspace(hessian, 2 * k, start=start, tolerance=tolerance)
    return top_eigenspace(hessian, k + 1, start=start, tolerance=tolerance, beyond=k - 1, beyond_tolerance=others)


def alignment(found, k, gradient):
    return float(DominantSubspace(found.eigenvectors[:, :k]).alignment(gradient))


def table(measured: dict[str, object]) -> list[str]:
    low, high = measured["sharpness"]
    lines = [
        f"## {measured['title']}",
        "",
        f"λ_1 goes from {low:.1f} to {high:.1f}.",
        "",
        "| tolerance | products | CPU time, ms | largest error of the first k | largest error of the next k (median) "
        "| largest error of χ_k | of λ_k/λ_(k+1) |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, way in measured["ways"].items():
        lines.append(
            f"| {name} | {way['products']:.1f} | {1000 * way['seconds']:.0f} | {way['first_k']:.2%} | "
            f"{way['next_k']:.2%} ({way['next_k_median']:.2%}) | {way['alignment']:.1e} | {way['gap']:.2%} |"
        )
    return [*lines, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", nargs="+", default=["mlp", "mlp-ce", "transformer"])
    parser.add_argument("--begin", type=int, default=200)
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "benchmarks")
    args = parser.parse_args()
    torch.set_num_threads(1)
    results = []
    for setting in args.settings:
        results.append(measure(setting, args.begin, args.count))
        print("\n".join(table(results[-1])), flush=True)
    intro = [
        "# Tolerances of the spectrum",
        "",
        f"`python -m benchmarks.spectrum_tolerance`, torch {torch.__version__}, 1 thread. Written by the script; the "
        "raw numbers are in `spectrum.json`.",
        "",
        "Means of products and medians of times over the measurements along SGD, each way started from its own last "
        f"measurement. Errors are against eigenpairs with residuals below {TIGHT:g} λ_2k, in units of λ_1, the height "
        "of figure 2's axis: a line there is 0.5 % wide. The spectrum's probe takes 0.05 λ_(k+1) and 0.01 λ_1: what it "
        "draws is right to half a line as a rule, and to two lines at the worst; χ_k to 0.01.",
        "",
    ]
    args.output.joinpath("spectrum.md").write_text("\n".join([*intro, *(line for r in results for line in table(r))]))
    args.output.joinpath("spectrum.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
