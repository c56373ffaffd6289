"""A model, a loss and data as one function of a flat parameter vector θ."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sharpflat.arguments import NamedWhenPickled, check_counts
from sharpflat.curvature.chunks import Chunks, saved_bytes
from sharpflat.curvature.data import Examples, Stream, Tree, open_data, tensors_of
from sharpflat.curvature.layers import Layers
from sharpflat.curvature.means import Mean
from sharpflat.curvature.modes import Modes, check_autograd, uncompiled
from sharpflat.curvature.parameters import ParameterVector
from sharpflat.curvature.selfcheck import SelfCheck
from sharpflat.errors import InputError
from sharpflat.losses import PerExampleLoss


class _Views(NamedWhenPickled):
    """What an objective shows of its parts."""

    data: Examples | Stream
    vector: ParameterVector
    chunks: Chunks
    loss: PerExampleLoss
    _layers: Layers

    @property
    def inputs(self) -> Any:
        """[N, ...], a tree of such tensors, or the stream of batches."""
        return self.data.inputs

    @property
    def targets(self) -> Any:
        """[N, ...], a tree of such tensors, or None where the inputs are a stream."""
        return self.data.targets

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The model's trainable parameters, in the order they have in θ."""
        return list(self.vector.parameters)

    @property
    def theta(self) -> Tensor:
        """The model's current trainable parameters as one vector, a detached copy [P]."""
        return self.vector.current()

    @property
    def chunk_size(self) -> int:
        """Examples evaluated at once: as given, or as many as fit the caches; halved when memory ran out.

        With `lengths`, of the longest examples: of shorter ones as many more as take the same room.
        """
        return self.chunks.size

    @property
    def halvings(self) -> list[tuple[int, int]]:
        """(from, to) for each time that memory ran out and the chunk size was halved."""
        return self.chunks.halvings

    def functions(self) -> dict[str, object]:
        """The loss and `output`, which pickle must find by name."""
        return {"loss": self.loss, "output": self._layers.output}

    def check_layers(self) -> None:
        """Refuses layers whose output for one example depends on the other examples or on chance.

        Raises:
            InputError: Names the first such module.
        """
        self._layers.check()

    def in_chunks(self) -> Iterator[tuple[Tree, Tree]]:
        """(inputs, targets) in pieces of `chunk_size` examples; the last may be smaller. `lengths`: longest first."""
        yield from self.data.pieces(self.chunk_size)


