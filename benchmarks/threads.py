"""How far runs with one and with two threads come apart: the numbers of docs/determinism.md.

    python -m benchmarks.threads [steps]

Trains the quick profile's MLP, CNN and Transformer by SGD, and the MLP by Bulk-SGD, from their initialisation, with one
thread, again with one, and with two, and prints the largest relative differences along each run as a Markdown table.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
import xarray as xr

from analysis.data import load
from analysis.plan.join import load_plan
from analysis.specs import SegmentSpec, StopSpec
from analysis.training.segment import train_segment

RUNS = {
    "MLP, SGD": ("mlp", "sgd"),
    "MLP, Bulk-SGD": ("mlp", "bulk-sgd"),
    "CNN, SGD": ("cnn", "sgd"),
    "Transformer, SGD": ("transformer", "sgd"),
}


def run(spec: SegmentSpec, threads: int) -> xr.Dataset:
    torch.set_num_threads(threads)
    data = spec.problem.data
    return train_segment(spec, "run", load(data.train), load(data.test), None).trajectory


def apart(one: xr.Dataset, other: xr.Dataset, k: int) -> list[float]:
    """The largest relative differences of loss, first k eigenvalues and χ_k(∇L), and that of the loss at step 10."""
    pairs = [
        (one.loss, other.loss),
        (one.eigenvalues.sel(index=slice(k)), other.eigenvalues.sel(index=slice(k))),
        (one.alignment, other.alignment),
        (one.loss.sel(step=10), other.loss.sel(step=10)),
    ]
    return [float(np.max(abs(a - b) / abs(a))) for a, b in pairs]


def main(steps: int) -> None:
    torch.set_deterministic_debug_mode("error")
    plan = load_plan("quick")
    print(f"| {steps} steps | loss | λ_1 … λ_k | χ_k(∇L) | loss after 10 steps |\n| --- | --- | --- | --- | --- |")
    for name, planned in RUNS.items():
        spec = plan.segments[plan.runs[planned][-1]].spec
        spec = spec.model_copy(update={"parent": None, "stop": StopSpec(steps=steps)})
        one, again, two = (run(spec, threads) for threads in (1, 1, 2))
        xr.testing.assert_identical(one, again)
        numbers = apart(one, two, spec.problem.k)
        print(f"| {name} | {' | '.join(f'{number:.1e}' for number in numbers)} |", flush=True)
    print("\nTwo runs with one thread: identical, every variable.")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
