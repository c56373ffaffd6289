"""The learning rate at which Bulk-SGD's sharpness explodes; docs/full-size/zs-mlp.md fixes the rule.

python -m benchmarks.instability_rates --profile laptop --data-dir DATA --output docs/benchmarks/instability.json

From SGD's state at the switch (seed 0, learning rate 0.1) SGD and Bulk-SGD go on at a rate of their own. The rate
doubles from 0.1 until Bulk-SGD explodes, and is then bisected on a logarithmic scale.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from analysis.data import load
from analysis.plan.join import load_plan
from analysis.training.segment import train_segment

SETTING, BRANCHES = "zs-mlp", {"SGD": "zs-sgd", "Bulk-SGD": "zs-bulk-sgd"}
FIRST, DOUBLINGS, BISECTIONS = 0.1, 8, 4
EVERY = 20  # steps between two measurements of λ_1
SHARPNESS, LOSS = 10.0, 10.0  # relative to the switch


def exploded(run: dict[str, Any], start: dict[str, float]) -> bool:
    """The rule: it diverged, or λ_1 or the loss passed ten times their value at the switch."""
    limits = {"sharpness_max": SHARPNESS * start["sharpness"], "loss_max": LOSS * start["loss"]}
    return bool(run["diverged"]) or any(run[name] > limit for name, limit in limits.items())


def search(explodes: Callable[[float], bool]) -> tuple[float, float]:
    """The largest rate tried at which it does not explode, and the smallest at which it does; inf if none does."""
    below, above = math.nan, math.inf
    for doubling in range(DOUBLINGS + 1):
        rate = FIRST * 2**doubling
        if explodes(rate):
            above = rate
            break
        below = rate
    if math.isfinite(below) and math.isfinite(above):
        for _ in range(BISECTIONS):
            middle = float(f"{math.sqrt(below * above):.3g}")
            below, above = (below, middle) if explodes(middle) else (middle, above)
    return below, above


def summary(trajectory: xr.Dataset) -> dict[str, Any]:
    """What is reported of a branch."""
    sharpness, norm = trajectory.eigenvalues[:, 0].values, trajectory.gradient_norm.values
    loss = trajectory.loss.values

    def largest(values: np.ndarray) -> float:
        return float(np.nanmax(values, initial=-math.inf))

    return {
        "diverged": trajectory.attrs["status"] == "diverged",
        "last_step": int(trajectory.attrs["last_step"]),
        "loss": float(loss[-1]),
        "loss_max": largest(loss),
        "sharpness": float(sharpness[-1]),
        "sharpness_max": largest(sharpness),
        "gradient_norm": float(norm[-1]),
        "gradient_norm_max": largest(norm),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="quick")
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    began, plan = time.monotonic(), load_plan(arguments.profile)
    paths = {label: plan.families[SETTING, name][0].path for label, name in BRANCHES.items()}
    (shared,) = {path[0] for path in paths.values()}
    spec = plan.segments[shared].spec
    train, test = (load(one, arguments.data_dir) for one in (spec.problem.data.train, spec.problem.data.test))
    begun = train_segment(spec, shared, train, test, None)
    at_switch = begun.trajectory
    start = {"loss": float(at_switch.loss[-1]), "sharpness": float(at_switch.eigenvalues[-1, 0])}
    found: dict[float, dict[str, Any]] = {}

    def explodes(rate: float) -> bool:
        runs = {}
        for label, path in paths.items():
            own = plan.segments[path[1]].spec
            spectrum = own.probes["spectrum"].model_copy(update={"every": EVERY})
            changed = {
                "rule": own.rule.model_copy(update={"learning_rate": rate}),
                "probes": {**own.probes, "spectrum": spectrum},
            }
            own = own.model_copy(update=changed)
            runs[label] = summary(train_segment(own, path[1], train, test, begun.state).trajectory)
            print(rate, label, runs[label], flush=True)
        found[rate] = runs
        return exploded(runs["Bulk-SGD"], start)

    below, above = search(explodes)
    result = {
        "profile": arguments.profile,
        "setting": SETTING,
        "switch": int(at_switch.attrs["last_step"]),
        "at_switch": start,
        "largest_without": below,
        "smallest_with": above,
        "rates": {f"{rate:g}": found[rate] for rate in sorted(found)},
        "seconds": round(time.monotonic() - began),
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
    }
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
