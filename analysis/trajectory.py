"""Reading trajectories: a run from its segments, and in words what was run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from analysis import toys

DIMENSIONS = ("step", "test_step", "spectrum_step", "rate_step", "refresh_step")
USUAL_BETA2 = 0.999  # of Adam: need not be told


@dataclass(frozen=True)
class Member:
    """One run of a family of runs that differ in a few numbers.

    Attributes:
        varied: these numbers by name: seed, learning_rate, holdout, k, refresh_every, step (where the segment before
            the switch ends), alpha_dom, beta_bulk.
        run: from its first step.
        segments: ids.
    """

    varied: dict[str, float]
    run: xr.Dataset
    segments: list[str]


@dataclass(frozen=True)
class Panel:
    """One setting of a figure or a claim: its runs by label, each from its first step.

    Where asked for, a run has `theta` along `snapshot_step`, or what the curvature stage made of it
    (`analysis.training.energies`), and `distances` are those between the two runs (`analysis.distances`). A label whose
    segments vary in something stands in `families`, in the configuration's order, and not in `runs`.
    """

    setting: str
    title: str
    runs: dict[str, xr.Dataset]
    segments: dict[str, list[str]]
    distances: xr.Dataset | None = None
    families: dict[str, list[Member]] = field(default_factory=dict)

    def alike(self, *names: str) -> list[tuple[dict[str, float], Panel]]:
        """The panel once for each combination of what its families vary in, each with one run a label.

        Args:
            names: what to tell apart ("seed"); other numbers must not vary.

        Returns:
            (values of `names`, a panel without families), in order; only combinations that all families have.

        Raises:
            ValueError: if a family varies in something else.
        """
        found: dict[tuple[float, ...], dict[str, Member]] = {}
        for label, members in self.families.items():
            for member in members:
                if set(member.varied) != set(names):
                    raise ValueError(f"{label} varies in {', '.join(member.varied)}, not in {', '.join(names)} alone")
                found.setdefault(tuple(member.varied[n] for n in names), {})[label] = member
        return [
            (
                dict(zip(names, values, strict=True)),
                replace(
                    self,
                    runs=self.runs | {label: m.run for label, m in members.items()},
                    segments=self.segments | {label: m.segments for label, m in members.items()},
                    families={},
                ),
            )
            for values, members in found.items()
            if len(members) == len(self.families)
        ]


def by_name(paths: Iterable[str]) -> dict[str, Path]:
    """Files of datasets by the names that plans use: a segment's id for its trajectory, `<id>/snapshots`, and a file's
    own name for distances."""
    found = {}
    for path in map(Path, paths):
        own = {"trajectory": path.parent.name, "snapshots": f"{path.parent.name}/snapshots"}
        found[own.get(path.stem, path.stem)] = path
    return found


def read_panels(planned: Mapping[str, Any], datasets: Mapping[str, xr.Dataset]) -> list[Panel]:
    """The panels of a planned figure or claim, with their runs put together from segments."""
    return [
        Panel(
            panel["setting"],
            panel["title"],
            {label: _run(path, datasets, panel) for label, path in panel["runs"]},
            {label: path for label, path in panel["runs"]},
            datasets[panel["distances"]] if "distances" in panel else None,
            {
                label: [Member(varied, _run(path, datasets, panel), path) for varied, path in members]
                for label, members in panel["families"]
            },
        )
        for panel in planned["panels"]
    ]


def _run(path: Sequence[str], datasets: Mapping[str, xr.Dataset], panel: Mapping[str, Any]) -> xr.Dataset:
    run = concatenate([datasets[i] for i in path])
    if panel.get("snapshots"):
        taken = _joined([datasets[f"{i}/snapshots"] for i in path], "snapshot_step")
        run = run.assign(theta=taken.theta)
    if panel.get("energies"):
        measured = _joined([datasets[panel["energies"][i]] for i in path], "snapshot_step")
        run = run.merge(measured, combine_attrs="override")
    return run


def concatenate(segments: Sequence[xr.Dataset]) -> xr.Dataset:
    """One trajectory from the segments of a path, parents first.

    A child's first measurement is at its parent's last step: the parent's row is dropped there, since the child's
    also knows the update made. Distances stay those from each segment's own start. Attributes are the last
    segment's; `switches` lists where the later segments begin, `specifications` those of all segments.
    """
    whole = xr.Dataset(attrs=dict(segments[-1].attrs))
    for dimension in DIMENSIONS:
        whole = whole.merge(_joined(segments, dimension), combine_attrs="override")
    whole.attrs["switches"] = [int(s.attrs["first_step"]) for s in segments[1:]]
    whole.attrs["specifications"] = [s.attrs["specification"] for s in segments]
    return whole


def _joined(segments: Sequence[xr.Dataset], dimension: str) -> xr.Dataset:
    """The variables along `dimension`, where segments meet the later one's."""
    names = [n for n, v in segments[-1].data_vars.items() if dimension in v.dims]
    kept = []
    for segment, following in zip(segments, [*segments[1:], None], strict=True):
        if following is not None:
            ends_before = following[dimension].values.min(initial=np.iinfo(np.int64).max)
            segment = segment.sel({dimension: segment[dimension] < ends_before})
        kept.append(segment[names])
    return xr.concat(kept, dimension)


