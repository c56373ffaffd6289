"""The final state of a segment and its checkpoint, and how both are stored in files."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from analysis.store.tensors import read_tensors, write_tensors


@dataclass
class State:
    """The current state of a segment. At its end, its children start from it.

    Attributes:
        theta: parameters [P].
        step: global step, the number of updates made since initialisation.
        optimizer: the state of the update rule.
        kept: tensors and numbers with which the filter ("filter") and the probes (by kind) continue, such as the block
            from which the next search for eigenvectors starts.
        diverged_at: the step at which the run diverged, if it did.
    """

    theta: Tensor
    step: int = 0
    optimizer: dict[str, Tensor] = field(default_factory=dict)
    kept: dict[str, dict[str, Any]] = field(default_factory=dict)
    diverged_at: int | None = None

    def on(self, device: torch.device) -> State:
        """The same state on another device. Counts, which are scalars, stay on the CPU (see `analysis.rules.adam`)."""
        return replace(
            self,
            theta=self.theta.to(device),
            optimizer={name: _on(tensor, device) for name, tensor in self.optimizer.items()},
            kept={of: {name: _on(value, device) for name, value in own.items()} for of, own in self.kept.items()},
        )


@dataclass
class Checkpoint:
    """Everything that an interrupted segment needs to end with the arrays of an undisturbed one.

    Attributes:
        state: its current state.
        start: θ [P] at its first step (distances are measured from there).
        first_step: global step of `start`.
        dominant: eigenvectors [P, k] of the filter's last refresh.
        refreshed_at: the step of that refresh.
        interval: steps from there to the next refresh.
        counters: products and unconverged refreshes so far.
        records: the measurements so far, by variable.
        stopped_by: why the segment ended (`StoppedBy`); None if it has not ended.
    """

    state: State
    start: Tensor
    first_step: int
    dominant: Tensor | None = None
    refreshed_at: int | None = None
    interval: int | None = None
    counters: dict[str, int] = field(default_factory=dict)
    records: dict[str, list[Any]] = field(default_factory=dict)
    stopped_by: str | None = None

    def on(self, device: torch.device) -> Checkpoint:
        """The same checkpoint on another device."""
        return replace(
            self,
            state=self.state.on(device),
            start=self.start.to(device),
            dominant=None if self.dominant is None else self.dominant.to(device),
        )


def _on(value: Any, device: torch.device) -> Any:
    return value.to(device) if isinstance(value, Tensor) and value.ndim else value


def write_state(state: State, path: Path, segment: str) -> None:
    """Write the state atomically.

    Raises:
        InputError: it cannot be written.
    """
    tensors, metadata = _pack(state)
    write_tensors(tensors, {**metadata, "segment": segment}, path)


def read_state(path: Path) -> State:
    """The state in a file that `write_state` wrote.

    Raises:
        InputError: the file is missing or damaged.
    """
    return _unpack(*read_tensors(path))


def write_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write the checkpoint atomically, records included."""
    tensors, metadata = _pack(checkpoint.state)
    tensors["start"] = checkpoint.start
    if checkpoint.dominant is not None:
        tensors["dominant"] = checkpoint.dominant
    for name, rows in checkpoint.records.items():
        tensors[f"records.{name}"] = torch.from_numpy(np.asarray(rows))
    metadata |= {
        "first_step": checkpoint.first_step,
        "refreshed_at": checkpoint.refreshed_at,
        "interval": checkpoint.interval,
        "counters": checkpoint.counters,
        "stopped_by": checkpoint.stopped_by,
    }
    write_tensors(tensors, metadata, path)


def read_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint in a file that `write_checkpoint` wrote.

    Raises:
        InputError: the file is missing or damaged.
    """
    tensors, metadata = read_tensors(path)
    prefix = "records."
    return Checkpoint(
        state=_unpack(tensors, metadata),
        start=tensors["start"],
        first_step=metadata["first_step"],
        dominant=tensors.get("dominant"),
        refreshed_at=metadata["refreshed_at"],
        interval=metadata["interval"],
        counters=metadata["counters"],
        records={n.removeprefix(prefix): list(t.numpy()) for n, t in tensors.items() if n.startswith(prefix)},
        stopped_by=metadata["stopped_by"],
    )


def _pack(state: State) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors = {"theta": state.theta, **{f"optimizer.{n}": t for n, t in state.optimizer.items()}}
    numbers: dict[str, dict[str, Any]] = {}
    for of, own in state.kept.items():
        for name, value in own.items():
            if isinstance(value, Tensor):
                tensors[f"kept.{of}.{name}"] = value
            else:
                numbers.setdefault(of, {})[name] = value
    return tensors, {"step": state.step, "diverged_at": state.diverged_at, "kept": numbers}


def _unpack(tensors: dict[str, Tensor], metadata: dict[str, Any]) -> State:
    kept: dict[str, dict[str, Any]] = {of: dict(own) for of, own in metadata["kept"].items()}
    for name, tensor in tensors.items():
        match name.split(".", 2):
            case "kept", of, own:
                kept.setdefault(of, {})[own] = tensor
    prefix = "optimizer."
    return State(
        theta=tensors["theta"],
        step=metadata["step"],
        optimizer={n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)},
        kept=kept,
        diverged_at=metadata["diverged_at"],
    )
