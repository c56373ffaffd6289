"""Side effects of a forward pass: on θ, data, buffers and the random generators."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sharpflat.curvature.data import Tree, tensors_of
from sharpflat.curvature.layers import changed_in_place
from sharpflat.errors import InputError

if TYPE_CHECKING:
    from sharpflat.curvature.objective import Objective


class Fault(InputError):
    """A problem that a self-check found."""


@contextmanager
def watching(objective: Objective, theta: Tensor, data: Tree) -> Iterator[None]:
    """Raises Fault if the code inside changes θ, data, buffers or random generators, and restores them."""
    model = objective.model
    slots = [(m._buffers, n, b) for m in model.modules() for n, b in m._buffers.items() if b is not None]
    names = {id(b): name for name, b in model.named_buffers()}
    watched: dict[str, list[Tensor]] = {"the parameters": [theta], "its inputs or targets": tensors_of(data)}
    copies = {what: [t.detach().clone() for t in tensors] for what, tensors in watched.items()}
    buffers = [b.detach().clone() for _, _, b in slots]
    states = _random_states(objective.device)
    fault = None
    try:
        yield
    finally:
        for what, tensors in watched.items():
            for tensor, copy in zip(tensors, copies[what], strict=True):
                if not _same(tensor, copy):
                    _put_back(tensor, copy)
                    fault = fault or changed_in_place(what)
        for (holder, name, buffer), copy in zip(slots, buffers, strict=True):
            if not _same(holder[name], copy):
                fault = fault or (
                    f"the model's forward pass changed its buffer {names.get(id(buffer), name)!r} (running statistics, "
                    "a power iteration, a counter), so its outputs depend on earlier calls; call model.eval()"
                )
                _put_back(buffer, copy)
                holder[name] = buffer
        if any(not same(state) for state, same, _ in states):
            fault = fault or (
                "the model or loss draws random numbers (dropout, noise, sampling), so the loss is no function of θ "
                "alone; call model.eval() or remove the randomness"
            )
        for state, _, put_back in states:
            put_back(state)
        if fault:
            raise Fault(fault)


def _same(a: Tensor | None, b: Tensor) -> bool:
    if a is None or a.shape != b.shape or a.dtype != b.dtype or a.layout != b.layout:
        return False
    if a.layout != torch.strided:
        a, b = a.to_dense(), b.to_dense()
    return bool(((a == b) | ((a != a) & (b != b))).all())


def _put_back(tensor: Tensor, copy: Tensor) -> None:
    with torch.no_grad():
        tensor.detach().copy_(copy)


def _random_states(device: torch.device) -> list[tuple[Any, Any, Any]]:
    """For each global generator: its state, whether a state is still current, and how to restore a state."""
    found: list[tuple[Any, Any, Any]] = [
        (torch.get_rng_state(), lambda s: torch.equal(torch.get_rng_state(), s), torch.set_rng_state),
        (random.getstate(), lambda s: random.getstate() == s, random.setstate),
    ]
    if device.type == "cuda":
        cuda = torch.cuda
        found.append(
            (
                cuda.get_rng_state(device),
                lambda s: torch.equal(cuda.get_rng_state(device), s),
                lambda s: cuda.set_rng_state(s, device),
            )
        )
    if "numpy" in sys.modules:
        numpy = sys.modules["numpy"].random
        found.append((numpy.get_state(), lambda s: _equal_numpy(numpy.get_state(), s), numpy.set_state))
    return found


def _equal_numpy(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    return all(bool((x == y).all()) if hasattr(x, "all") else x == y for x, y in zip(a, b, strict=True))
