"""The part of an objective's self-check that checks products; see `sharpflat.curvature.selfcheck`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sharpflat.curvature.chunks import is_out_of_memory
from sharpflat.curvature.data import Tree, map_tree
from sharpflat.curvature.graphs import Graph, HessianGraph, SplitGraph
from sharpflat.curvature.watching import Fault

if TYPE_CHECKING:
    from sharpflat.curvature.objective import Objective

_SEED = 20240604
_STEPS = (1e-7, 1e-9, 1e-5)  # of the differences, relative to ‖θ‖
_FINEST = torch.finfo(torch.float64).eps


class ProductCheck:
    """Compares products with other ways to compute them.

    Attributes:
        batches: Whether blocks of vectors have given the same products as single vectors so far.
    """

    def __init__(self, objective: Objective) -> None:
        """Does not evaluate the objective."""
        self._objective = objective
        self.batches = True

    def __call__(self, kind: type[Graph], theta: Tensor, inputs: Tree, targets: Tree) -> None:
        if theta.dtype != torch.float64:
            try:
                with _widened(self._objective):
                    wide = (map_tree(_wide, tree) for tree in (inputs, targets))
                    self._compare(kind, theta.double(), *wide)
                return
            except Fault:
                raise
            except Exception as error:  # the model need not support float64, and may fail in any way
                if is_out_of_memory(error):
                    raise
        self._compare(kind, theta, inputs, targets)

    def _compare(self, kind: type[Graph], theta: Tensor, inputs: Tree, targets: Tree) -> None:
        objective, vector = self._objective, self._objective.vector
        generator = torch.Generator().manual_seed(_SEED)
        draw = torch.randn(2, len(theta), generator=generator, dtype=torch.float64, device="cpu").to(theta)
        spread = 1e-2 * float(theta.square().mean().sqrt()) + 1e-3
        theta = theta.detach() + spread * draw[0]
        u = torch.nn.functional.normalize(draw[1] * _differentiated(objective).to(theta), dim=0)
        leaves = vector.leaves(theta)
        with objective.evaluating(leaves), torch.enable_grad():
            eps = coarsest(objective._mean.losses(objective.forward(leaves, inputs), targets))
            graph = kind(objective, leaves, inputs, targets)
            if isinstance(graph, SplitGraph):
                self._check_loss_of_outputs(graph, targets)
            images = _flat(graph.products(vector.pieces(u), block=False))
            size = max(float(torch.linalg.vector_norm(image)) for image in images)
            least = 1e4 * eps * self._scale(leaves, inputs)
            if not least < size < float("inf"):
                return  # rounding errors, or not finite, so there is nothing to compare
            fine = 1e-6 if eps == _FINEST else 10 * max(tolerance(self._objective), eps**0.5)
            for number, image in enumerate(images):
                self._check_symmetry(graph, u, image, number, max(fine * size, least))
            if self.batches:
                self.batches = self._same_in_blocks(graph, u, images, fine * size)
            single = graph.count > 1 and objective.coupled is None
            if self.batches and single:  # the shapes of one example may happen to broadcast
                first = [map_tree(lambda t: t[:1], tree) for tree in (inputs, targets)]
                try:
                    one = kind(objective, leaves, *first)
                    alone = _flat(one.products(vector.pieces(u), block=False))
                    self.batches = self._same_in_blocks(one, u, alone, fine * size)
                except (RuntimeError, IndexError, ValueError):
                    self.batches = False
        if kind is HessianGraph:
            if eps == _FINEST:  # else, steps large enough cross the kinks of rectifiers, and then prove nothing
                self._check_differences(theta, inputs, targets, u, images[0], least)
        else:
            whole = HessianGraph
            with objective.evaluating(leaves):
                expected = _flat(whole(objective, leaves, inputs, targets).products(vector.pieces(u), block=False))[0]
            if float((images[0] + images[1] - expected).norm()) > max(fine * size, least):
                raise Fault("H u differs from H_o u + H_f u: the loss is not a function of the model's outputs alone")

    def _scale(self, leaves: list[Tensor], inputs: Tree) -> float:
        """About ‖J‖² divided by the count, where J is the Jacobian of the outputs.

        In the products of a flat loss, terms of this size cancel up to rounding.
        """
        outputs = self._objective.forward(leaves, inputs)
        if not isinstance(outputs, Tensor) or not outputs.requires_grad:
            return 0.0
        generator = torch.Generator().manual_seed(_SEED)
        signs = 2 * torch.randint(2, outputs.shape, generator=generator, device="cpu") - 1
        parts = torch.autograd.grad(outputs, leaves, signs.to(outputs), allow_unused=True)
        squares = sum(float(p.double().square().sum()) for p in parts if p is not None)
        return squares / self._objective._mean.denominator

    def _check_loss_of_outputs(self, graph: SplitGraph, targets: Tree) -> None:
        own = {id(leaf) for leaf in graph.leaves}
        if any(id(v) in own for v in variables_of(self._objective._mean.losses(graph.at, targets))):
            raise Fault(
                "the loss depends on the parameters other than through the model's outputs (a penalty), so H_o and H_f "
                "are not defined; use weight_decay= for ½ λ‖θ‖², or Hessian for H alone"
            )

    def _check_symmetry(self, graph: Graph, u: Tensor, image: Tensor, number: int, allowed: float) -> None:
        """With v along A u, ⟨v, A u⟩ = ‖A u‖ and ⟨u, A v⟩ are equal if A is symmetric, in any dimension."""
        norm = float(torch.linalg.vector_norm(image))
        if norm <= allowed:
            return
        back = _flat(graph.products(self._objective.vector.pieces(image / norm), block=False))[number]
        asymmetry = abs(float(u @ back) - norm)
        if asymmetry > allowed:
            raise Fault(
                f"the second derivative is not symmetric: ⟨u, H v⟩ and ⟨v, H u⟩ differ by {asymmetry / norm:.1%}. "
                f"{_WRONG_SECOND}"
            )

    def _same_in_blocks(self, graph: Graph, u: Tensor, images: list[Tensor], allowed: float) -> bool:
        """Whether a block of two vectors gives the same products as each vector alone."""
        rows = torch.stack([u, -2 * u])
        try:
            blocks = graph.products(self._objective.vector.pieces(rows), block=True)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            return False
        for parts, image in zip(blocks, images, strict=True):
            block = torch.cat([p.reshape(2, -1) for p in parts], dim=1)
            if float((block - torch.stack([image, -2 * image])).norm()) > 3 * allowed:
                return False
        return True

    def _check_differences(
        self, theta: Tensor, inputs: Tree, targets: Tree, u: Tensor, image: Tensor, least: float
    ) -> None:
        allowed, smallest = 1e-3, float("inf")
        for step in _STEPS:
            h = step * (1 + float(torch.linalg.vector_norm(theta)))
            ends = [self._gradient(theta + sign * h * u, inputs, targets) for sign in (1, -1)]
            difference = (ends[0] - ends[1]) / (2 * h)
            rounding = 100 * _FINEST * float(ends[0].norm()) / h
            size = max(float(image.norm()), float(difference.norm()))
            error = float((difference - image).norm())
            smallest = min(smallest, error / size)
            if not error > allowed * size + rounding + least:
                return
        raise Fault(
            f"H u differs from the difference of two gradients by {smallest:.1%}: the model or loss has a part that "
            f"the second derivative does not see. {_WRONG_SECOND}"
        )

    def _gradient(self, theta: Tensor, inputs: Tree, targets: Tree) -> Tensor:
        leaves = self._objective.vector.leaves(theta)
        with self._objective.evaluating(leaves), torch.enable_grad():
            share = self._objective.chunk_loss(self._objective.forward(leaves, inputs), targets)
            return self._objective.vector.gradient(share, leaves)


_WRONG_SECOND = (
    "Some operation's second derivative is wrong: torch's own of nn.utils.weight_norm, a torch.autograd.Function whose "
    "backward is not differentiable throughout, a straight-through estimator, or a detach() or no_grad() on the way; "
    "write that operation with others (for weight norm: g * v / v.norm()), or freeze parameters with "
    "requires_grad_(False) instead of detach()"
)


def tolerance(objective: Objective) -> float:
    """√ε of the dtype in which the objective is computed."""
    device, eps = objective.device.type, torch.finfo(objective.dtype).eps
    if device == "cuda" and (torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32):
        eps = max(eps, 2.0**-11 if objective.dtype == torch.float32 else 0.0)
    return float(eps**0.5)


def variables_of(result: Tensor) -> list[Tensor]:
    """The leaves from which a result was computed."""
    return [node.variable for node in _nodes(result) if hasattr(node, "variable")]


def coarsest(result: Tensor) -> float:
    """The largest ε of the dtypes in which a result was computed: a model may convert to float32 on the way."""
    dtypes = {result.dtype, *(part.dtype for node in _nodes(result) for part in getattr(node, "_input_metadata", ()))}
    return max(torch.finfo(dtype).eps for dtype in dtypes if dtype.is_floating_point)


def _nodes(result: Tensor) -> set[Any]:
    """The nodes of a result's graph."""
    seen: set[Any] = set()
    todo = [result.grad_fn]
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            todo += [n for n, _ in node.next_functions]
    return seen


