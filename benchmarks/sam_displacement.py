"""How Bulk-SAM depends on the displacement in the dominant subspace that SAM has at the switch.

python -m benchmarks.sam_displacement --profile laptop --data-dir DATA --output docs/benchmarks/sam_displacement.json

From SAM's last parameters, two Newton steps within the dominant subspace lead to the bottom of the valley. Bulk-SAM
starts there, with no displacement to keep. It also starts from SAM's parameters, and from their mirror image.
SAM's state is read from `results/`. If it is not there, SAM is trained.
"""

from __future__ import annotations

import argparse
import json
import platform
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import xarray as xr
from torch import Tensor

from analysis.data import load
from analysis.plan.join import load_plan
from analysis.specs import SegmentSpec
from analysis.training.problem import make_problem
from analysis.training.segment import train_segment
from analysis.training.state import State, read_state
from sharpflat import Hessian, Objective, top_eigenspace

EVERY = 20  # steps between two measurements of the loss
STARTS = {"bottom": 0.0, "mirror": -1.0, "SAM": 1.0}  # the displacement relative to SAM's


def bottom(objective: Objective, theta: Tensor, k: int) -> Tensor:
    """[P] The parameters after two Newton steps within the top-k eigenspace of the Hessian."""
    for _ in range(2):
        space = top_eigenspace(Hessian(objective, theta), k, tolerance=1e-3)
        components = space.eigenvectors.T @ objective.value_and_gradient(theta)[1]
        theta = theta - space.eigenvectors @ (components / space.eigenvalues)
    return theta


def branch(spec: SegmentSpec, steps: int, train: xr.Dataset, test: xr.Dataset, start: State) -> dict[str, Any]:
    """The segment's first `steps` steps from a state."""
    probes = {**spec.probes, "loss": spec.probes["loss"].model_copy(update={"every": EVERY})}
    stop = spec.stop.model_copy(update={"steps": steps, "step": None})
    own = spec.model_copy(update={"stop": stop, "probes": probes})
    run = train_segment(own, "branch", train, test, start).trajectory
    return {
        "loss": run.loss.values.tolist(),
        "alignment": run.alignment.values.tolist(),
        "eigenvalues": run.eigenvalues.values[-1].tolist(),
        "distance": float(run.distance.values[-1]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="quick")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, nargs="*", help="all of the profile's if omitted")
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    plan = load_plan(arguments.profile)
    seeds: dict[int, dict[str, Any]] = {}

    def write() -> None:
        result = {
            "profile": arguments.profile,
            "steps": arguments.steps,
            "every": EVERY,
            "seeds": seeds,
            "machine": platform.machine(),
            "torch": torch.__version__,
        }
        if arguments.output:
            arguments.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")

    (claim,) = (claim for claim in plan.claims.claims if claim.name == "song-sam")
    (panel,) = claim.panels
    one_seed = {label: [({}, path)] for label, path in panel.runs}
    runs = {label: [path for _, path in members] for label, members in (one_seed | dict(panel.families)).items()}
    for plain, filtered in zip(runs["SAM"], runs["Bulk-SAM"], strict=True):
        shared, spec = plain[0], plan.segments[plain[0]].spec
        if arguments.seeds and spec.seed not in arguments.seeds:
            continue
        train, test = (load(one, arguments.data_dir) for one in (spec.problem.data.train, spec.problem.data.test))
        stored = Path("results") / arguments.profile / "segments" / shared / "state.safetensors"
        state = read_state(stored) if stored.exists() else train_segment(spec, shared, train, test, None).state
        objective = make_problem(spec.problem, train, test, spec.seed, "cpu").training
        lowest = bottom(objective, state.theta, spec.problem.k)
        sam, bulk = plan.segments[plain[1]].spec, plan.segments[filtered[1]].spec
        found = {"SAM": branch(sam, arguments.steps, train, test, state)}
        for name, factor in STARTS.items():
            start = state.theta if factor == 1 else lowest + factor * (state.theta - lowest)
            found[f"Bulk-SAM from {name}"] = branch(bulk, arguments.steps, train, test, replace(state, theta=start))
            print(
                spec.seed,
                *(f"{label}: {of['loss'][0] - of['loss'][-1]:.6f}" for label, of in found.items()),
                flush=True,
            )
            seeds[spec.seed] = found
            write()


if __name__ == "__main__":
    main()