class Objective(_Views):
    """The full-batch training loss L(θ) = 1/N Σ_i ℓ(f(x_i; θ), y_i), its gradient, and their chunks.

    θ is the vector of the model's trainable parameters in the order of `model.parameters()`: frozen ones
    (`requires_grad=False`) are constants, a shared (tied) one counts once. Nothing here changes the model.

    Sums over examples run in chunks of `chunk_size` with weight 1/N for every example, and add up in
    float64 when there is more than one chunk. All is computed in the parameters' dtype, also inside of an autocast
    region. The first evaluation checks itself on a few examples (see `sharpflat.curvature.selfcheck`).

    Attributes:
        model: The model, called as `model(inputs)`, uncompiled.
        loss: `loss(outputs, targets) -> [N]`.
        inputs: [N, ...]; floats in the dtype of the parameters, or integers (token ids) as given.
        targets: [N, ...].
        count: N, the number of examples.
        size: P, the number of trainable parameters.
        dtype: dtype of θ.
        device: Device of θ.
        vector: The trainable parameters as the vector θ.
        chunks: How many examples are evaluated at once.
        weight_decay: λ of the term ½ λ‖θ‖².
        coupled: How many examples the model couples; None if none.
        selfcheck: What was checked; None where `check=False`.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: str | PerExampleLoss,
        inputs: Tree | Iterable[tuple[Tree, Tree]],
        targets: Tree | None = None,
        *,
        chunk_size: int | None = None,
        memory_budget: int | None = None,
        lengths: Tensor | None = None,
        output: Callable[[Any], Tensor] | None = None,
        count: float | None = None,
        ignore_index: int | None = None,
        weight_decay: float = 0.0,
        parameters: Iterable[str | Tensor] | None = None,
        coupled: int | None = None,
        check: bool = True,
    ) -> None:
        """Wires model, loss and data; evaluates nothing, but reads a stream of data once.

        Args:
            model: Any module without batch-dependent layers (but see `coupled`).
            loss: "mse", "cross_entropy", or a function `loss(outputs, targets) -> [N]`.
            inputs: [N, ...]. Moved to the parameters' device; floats are cast to their dtype. Or a dict, list or tuple
                of such tensors: the model's keyword or positional arguments, unless it takes one argument. Or, without
                targets, a Dataset, DataLoader or other re-iterable of (inputs, targets) in a fixed order.
            targets: [N, ...]. Class indices or floats, or a tree of them for a loss of your own.
            chunk_size: Examples evaluated at once. `None`: on a CPU as many as fit the caches, by a fixed rule
                (`sharpflat.curvature.chunks`); on a GPU as many as `memory_budget` allows.
            memory_budget: Bytes of the graphs that are kept between products, and of one chunk's graph. `None`: 1 GiB
                on a CPU, an eighth of a GPU's memory.
            lengths: Integers [N]: of inputs [N, T, ...] that are filled up to T positions, how many of each example
                count. Examples of like length then share a chunk, and the chunk is cut to the longest of them. Only for
                a model whose outputs do not depend on the positions cut off, nor on T: one that masks them and takes
                no mean over all. Targets are not cut.
            output: Takes what the model returns and gives the outputs, as in `lambda out: out.logits`.
            count: What the sum of all losses is divided by. `None`: N.
            ignore_index: Of "cross_entropy": examples with this class index count neither in the sum nor in the mean.
            weight_decay: λ; adds ½ λ‖θ‖² to the loss and λ I to H and H_o.
            parameters: Those that make up θ, by name (also of a module) or as they are. `None`: all trainable ones.
            coupled: Of a model that couples the examples of a batch, as batch norm in training mode does: how many
                are evaluated together. L is then the mean over fixed groups of so many examples, in the data's order
                (the last may be smaller), and a function of θ. A batch of chosen examples is cut likewise. `None`: the
                model treats each example by itself.
            check: False saves the self-check at the first evaluation.

        Raises:
            InputError: No trainable parameter, mixed dtypes or devices, complex parameters, no or unequal numbers
                of examples, an unknown loss, a chunk_size or memory_budget less than 1, lengths that do not fit the
                inputs, a module whose output depends on the batch or on chance, or targets of −100 without
                `ignore_index` or `count`.
        """
        self.model = uncompiled(model)
        self.vector = ParameterVector(self.model, parameters)
        self.size, self.dtype, self.device = self.vector.size, self.vector.dtype, self.vector.device
        check_counts(coupled=coupled)
        if coupled is not None and (chunk_size is not None or lengths is not None):
            raise InputError("coupled says which examples are evaluated together: leave out chunk_size and lengths")
        self.coupled = coupled
        self._layers = Layers(self.model, output, coupled=coupled is not None)
        self.check_layers()
        self._mean = Mean(loss, count, ignore_index)
        self.loss: PerExampleLoss = self._mean.loss
        self.weight_decay = self._mean.checked_decay(weight_decay)
        self.data: Examples | Stream = open_data(inputs, targets, self._moved, coupled or chunk_size, lengths)
        self._mean.bind(self.data)
        self.count = self.data.count
        self.modes = Modes(self.model, self.device)
        self.selfcheck = SelfCheck(self) if check else None
        self.chunks = Chunks(
            self.data.room,
            self._saved_bytes,
            device=self.device,
            theta_bytes=self.size * self.dtype.itemsize,
            examples=self.count,
            chunk_size=coupled or chunk_size,
            memory_budget=memory_budget,
            fixed=coupled is not None,
        )

    def _moved(self, data: Tensor) -> Tensor:
        data = data.detach().to(device=self.device, dtype=self.dtype if data.is_floating_point() else data.dtype)
        return data.clone() if data.is_inference() and not torch.is_inference_mode_enabled() else data

    def _saved_bytes(self, count: int) -> int:
        inputs, targets = self.data.head(count)
        leaves = self.vector.leaves(self.theta)

        def evaluate() -> Tensor:
            return self.chunk_loss(self.forward(leaves, inputs), targets)

        whole = inputs if isinstance(self.data, Stream) else self.inputs
        with self.evaluating(leaves):
            return saved_bytes(evaluate, tensors_of(whole))

    # ---------------------------------------------------------------- values

    @contextmanager
    def evaluating(self, leaves: list[Tensor]) -> Iterator[None]:
        """Lets the model compute with parameters `leaves` (see `ParameterVector.leaves`), backward passes included.

        Raises:
            InputError: A layer depends on the batch or on chance, or the model's parameters were replaced.
        """
        self.check_layers()
        with self.modes.active(), self.vector.replaced_by(leaves):
            yield

    def forward(self, leaves: list[Tensor], inputs: Tree) -> Any:
        """The model's outputs for these inputs; within `evaluating(leaves)`.

        Raises:
            InputError: The forward pass changed the parameters or its inputs in place.
        """
        return self._layers.forward(leaves, inputs)

    def chunk_loss(self, outputs: Tensor, targets: Tree, count: float | None = None) -> Tensor:
        """Sum of the examples' losses divided by `count` (default N): the chunk's share of the mean.

        Raises:
            InputError: The loss is not one number per example.
        """
        return self._mean.losses(outputs, targets).sum() / (self._mean.denominator if count is None else count)

    def value(self, theta: Tensor, indices: Tensor | None = None) -> Tensor:
        """Mean loss at θ [P], a scalar; over the examples `indices` [B] or over all."""
        return self._evaluate(theta, indices, gradient=False)[0]

    def gradient(self, theta: Tensor, indices: Tensor | None = None) -> Tensor:
        """Gradient [P] of the mean loss at θ [P]; over the examples `indices` [B] or over all."""
        return self._evaluate(theta, indices, gradient=True)[1]

    def value_and_gradient(self, theta: Tensor, indices: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean loss (a scalar) and its gradient [P] at θ [P], for the price of the gradient."""
        return self._evaluate(theta, indices, gradient=True)

    def outputs(self, theta: Tensor) -> Tensor:
        """The model's outputs [N, ...] at θ [P]."""
        self.vector.check(theta)
        self.check(theta)

        def evaluate() -> Tensor:
            leaves = self.vector.leaves(theta)
            with self.evaluating(leaves), torch.no_grad():
                rows = torch.cat([self._layers.tensor(self.forward(leaves, x)) for x, _ in self.in_chunks()])
                return self.data.in_own_order(rows)

        return self.chunks.with_halving(evaluate)

    def check(self, theta: Tensor, products: bool = False, parts: bool = False) -> bool:
        """Checks the objective on a few examples, unless that was done or is switched off.

        Args:
            theta: [P].
            products: Also those with H.
            parts: Also those with H_o and H_f.

        Returns:
            Whether several products may share one (vmapped) backward pass.

        Raises:
            InputError: Says what is wrong with the model, loss or data, and what to do.
        """
        if self.selfcheck is None:
            return self._layers.batches
        self.vector.check_unchanged()
        return self.selfcheck(theta, products=products, parts=parts) and self._layers.batches

    def _evaluate(self, theta: Tensor, indices: Tensor | None, *, gradient: bool) -> tuple[Tensor, Tensor]:
        self.vector.check(theta)
        if gradient:
            check_autograd()
        self.check(theta)
        data, count = self.data, self._mean.denominator
        if indices is not None:
            data = data.take(indices)
            count = self._mean.of(data)
        value, gradients = self.chunks.with_halving(
            lambda: self._sum_chunks(theta, data, count, gradient), examples=data.count
        )
        if self.weight_decay:
            value = value + 0.5 * self.weight_decay * theta.detach().square().sum()
            gradients = gradients + self.weight_decay * theta.detach() if gradient else gradients
        return value, gradients

    def _sum_chunks(
        self, theta: Tensor, data: Examples | Stream, count: float, gradient: bool
    ) -> tuple[Tensor, Tensor]:
        leaves = self.vector.leaves(theta)
        size = self.chunks.size_for(data.count)
        value = gradients = theta.new_zeros(())
        with self.evaluating(leaves):
            for n, (x, y) in enumerate(data.pieces(size)):
                with torch.set_grad_enabled(gradient):
                    share = self.chunk_loss(self.forward(leaves, x), y, count)
                part = self.vector.gradient(share, leaves) if gradient else gradients
                if n == 0 and len(tensors_of(y)[0]) == data.count:
                    return share.detach(), part
                value = share.detach().double() if n == 0 else value + share.detach()
                gradients = part.double() if n == 0 else gradients.add_(part)
        return value.to(self.dtype), gradients.to(self.dtype)
