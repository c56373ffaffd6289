"""Descriptions of what was run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import xarray as xr

from analysis.runs.panels import specification, specifications
from analysis.specs.kinds import MODELS, RULES, read_numbers


def what_was_run(trajectory: xr.Dataset) -> str:
    """The model, data and loss of a run in two or three lines, e.g. for a panel's title. For a toy, its formulas."""
    problem = specification(trajectory)["problem"]
    model = read_numbers(MODELS, problem["model"])
    if problem["loss"] == "value":
        return f"{model.words()}, {problem['dtype']}"
    loss = {"mse": "MSE", "cross_entropy": "cross-entropy"}[problem["loss"]]
    pooling = problem["data"]["pooling"]
    pooled = f" (pixels averaged {pooling} × {pooling})" if pooling > 1 else ""
    data = f"{trajectory.attrs['train_title']}{pooled}"
    if held_out := problem["data"]["holdout"]:
        data += f"\nHessian on the last {held_out:,}, the others trained on"
    return f"{model.words()}, P = {trajectory.attrs['parameters']:,}, {loss}\n{data}"


def how_it_was_run(trajectory: xr.Dataset) -> str:
    """The update rules in order, e.g. "lr 0.01, batch 50", "SAM, ρ = 0.1, lr 0.01, full batch"."""
    return ", then ".join(dict.fromkeys(_in_words(rule) for rule in rules(trajectory)))


def how_they_were_run(runs: Mapping[str, xr.Dataset]) -> str:
    """The update rules of all runs: one line if they are the same, otherwise a line for each with the labels of its
    runs."""
    labels: dict[str, list[str]] = {}
    for label, run in runs.items():
        labels.setdefault(how_it_was_run(run), []).append(label)
    if len(labels) == 1:
        return next(iter(labels))
    return "\n".join(f"{', '.join(those)}: {text}" for text, those in labels.items())


def rules(trajectory: xr.Dataset) -> list[dict[str, Any]]:
    """The update rule of each segment (from its specification), parents first."""
    return [one["rule"] for one in specifications(trajectory)]


def rule_name(rule: Mapping[str, Any]) -> str:
    """GD, SGD, SAM, Adam, or the title in the file of another rule."""
    title: str = read_numbers(RULES, rule).title
    return title


def refreshed(weights: Mapping[str, Any]) -> str:
    """How often a filter (as in a specification) refreshes its dominant subspace, e.g. "every 10 steps"."""
    if weights["refresh_every"]:
        return f"every {weights['refresh_every']} steps"
    if weights["refresh_error"]:
        return f"for an update error ≤ {weights['refresh_error']:g}"
    return f"for an overlap ≥ {weights['refresh_overlap']:g}"


def _in_words(rule: Mapping[str, Any]) -> str:
    words: str = read_numbers(RULES, rule).words()
    return words
