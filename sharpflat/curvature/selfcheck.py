"""The self-check of an objective, which runs on a few examples before its first result.

Before the first value, it checks forward passes. θ, data, buffers and the random generators must be the same after a
pass as before. A loss must not depend on the other examples of its chunk. Parameters must be reached only through the
modules' own slots.

Before the first product, it checks products. H v must equal the difference of two gradients, ⟨u, H v⟩ must equal
⟨v, H u⟩, and H must equal H_o + H_f. Blocks of vectors must give the same products as single vectors; otherwise they
are not used. The check is in float64 if the model allows it, so that a step can be short enough not to cross a kink. It
is at a random point near θ, because a kink at θ itself (a rectifier's input that is exactly 0) has no derivative to
compare.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sharpflat.curvature.chunks import is_out_of_memory
from sharpflat.curvature.data import Tree, map_tree, tensors_of
from sharpflat.curvature.graphs import Graph, HessianGraph, SplitGraph
from sharpflat.curvature.productcheck import ProductCheck, tolerance, variables_of
from sharpflat.curvature.watching import Fault, watching
from sharpflat.errors import InputError

if TYPE_CHECKING:
    from sharpflat.curvature.objective import Objective

_EXAMPLES = 4


class _OfTheEvaluation(Exception):
    """Caused by an error of the model or loss, which the evaluation itself raises, with the user's shapes in it."""