def specification(trajectory: xr.Dataset) -> dict[str, Any]:
    """The segment's specification (`analysis.specs.SegmentSpec` as plain values)."""
    return json.loads(trajectory.attrs["specification"])


def what_was_run(trajectory: xr.Dataset) -> str:
    """Model, data and loss as they were run, e.g. for a panel's title; of a toy, its formulas. Two lines, or three."""
    problem = specification(trajectory)["problem"]
    model = problem["model"]
    if (toy := toys.read(model)) is not None:
        return f"{toys.formula(toy)}, {problem['dtype']}"
    sizes = {
        "mlp": lambda m: f"{m['hidden_layers']} × {m['width']} {m['activation']}",
        "cnn": lambda m: f"{m['convolutions']} × {m['channels']} channels",
        "transformer": lambda m: f"{m['layers']} layers, width {m['width']}, {m['heads']} heads",
        "vgg11": lambda m: (
            f"11 layers, {m['width']} to {8 * m['width']} channels"
            + (", He initialisation" if m["initialisation"] == "he" else "")
        ),
        "resnet8": lambda m: f"8 layers, {m['width']} to {4 * m['width']} channels",
    }
    size = sizes.get(model["kind"], lambda m: ", ".join(f"{k} {v}" for k, v in m.items() if k != "kind"))
    loss = {"mse": "MSE", "cross_entropy": "cross-entropy"}[problem["loss"]]
    pooling = problem["data"]["pooling"]
    pooled = f" (pixels averaged {pooling} × {pooling})" if pooling > 1 else ""
    data = f"{trajectory.attrs['train_title']}{pooled}"
    if held_out := problem["data"]["holdout"]:
        data += f"\nHessian on the last {held_out:,}, the others trained on"
    return f"{size(model)}, P = {trajectory.attrs['parameters']:,}, {loss}\n{data}"


def how_it_was_run(trajectory: xr.Dataset) -> str:
    """The update rules in their order, e.g. "lr 0.01, batch 50", "SAM, ρ = 0.1, lr 0.01, full batch"."""
    return ", then ".join(dict.fromkeys(_in_words(rule) for rule in rules(trajectory)))


def how_they_were_run(runs: Mapping[str, xr.Dataset]) -> str:
    """The update rules of all runs: one line if they are the same, else a line for each, with the runs' labels."""
    labels: dict[str, list[str]] = {}
    for label, run in runs.items():
        labels.setdefault(how_it_was_run(run), []).append(label)
    if len(labels) == 1:
        return next(iter(labels))
    return "\n".join(f"{', '.join(those)}: {text}" for text, those in labels.items())


def rules(trajectory: xr.Dataset) -> list[dict[str, Any]]:
    """The update rule of each segment (as in its specification), parents first."""
    texts = trajectory.attrs.get("specifications", [trajectory.attrs["specification"]])
    return [json.loads(text)["rule"] for text in texts]


def rule_name(rule: Mapping[str, Any]) -> str:
    """GD, SGD, SAM or Adam."""
    if rule["kind"] == "sgd":
        return "GD" if rule["batch_size"] is None else "SGD"
    return {"sam": "SAM", "adam": "Adam"}[rule["kind"]]


def _in_words(rule: Mapping[str, Any]) -> str:
    words = [] if rule["kind"] == "sgd" else [rule_name(rule)]
    if rule["kind"] == "sam":
        words.append(f"ρ = {rule['rho']:g}")
    words.append(f"lr {rule['learning_rate']:g}")
    replaced = " with replacement" if rule.get("replacement") else ""
    words.append("full batch" if rule["batch_size"] is None else f"batch {rule['batch_size']}{replaced}")
    if rule.get("momentum"):  # Adam's is β_1
        words.append(f"momentum {rule['momentum']:g}")
    if rule.get("beta2", USUAL_BETA2) != USUAL_BETA2:
        words.append(f"β₂ = {rule['beta2']:g}")
    return ", ".join(words)
