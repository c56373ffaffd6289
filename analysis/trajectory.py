"""Reading trajectories: a run from its segments, and in words what was run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from analysis import toys

DIMENSIONS = ("step", "test_step", "spectrum_step", "rate_step")


@dataclass(frozen=True)
class Panel:
    """One setting of a figure or a claim: its runs by label, each from its first step.

    Where asked for, a run has `theta` along `snapshot_step`, and `distances` are those between the two runs
    (`analysis.distances`).
    """

    setting: str
    title: str
    runs: dict[str, xr.Dataset]
    segments: dict[str, list[str]]
    distances: xr.Dataset | None = None


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
            {label: _run(path, datasets, bool(panel.get("snapshots"))) for label, path in panel["runs"]},
            {label: path for label, path in panel["runs"]},
            datasets[panel["distances"]] if "distances" in panel else None,
        )
        for panel in planned["panels"]
    ]


def _run(path: Sequence[str], datasets: Mapping[str, xr.Dataset], snapshots: bool) -> xr.Dataset:
    run = concatenate([datasets[i] for i in path])
    if snapshots:
        taken = _joined([datasets[f"{i}/snapshots"] for i in path], "snapshot_step")
        run = run.assign(theta=taken.theta)
    return run


def concatenate(segments: Sequence[xr.Dataset]) -> xr.Dataset:
    """One trajectory from the segments of a path, parents first.

    A child's first measurement is at its parent's last step: the parent's row is dropped there, since the child's
    also knows the update made. Distances stay those from each segment's own start. Attributes are the last
    segment's, and `switches` lists where the later segments begin.
    """
    whole = xr.Dataset(attrs=dict(segments[-1].attrs))
    for dimension in DIMENSIONS:
        whole = whole.merge(_joined(segments, dimension), combine_attrs="override")
    whole.attrs["switches"] = [int(s.attrs["first_step"]) for s in segments[1:]]
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


def stochastic_run(panel: Panel) -> xr.Dataset:
    """The first of a panel's runs that has minibatches, or else the first one: for a title that tells their size."""
    runs = list(panel.runs.values())
    return next((run for run in runs if specification(run)["rule"]["batch_size"] is not None), runs[0])


def what_was_run(trajectory: xr.Dataset) -> str:
    """Model, data and loss as they were run, e.g. for a panel's title; of a toy, its formulas. Two lines."""
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
    return f"{size(model)}, P = {trajectory.attrs['parameters']:,}, {loss}\n{trajectory.attrs['train_title']}{pooled}"


def how_it_was_run(trajectory: xr.Dataset) -> str:
    """Learning rate and batch size, e.g. "lr 0.01, batch 50"."""
    rule = specification(trajectory)["rule"]
    batch = "full batch" if rule["batch_size"] is None else f"batch {rule['batch_size']}"
    return f"lr {rule['learning_rate']:g}, {batch}"