class SelfCheck:
    """The checks of one objective. Each is made once, and again if a module's `training` flag has changed."""

    def __init__(self, objective: Objective) -> None:
        """Does not evaluate the objective."""
        self._objective = objective
        self._modes: list[bool] = []
        self._passed: set[str] = set()
        self._products = ProductCheck(objective)
        self._earlier: list[Tensor] = []  # the leaves of the forward pass before

    def __call__(self, theta: Tensor, *, products: bool, parts: bool) -> bool:
        """Makes the missing checks, and returns whether blocks give the same products as single vectors.

        Raises:
            InputError: Says what is wrong and what to do.
        """
        modes = [m.training for m in self._objective.model.modules()]
        if modes != self._modes:
            self._modes, self._passed = modes, set()
            self._products = ProductCheck(self._objective)
        wanted = {"forward": True, "products": products, "parts": parts}
        for name in [n for n, is_wanted in wanted.items() if is_wanted and n not in self._passed]:
            try:
                self._check(name, theta)
            except Fault as error:
                raise InputError(
                    f"{error} (found by the self-check on {self._head_size()} examples; check=False skips it)"
                ) from error
            except InputError:
                raise
            except Exception as error:
                cause = error.__cause__ if isinstance(error, _OfTheEvaluation) else error
                if cause is not None and is_out_of_memory(cause):
                    return self._products.batches  # the evaluation itself deals with it; checked the next time
                if cause is error:
                    raise InputError(
                        f"the self-check failed ({type(error).__name__}: {error}); check=False skips it"
                    ) from error
            self._passed.add(name)
        return self._products.batches

    def _head_size(self) -> int:
        return min(_EXAMPLES, self._objective.count)

    def _check(self, name: str, theta: Tensor) -> None:
        inputs, targets = self._objective.data.head(_EXAMPLES)
        if name == "forward":
            with watching(self._objective, theta, (inputs, targets)):
                losses = self._losses(theta, inputs, targets, walk=True)
            self._check_chunkings(theta, inputs, targets, losses)
            self._earlier = []
            return
        kind: type[Graph] = HessianGraph if name == "products" else SplitGraph

        def compare() -> None:
            self._products(kind, theta, inputs, targets)

        try:
            self._objective.modes.with_math_attention(compare, again=lambda: None)
        except Fault:
            raise
        except Exception as error:
            raise _OfTheEvaluation from error

    # ---------------------------------------------------------------- forward passes

    def _losses(self, theta: Tensor, inputs: Tree, targets: Tree, walk: bool = False) -> Tensor:
        objective = self._objective
        leaves = objective.vector.leaves(theta)
        with objective.evaluating(leaves), torch.set_grad_enabled(not torch.is_inference_mode_enabled()):
            try:
                outputs = objective.forward(leaves, inputs)
                losses = objective._mean.losses(outputs, targets)
            except Exception as error:
                raise _OfTheEvaluation from error
            if walk:
                self._check_reached(losses)
            self._check_earlier(losses)
            self._earlier = leaves
            found = [losses.detach().reshape(-1)]
            if isinstance(outputs, Tensor) and outputs.is_floating_point() and outputs.shape[:1] == losses.shape:
                found.append(outputs.detach().reshape(-1))
            return torch.cat([f.double() for f in found])

    def _check_reached(self, losses: Tensor) -> None:
        """Refuses a loss that reaches the model's own parameters, for which the objective substitutes others."""
        vector = self._objective.vector
        own = {id(p): name for p, name in zip(vector.parameters, vector.names, strict=True)}
        found = sorted(own[id(v)] for v in variables_of(losses) if id(v) in own)
        if found:
            raise Fault(
                f"the loss reaches parameters of the model other than through its modules ({', '.join(found)}): they "
                "were taken from the model before (a list of parameters, an alias), and would count as constants; look "
                "them up when the loss is computed, as in `for p in model.parameters()`"
            )

    def _check_earlier(self, losses: Tensor) -> None:
        """Refuses a loss that reaches the parameters of an earlier pass."""
        earlier = {id(leaf) for leaf in self._earlier}
        if any(id(v) in earlier for v in variables_of(losses)):
            raise Fault(
                "the model keeps a tensor that it computed from its parameters in an earlier pass (a cache of its eval "
                "mode, torch.nn.utils.parametrize.cached()), so its outputs do not follow θ; switch the cache off"
            )

    def _check_chunkings(self, theta: Tensor, inputs: Tree, targets: Tree, whole: Tensor) -> None:
        count = len(tensors_of(targets)[0])
        if count < 2 or not bool(whole.isfinite().all()):
            self._losses(theta, inputs, targets)  # for caches
            return
        coupled = self._objective.coupled is not None
        if not coupled:
            halves = self._in_halves(theta, inputs, targets, count)
            if not _differ(whole, halves, count, tolerance(self._objective)):
                return
        if _differ(whole, self._losses(theta, inputs, targets), count, tolerance(self._objective)):
            raise Fault(
                "two forward passes over the same examples gave different losses: the model or loss draws random "
                "numbers, or remembers earlier calls, so it is not a function of θ alone; call model.eval() or "
                "remove it"
            )
        if not coupled:
            raise Fault(
                "an example's loss depends on the other examples in its chunk (batch statistics, a normalisation or a "
                "loss across examples), so the loss is not a mean over examples; make it a function of one example, "
                "or set coupled= to how many are evaluated together"
            )

    def _in_halves(self, theta: Tensor, inputs: Tree, targets: Tree, count: int) -> Tensor:
        half = -(-count // 2)
        pieces = [
            self._losses(theta, *(map_tree(lambda t, part=part: t[part], tree) for tree in (inputs, targets)))  # type: ignore[misc]
            for part in (slice(half), slice(half, count))
        ]
        numbers = [half, count - half]
        losses = torch.cat([p[:n] for p, n in zip(pieces, numbers, strict=True)])
        return torch.cat([losses] + [p[n:] for p, n in zip(pieces, numbers, strict=True)])


def _differ(a: Tensor, b: Tensor, count: int, tolerance: float) -> bool:
    """Whether losses (the first `count` entries) or outputs differ by more than rounding."""
    for part in (slice(count), slice(count, None)):
        x, y = a[part], b[part]
        if x.numel() and float((x - y).abs().max()) > tolerance * float(x.abs().max()):
            return True
    return False
