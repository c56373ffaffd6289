"""The state a segment ends in, its checkpoint on the way, and how both are kept in files."""

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
    """Where a segment stands; at its end, what its children begin from.

    Attributes:
        theta: parameters [P].
        step: global step, the number of updates made since initialisation.
        optimizer: what the update rule remembers.
        alignment_ema: EMA of χ_k(∇L) over the measurements so far; 0 before the first, so that some thirty
            aligned measurements are needed to pass 0.95, and not one.
        filter_basis: block [P, k + guard] that the filter's next refresh starts from.
        spectrum_basis: block [P, 2k + guard] that the next spectrum probe starts from.
        rates_basis: block [P, k + guard] that the next measurement of effective learning rates starts from.
        diverged_at: the step at which the run diverged, if it did.
    """

    theta: Tensor
    step: int = 0
    optimizer: dict[str, Tensor] = field(default_factory=dict)
    alignment_ema: float = 0.0
    filter_basis: Tensor | None = None
    spectrum_basis: Tensor | None = None
    rates_basis: Tensor | None = None
    diverged_at: int | None = None

    def on(self, device: torch.device) -> State:
        """The same on another device; counts, which are scalars, stay on the CPU (see `analysis.rules.adam`)."""
        return replace(
            self,
            theta=self.theta.to(device),
            optimizer={name: tensor.to(device) if tensor.ndim else tensor for name, tensor in self.optimizer.items()},
            filter_basis=_moved(self.filter_basis, device),
            spectrum_basis=_moved(self.spectrum_basis, device),
            rates_basis=_moved(self.rates_basis, device),
        )


@dataclass
class Checkpoint:
    """All that an interrupted segment needs to end with the arrays of an undisturbed one.

    Attributes:
        state: where it stands.
        start: θ [P] at its first step (distances are measured from there).
        first_step: global step of `start`.
        dominant: eigenvectors [P, k] of the filter's last refresh.
        refreshed_at: its step.
        counters: products and unconverged refreshes so far.
        records: what was measured so far, by variable.
        stopped_by: why the segment ended; None while it has not.
    """

    state: State
    start: Tensor
    first_step: int
    dominant: Tensor | None = None
    refreshed_at: int | None = None
    counters: dict[str, int] = field(default_factory=dict)
    records: dict[str, list[Any]] = field(default_factory=dict)
    stopped_by: str | None = None

    def on(self, device: torch.device) -> Checkpoint:
        """The same on another device."""
        return replace(
            self,
            state=self.state.on(device),
            start=self.start.to(device),
            dominant=_moved(self.dominant, device),
        )


def _moved(tensor: Tensor | None, device: torch.device) -> Tensor | None:
    return None if tensor is None else tensor.to(device)


def write_state(state: State, path: Path, segment: str) -> None:
    """Write the state atomically.

    Raises:
        InputError: if the folder or the disk does not take it.
    """
    tensors, metadata = _pack(state)
    write_tensors(tensors, {**metadata, "segment": segment}, path)


def read_state(path: Path) -> State:
    """The state in a file that `write_state` wrote.

    Raises:
        InputError: if the file is missing or damaged.
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
        "counters": checkpoint.counters,
        "stopped_by": checkpoint.stopped_by,
    }
    write_tensors(tensors, metadata, path)


def read_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint in a file that `write_checkpoint` wrote.

    Raises:
        InputError: if the file is missing or damaged.
    """
    tensors, metadata = read_tensors(path)
    prefix = "records."
    return Checkpoint(
        state=_unpack(tensors, metadata),
        start=tensors["start"],
        first_step=metadata["first_step"],
        dominant=tensors.get("dominant"),
        refreshed_at=metadata["refreshed_at"],
        counters=metadata["counters"],
        records={n.removeprefix(prefix): list(t.numpy()) for n, t in tensors.items() if n.startswith(prefix)},
        stopped_by=metadata["stopped_by"],
    )


_BASES = ("filter_basis", "spectrum_basis", "rates_basis")


def _pack(state: State) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors = {"theta": state.theta, **{f"optimizer.{n}": t for n, t in state.optimizer.items()}}
    for name in _BASES:
        if (basis := getattr(state, name)) is not None:
            tensors[name] = basis
    metadata = {
        "step": state.step,
        "alignment_ema": state.alignment_ema,
        "diverged_at": state.diverged_at,
    }
    return tensors, metadata


def _unpack(tensors: dict[str, Tensor], metadata: dict[str, Any]) -> State:
    prefix = "optimizer."
    return State(
        theta=tensors["theta"],
        step=metadata["step"],
        optimizer={n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)},
        alignment_ema=metadata["alignment_ema"],
        diverged_at=metadata["diverged_at"],
        **{name: tensors.get(name) for name in _BASES},
    )
