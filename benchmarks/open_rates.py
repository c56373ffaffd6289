"""The searches for learning rates that docs/claims.md fixes for what the papers leave open, with seed 0.

python -m benchmarks.open_rates --profile quick
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from analysis.data import load
from analysis.plan.join import load_plan
from analysis.plan.plan import Plan
from analysis.specs import SegmentSpec
from analysis.training.segment import train_segment
from analysis.training.state import State

RULES = ("open-sign", "open-rmsprop", "open-lion", "open-muon", "open-shampoo")
# First rate and number of doublings
SETTINGS = {"open-mlp": (0.1, 6), "open-resnet8": (0.01, 4), "open-vit": (0.01, 4)}


@dataclass(frozen=True)
class Pilot:
    """The segments of one seed's path, trained at any learning rate, without spectra or effective rates."""

    plan: Plan
    data_dir: Path

    def losses(self, setting: str, name: str, rate: float) -> tuple[np.ndarray, np.ndarray]:
        """Steps and losses of the last segment; the loss is NaN from where it diverged."""
        path = self.plan.families[setting, name][0].path
        state: State | None = None
        for segment in path:
            spec = self.plan.segments[segment].spec
            probes = {k: numbers for k, numbers in spec.probes.items() if k in ("loss", "test", "steering")}
            changed = {"rule": spec.rule.model_copy(update={"learning_rate": rate}), "probes": probes}
            result = self._train(spec.model_copy(update=changed), segment, state)
            state = result.state
        trajectory = result.trajectory
        if trajectory.attrs["status"] == "diverged":
            return np.array([0, 1]), np.array([np.nan, np.nan])
        return trajectory.step.values, trajectory.loss.values

    def _train(self, spec: SegmentSpec, name: str, state: State | None):
        train, test = (load(one, self.data_dir) for one in (spec.problem.data.train, spec.problem.data.test))
        return train_segment(spec, name, train, test, state)


def rule(pilot: Pilot, name: str) -> None:
    """A rule's loss after 1,000 steps at each rate, and the rate with the lowest."""
    ends = {}
    for half in range(9):
        rate = float(f"{10 ** (-4 + half / 2):.2g}")
        _, loss = pilot.losses("open-rules", name, rate)
        ends[rate] = float(loss[-1])
    best = min((end, rate) for rate, end in ends.items() if np.isfinite(end))[1]
    print(f"{name}: {best:g}; " + ", ".join(f"{rate:g}: {end:.3g}" for rate, end in ends.items()), flush=True)


def sgd(pilot: Pilot, setting: str, first: float, doublings: int) -> None:
    """SGD's loss at the switch, over the branch's last quarter and at the end, at one rate after the other."""
    for doubling in range(doublings + 1):
        rate = first * 2**doubling
        steps, loss = pilot.losses(setting, "open-sgd", rate)
        late = loss[steps >= steps[0] + 0.75 * (steps[-1] - steps[0])].mean()
        print(f"{setting} at {rate:g}: loss {loss[0]:.4g}, last quarter {late:.4g}, end {loss[-1]:.4g}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--profile", default="quick")
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument(
        "--only", action="append", choices=(*SETTINGS, *RULES), help="a setting or rule; may be repeated"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    wanted = arguments.only or (*SETTINGS, *RULES)
    pilot = Pilot(load_plan(arguments.profile), arguments.data_dir)
    for setting, (first, doublings) in SETTINGS.items():
        if setting in wanted and (setting, "open-sgd") in pilot.plan.families:
            sgd(pilot, setting, first, doublings)
    for name in RULES:
        if name in wanted:
            rule(pilot, name)


if __name__ == "__main__":
    main()
