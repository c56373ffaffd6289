"""Differentiable passes through an objective at one θ, and the backward passes through them that give products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sharpflat.curvature.data import Tree, tensors_of
from sharpflat.curvature.layers import Layers
from sharpflat.curvature.parameters import check_dependence

if TYPE_CHECKING:
    from sharpflat.curvature.objective import Objective


class Graph:
    """The differentiable passes at θ for one chunk. They are built once and shared by all products."""

    def __init__(self, objective: Objective, leaves: list[Tensor], inputs: Tree, targets: Tree) -> None:
        self.leaves = leaves
        self.count = len(tensors_of(targets)[0])
        with torch.enable_grad():
            self.build(objective, inputs, targets)

    def build(self, objective: Objective, inputs: Tree, targets: Tree) -> None:
        raise NotImplementedError

    def products(self, vectors: Sequence[Tensor], *, block: bool) -> tuple[list[Tensor], ...]:
        """For each operator, the products as pieces in the parameters' shapes.

        Args:
            vectors: Pieces in the parameters' shapes, with a leading dimension K if `block`.
            block: Whether to multiply K vectors at once.
        """
        raise NotImplementedError


def _backward(
    outputs: Sequence[Tensor], inputs: Sequence[Tensor], cotangents: Sequence[Tensor], *, block: bool
) -> list[Tensor]:
    """Vector–Jacobian products, which are zero where there is no dependence. The graph is kept."""
    live = [(o, c) for o, c in zip(outputs, cotangents, strict=True) if o.requires_grad]
    parts: Sequence[Tensor | None] = [None] * len(inputs)
    if live:
        parts = torch.autograd.grad(
            [o for o, _ in live],
            inputs,
            [c for _, c in live],
            retain_graph=True,
            allow_unused=True,
            is_grads_batched=block,
        )
    lead = cotangents[0].shape[:1] if block else ()
    return [i.new_zeros((*lead, *i.shape)) if p is None else p for p, i in zip(parts, inputs, strict=True)]


class HessianGraph(Graph):
    def build(self, objective: Objective, inputs: Tree, targets: Tree) -> None:
        share = objective.chunk_loss(objective.forward(self.leaves, inputs), targets)
        check_dependence(share)
        self.gradients: Sequence[Tensor] = torch.autograd.grad(
            share, self.leaves, create_graph=True, allow_unused=True, materialize_grads=True
        )

    def products(self, vectors: Sequence[Tensor], *, block: bool) -> tuple[list[Tensor], ...]:
        return (_backward(self.gradients, self.leaves, vectors, block=block),)


class SplitGraph(Graph):
    """f, s(r) = Jᵀ r and the loss as a function of f alone."""

    wanted: tuple[bool, bool] = (True, True)  # H_o, H_f

    def build(self, objective: Objective, inputs: Tree, targets: Tree) -> None:
        self.outputs = Layers.tensor(objective.forward(self.leaves, inputs))
        check_dependence(self.outputs)
        # The loss as a function of the outputs alone. They become a leaf, so that its derivatives stop there.
        self.at = self.outputs.detach().requires_grad_()
        share = objective.chunk_loss(self.at, targets)
        check_dependence(share)
        (self.slope,) = torch.autograd.grad(share, [self.at], create_graph=True, materialize_grads=True)
        self.cotangent = self.slope.detach().requires_grad_(self.wanted[0])
        self.pulled: Sequence[Tensor] = torch.autograd.grad(
            self.outputs, self.leaves, self.cotangent, create_graph=True, allow_unused=True, materialize_grads=True
        )

    def products(self, vectors: Sequence[Tensor], *, block: bool) -> tuple[list[Tensor], ...]:
        outer, functional = self.wanted
        inputs = [self.cotangent] * outer + list(self.leaves) * functional
        parts = _backward(self.pulled, inputs, vectors, block=block)
        result: tuple[list[Tensor], ...] = ()
        if outer:
            (bent,) = _backward([self.slope], [self.at], [parts.pop(0)], block=block)
            result += (_backward([self.outputs], self.leaves, [bent], block=block),)
        if functional:
            result += (parts,)
        return result


class OuterGraph(SplitGraph):
    wanted = (True, False)


class FunctionalGraph(SplitGraph):
    wanted = (False, True)
