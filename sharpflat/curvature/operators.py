"""Exact products with the loss Hessian H, its Gauss–Newton part H_o and its functional part H_f.

With f the model's outputs, ℓ the loss and J = ∂f/∂θ:

    H_o = 1/N Σ Jᵀ (∂²ℓ/∂f²) J          H_f = 1/N Σ Σ_c (∂ℓ/∂f_c) ∂²f_c/∂θ²          H = H_o + H_f

All products are double backward passes. With s(r) = Jᵀ r, the model's backward pass for a cotangent r:

    H v   = backward of ⟨∇L, v⟩            through the differentiable gradient
    J v   = backward of ⟨s(r), v⟩ to r     (s is linear in r)
    H_f v = backward of ⟨s(r), v⟩ to θ     with r = ∂ℓ/∂f held constant
    H_o v = s((∂²ℓ/∂f²) J v)

So one backward pass through s gives J v and H_f v together, and one more through f gives H_o v. The joint
product takes 0.40 to 0.51 of the time of the three (`benchmarks/curvature.py`).

We do not use forward over reverse (`torch.func.jvp` of the gradient). The table gives the CPU time per vector of H V at
a new θ, on one core, in units of one full gradient. There are 12 vectors (CNN: 4), and their shared work is included:

                                          double backward            forward over reverse
                                          one by one   in a block    one by one   vmapped
    784-32-32-10, 1,000 images            1.19         1.13          6.03         1.41
    784-200-200-10, 5,000 images          1.58         2.67          3.76         2.28
    transformer, width 32, 500 sequences  3.23         7.48          5.59         4.47
    CNN, 32 channels, 100 images          1.61         1.68          2.17         1.50
    the same in channels-last format      2.83         3.44          4.21         3.41

(The channels-last format halves the time of the CNN's gradient but does not speed up its product.) Forward over
reverse repeats the gradient for each vector. Besides, in torch 2.11 it is silently wrong for layer norm under `vmap`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from sharpflat.curvature.base import Operator, check_vectors
from sharpflat.curvature.chunks import GRAPH_FACTOR, is_out_of_memory
from sharpflat.curvature.data import Stream, map_tree
from sharpflat.curvature.graphs import FunctionalGraph, Graph, HessianGraph, OuterGraph, SplitGraph
from sharpflat.curvature.modes import check_autograd, in_turn
from sharpflat.curvature.objective import Objective

# Vectors can be multiplied in one vmapped backward pass or one by one. The time per vector for 12 vectors on one CPU
# core:
#   784-32-32-10, 1,000 images (activations of 0.3 MB per vector):  1.8 ms in a block, 2.8 ms one by one
#   784-200-200-10, 5,000 images (8 MB per vector):                 107 ms in a block,  62 ms one by one
# (These were measured within warm refreshes, where caches are colder than in the table above, on the same machine.)
# A block saves the overhead of calls but does not fit the cache. This is the limit of its vectors' activations.
_BLOCK_BYTES = 8 << 20


class _Products:
    """Products on all chunks with one kind of graph, which is kept between calls if it fits in memory."""

    def __init__(self, objective: Objective, theta: Tensor, kind: type[Graph], decayed: tuple[bool, ...]) -> None:
        objective.vector.check(theta)
        self.objective = objective
        self.theta = theta.detach().clone()  # the caller may later change it in place
        self.kind = kind
        self.decayed = decayed  # for each result, whether the weight decay is part of it
        self._kept: list[Graph] = []
        self._kept_size = 0
        self._batches: bool | None = None  # not checked yet

    def __getstate__(self) -> dict[str, Any]:
        # Without the graphs, whose tensors would come back as leaves that depend on nothing. They are rebuilt.
        return {**self.__dict__, "_kept": []}

    @in_turn
    def __call__(self, vectors: Tensor) -> list[Tensor]:
        """Products with the rows of vectors [K, P]: one [K, P] for each operator."""
        objective = self.objective
        check_autograd()
        batches = objective.check(self.theta, products=True, parts=self.kind is not HessianGraph)
        if self._batches is None:
            self._batches = batches
        if vectors.is_inference():
            vectors = vectors.clone()
        results: list[Tensor] = objective.modes.with_math_attention(
            lambda: objective.chunks.with_halving(lambda: self._all_chunks(vectors)), again=lambda: self._anew(batches)
        )
        if objective.weight_decay:
            pairs = zip(results, self.decayed, strict=True)
            return [r.add(vectors, alpha=objective.weight_decay) if decayed else r for r, decayed in pairs]
        return results

    def _anew(self, batches: bool) -> None:
        self._kept, self._batches = [], batches

    def _all_chunks(self, vectors: Tensor) -> list[Tensor]:
        objective = self.objective
        size = objective.chunk_size
        if self._kept_size != size:
            self._kept = []
            self._kept_size = size
        leaves = self._kept[0].leaves if self._kept else objective.vector.leaves(self.theta)
        totals: list[Tensor] = []
        with objective.evaluating(leaves):
            for graph in self._graphs(leaves):
                parts = self._one_chunk(graph, vectors)
                if graph.count == objective.count:
                    return parts
                if not totals:
                    totals = [p.double() for p in parts]
                else:
                    for total, part in zip(totals, parts, strict=True):
                        total.add_(part)
        return [t.to(vectors.dtype) for t in totals]

    def _graphs(self, leaves: list[Tensor]) -> Iterator[Graph]:
        """One graph for each chunk: the kept ones, and then new ones."""
        objective = self.objective
        if sum(graph.count for graph in self._kept) == objective.count:
            yield from self._kept
            return
        keep = objective.chunks.graph_fits
        for i, (x, y) in enumerate(objective.in_chunks()):
            if i < len(self._kept):
                yield self._kept[i]
                continue
            if keep and isinstance(objective.data, Stream):  # batches may be one buffer that is refilled
                x, y = map_tree(torch.clone, x), map_tree(torch.clone, y)
            graph = self.kind(objective, leaves, x, y)
            if keep:
                self._kept.append(graph)
            yield graph

    def _one_chunk(self, graph: Graph, vectors: Tensor) -> list[Tensor]:
        width = self._block_width(len(vectors))
        if width > 1:
            try:
                blocks = [self._block(graph, rows) for rows in vectors.split(width)]
                return blocks[0] if len(blocks) == 1 else [torch.cat(b) for b in zip(*blocks, strict=True)]
            except RuntimeError as error:
                if is_out_of_memory(error):
                    raise
                self._batches = False  # some operation of the model cannot be batched: one by one
        pieces = self.objective.vector.pieces
        results = [torch.empty_like(vectors) for _ in self.decayed]
        for k in range(len(vectors)):
            for result, parts in zip(results, graph.products(pieces(vectors[k]), block=False), strict=True):
                torch.cat([p.reshape(-1) for p in parts], out=result[k])
        return results

    def _block(self, graph: Graph, rows: Tensor) -> list[Tensor]:
        """The products with all rows [K, P], in one (vmapped) backward pass for each operator."""
        return [
            torch.cat([p.reshape(len(rows), -1) for p in parts], dim=1)
            for parts in graph.products(self.objective.vector.pieces(rows), block=True)
        ]

    def _block_width(self, count: int) -> int:
        """Number of vectors in one backward pass."""
        chunks = self.objective.chunks
        if count <= 1 or not self._batches:
            return 1
        each = chunks.bytes_per_example * chunks.size
        if self.objective.device.type == "cuda":
            return max(1, min(count, chunks.memory_budget // (GRAPH_FACTOR * each)))
        blocks = -(-count // max(1, _BLOCK_BYTES // max(1, each)))
        return -(-count // blocks)  # equal blocks rather than a small last one


class CurvatureOperator(Operator):
    """An operator on R^P at one θ of an objective.

    Differentiable passes at θ are built with the first product. They are kept for the next ones if the objective's
    memory budget allows. A copied or pickled operator builds its own. After a change of the data, make a new operator,
    because one that was used may still multiply with the Hessian of the earlier data.
    """

    _graph: type[Graph]
    _decayed = True

    def __init__(self, objective: Objective, theta: Tensor) -> None:
        """Binds the objective at θ [P] without computing anything.

        Raises:
            InputError: The size, dtype or device of θ differs from the objective's.
        """
        self._products = _Products(objective, theta, self._graph, decayed=(self._decayed,))
        self.size = objective.size
        self.dtype = objective.dtype
        self.device = objective.device

    def matvec(self, v: Tensor) -> Tensor:
        """The product with one vector [P], [P]."""
        check_vectors(v, self, ndim=1)
        return self._products(v.detach().unsqueeze(0))[0][0]

    def matmat(self, V: Tensor) -> Tensor:
        """The products with the columns of V [P, K], [P, K] (stored column by column)."""
        check_vectors(V, self, ndim=2)
        return self._products(V.detach().T.contiguous())[0].T


class Hessian(CurvatureOperator):
    """The Hessian H of the loss."""

    _graph = HessianGraph


class GaussNewton(CurvatureOperator):
    """The Gauss–Newton (outer-product) part H_o of the Hessian. It is positive semi-definite for convex losses.

    It contains the weight decay, because ½ λ‖θ‖² is a squared error of outputs √λ θ, which are linear in θ.
    """

    _graph = OuterGraph


class FunctionalHessian(CurvatureOperator):
    """The functional part H_f = H − H_o: the model's own curvature, weighted with ∂ℓ/∂f."""

    _graph = FunctionalGraph
    _decayed = False


def joint_products(objective: Objective, theta: Tensor, V: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """H V, H_o V and H_f V, each [P, K], computed from shared work.

    H V is the sum of the other two, which are computed independently.

    Args:
        objective: Model, loss and data.
        theta: [P].
        V: [P, K].

    Raises:
        InputError: θ or V does not fit the objective.
    """
    products = _Products(objective, theta, SplitGraph, decayed=(True, False))
    check_vectors(V, objective, ndim=2)
    outer, functional = products(V.detach().T.contiguous())
    return (outer + functional).T, outer.T, functional.T
