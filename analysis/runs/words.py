"""What was run, in words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import xarray as xr

from analysis import toys
from analysis.runs.panels import specification

USUAL_BETA2 = 0.999  # of Adam: need not be told


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