def _differentiated(objective: Objective) -> Tensor:
    """1 for each component of θ [P], and 0 for rows of padding, whose use torch leaves out of the gradient."""
    parts = [torch.ones(p.shape, device="cpu") for p in objective.vector.parameters]
    place = {id(p): part for p, part in zip(objective.vector.parameters, parts, strict=True)}
    embeddings = [m for m in objective.model.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)]
    for module in embeddings:
        if module.padding_idx is not None and id(module.weight) in place:
            place[id(module.weight)][module.padding_idx] = 0
    return torch.cat([part.reshape(-1) for part in parts])


def _flat(products: tuple[list[Tensor], ...]) -> list[Tensor]:
    return [torch.cat([p.reshape(-1) for p in parts]) for parts in products]


def _wide(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


@contextmanager
def _widened(objective: Objective) -> Iterator[None]:
    """Lets the model compute in float64. Its buffers and constants are replaced and later restored."""
    trained = {id(p) for p in objective.vector.parameters}
    replaced: list[tuple[Any, str, Tensor]] = []
    try:
        for module in objective.model.modules():
            holders: tuple[Any, ...] = (module._parameters, module._buffers)
            for holder in holders:
                for name, value in list(holder.items()):
                    if value is not None and value.is_floating_point() and id(value) not in trained:
                        replaced.append((holder, name, value))
                        holder[name] = value.detach().double()
        yield
    finally:
        for holder, name, value in replaced:
            holder[name] = value
