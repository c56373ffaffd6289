"""A model, a loss and data as one function of a flat parameter vector θ."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sharpflat.arguments import NamedWhenPickled, check_counts
from sharpflat.curvature.chunks import Chunks, saved_bytes
from sharpflat.curvature.data import Examples, Stream, Tree, open_data, tensors_of
from sharpflat.curvature.layers import Layers
from sharpflat.curvature.means import Mean
from sharpflat.curvature.modes import Modes, check_autograd, in_turn, uncompiled, without_graph
from sharpflat.curvature.parameters import ParameterVector
from sharpflat.curvature.selfcheck import SelfCheck
from sharpflat.errors import InputError
from sharpflat.losses import PerExampleLoss


class _Views(NamedWhenPickled):
    """The properties of an objective that come from its parts."""

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
        """The parameters that make up θ, in their order in θ."""
        return list(self.vector.parameters)

    @property
    def theta(self) -> Tensor:
        """The current values of the parameters as one vector, a detached copy [P]."""
        return self.vector.current()

    @property
    def chunk_size(self) -> int:
        """Number of examples evaluated at once.

        It is as given, or as many as fit the caches, and it is halved when memory runs out. With `lengths`, it is the
        number of the longest examples, and a chunk of shorter ones holds more of them.
        """
        return self.chunks.size

    @property
    def halvings(self) -> list[tuple[int, int]]:
        """(from, to) for each time that memory ran out and the chunk size was halved."""
        return self.chunks.halvings

    def functions(self) -> dict[str, object]:
        """The loss and `output`, which pickle must be able to find by name."""
        return {"loss": self.loss, "output": self._layers.output}

    def check_layers(self) -> None:
        """Refuses layers whose output for one example depends on the other examples or on random numbers.

        Raises:
            InputError: Names the first such module.
        """
        self._layers.check()

    def in_chunks(self) -> Iterator[tuple[Tree, Tree]]:
        """(inputs, targets) in pieces of `chunk_size` examples, of which the last may be smaller.

        With `lengths`, the longest examples come first.
        """
        yield from self.data.pieces(self.chunk_size)


class Objective(_Views):
    """The full-batch training loss L(θ) = 1/N Σ_i ℓ(f(x_i; θ), y_i), its gradient, and their chunks.

    θ is the vector of the model's trainable parameters in the order of `model.parameters()`. Frozen parameters
    (`requires_grad=False`) are constants, and a shared (tied) parameter counts once. An Objective does not change the
    model.

    Sums over examples run in chunks of `chunk_size`, with weight 1/N for every example. If there is more than one
    chunk, they are added in float64. Everything is computed in the parameters' dtype, also inside an autocast region.
    The first evaluation runs a self-check on a few examples (see `sharpflat.curvature.selfcheck`).

    While an Objective is evaluated, the model holds other parameters. So evaluations in several threads take turns, and
    the model itself must not be called in another thread meanwhile.

    Attributes:
        model: The uncompiled model, called as `model(inputs)`.
        loss: `loss(outputs, targets) -> [N]`.
        inputs: [N, ...], floats in the dtype of the parameters or integers (token ids) as given.
        targets: [N, ...].
        count: N, the number of examples.
        size: P, the number of trainable parameters.
        dtype: dtype of θ.
        device: Device of θ.
        vector: The trainable parameters as the vector θ.
        chunks: Decides how many examples are evaluated at once.
        weight_decay: λ of the term ½ λ‖θ‖².
        coupled: The number of examples that the model couples; None if it couples none.
        selfcheck: The self-check; None with `check=False`.
    """

    @in_turn
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
        """Connects the model, the loss and the data. It evaluates nothing, but it reads a stream of data once.

        Args:
            model: Any module without batch-dependent layers (but see `coupled`).
            loss: "mse" (½‖f(x) − y‖² per example, C/2 times torch's mean over C outputs), "cross_entropy", "value"
                (the output itself), or a function `loss(outputs, targets) -> [N]`.
            inputs: [N, ...]. They are moved to the parameters' device, and floats are cast to their dtype. They may
                also be a dict, list or tuple of such tensors, which are the model's keyword or positional arguments,
                unless it takes one argument. Without targets, they are a Dataset, DataLoader or other re-iterable of
                (inputs, targets) in a fixed order.
            targets: [N, ...], class indices or floats, or a tree of them for a loss of your own.
            chunk_size: Number of examples evaluated at once. `None` means, on a CPU, as many as fit the caches by a
                fixed rule (`sharpflat.curvature.chunks`) and, on a GPU, as many as `memory_budget` allows.
            memory_budget: Bytes for the graphs that are kept between products, and for one chunk's graph. `None` means
                1 GiB on a CPU and an eighth of the memory of a GPU.
            lengths: Integers [N], for inputs [N, T, ...] that are padded to T positions: the number of positions that
                count in each example. Examples of similar length then share a chunk, which is cut to the longest of
                them. Use it only for a model whose outputs depend neither on the padding nor on T: it masks the padding
                and takes no mean over all positions. Targets are not cut.
            output: Extracts the outputs from the object that the model returns, as in `lambda out: out.logits`.
            count: The number by which the sum of all losses is divided. `None` means N.
            ignore_index: For "cross_entropy": examples with this class index count neither in the sum nor in the mean.
            weight_decay: λ. It adds ½ λ‖θ‖² to the loss and λ I to H and H_o.
            parameters: The parameters that make up θ, as tensors or by name (also by the name of a module). `None`
                means all trainable parameters.
            coupled: Number of examples that are evaluated together, for a model that couples the examples of a batch,
                as batch norm does in training mode. L is then the mean over fixed groups of this many examples, in the
                order of the data (the last group may be smaller), and so a function of θ. A minibatch is divided in the
                same way. Batches of a stream must have a multiple of this many examples. `None` means that the model
                treats each example separately.
            check: False skips the self-check at the first evaluation.

        Raises:
            InputError: There is no trainable parameter, dtypes or devices are mixed, parameters are complex, there are
                no examples or unequal numbers of them, the loss is unknown, `chunk_size` or `memory_budget` is less
                than 1, lengths do not fit the inputs, batches do not fit `coupled`, the output of a module depends on
                the batch or on random numbers, or there are targets of −100 (or of the index that a torch loss ignores)
                without `ignore_index` or `count`.
        """
        self.model = uncompiled(model)
        self.vector = ParameterVector(self.model, parameters)
        self.size, self.dtype, self.device = self.vector.size, self.vector.dtype, self.vector.device
        check_counts(coupled=coupled)
        if coupled is not None and (chunk_size is not None or lengths is not None):
            raise InputError("coupled sets which examples are evaluated together: omit chunk_size and lengths")
        self.coupled = coupled
        self._layers = Layers(self.model, output, coupled=coupled is not None)
        self.check_layers()
        self._mean = Mean(loss, count, ignore_index)
        self.loss: PerExampleLoss = self._mean.loss
        self.weight_decay = self._mean.checked_decay(weight_decay)
        self.data: Examples | Stream = open_data(inputs, targets, self._moved, chunk_size, lengths, coupled)
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
            InputError: A layer depends on the batch or on random numbers, or the model's modules or parameters were
                replaced.
        """
        self.check_layers()
        with self.modes.active(), self.vector.replaced_by(leaves):
            yield

    def forward(self, leaves: list[Tensor], inputs: Tree) -> Any:
        """The model's outputs for these inputs. Call it within `evaluating(leaves)`.

        Raises:
            InputError: The forward pass changed the parameters or its inputs in place.
        """
        return self._layers.forward(leaves, inputs)

    def chunk_loss(self, outputs: Tensor, targets: Tree, count: float | None = None) -> Tensor:
        """Sum of the examples' losses divided by `count` (default N), which is the chunk's share of the mean.

        Raises:
            InputError: The loss is not one number per example.
        """
        return self._mean.losses(outputs, targets).sum() / (self._mean.denominator if count is None else count)

    def value(self, theta: Tensor, indices: Tensor | None = None) -> Tensor:
        """Mean loss at θ [P], a scalar, over the examples `indices` [B] or over all."""
        return self._evaluate(theta, indices, gradient=False)[0]

    def gradient(self, theta: Tensor, indices: Tensor | None = None) -> Tensor:
        """Gradient [P] of the mean loss at θ [P], over the examples `indices` [B] or over all."""
        return self._evaluate(theta, indices, gradient=True)[1]

    def value_and_gradient(self, theta: Tensor, indices: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean loss (a scalar) and its gradient [P] at θ [P], at the cost of the gradient."""
        return self._evaluate(theta, indices, gradient=True)

    @in_turn
    def outputs(self, theta: Tensor) -> Tensor:
        """The model's outputs [N, ...] at θ [P]."""
        self.vector.check(theta)
        self.check(theta)

        def rows_of(leaves: list[Tensor], inputs: Tree) -> Tensor:
            return self._layers.tensor(self.forward(leaves, inputs))

        def evaluate() -> Tensor:
            leaves = self.vector.leaves(theta)
            with self.evaluating(leaves):
                rows = [without_graph(partial(rows_of, leaves, x)) for x, _ in self.in_chunks()]
                return self.data.in_own_order(torch.cat(rows))

        return self.chunks.with_halving(evaluate)

    @in_turn
    def check(self, theta: Tensor, products: bool = False, parts: bool = False) -> bool:
        """Checks the objective on a few examples, unless this was done already or is switched off.

        Args:
            theta: [P].
            products: Whether to check products with H too.
            parts: Whether to check products with H_o and H_f too.

        Returns:
            Whether several products may share one (vmapped) backward pass.

        Raises:
            InputError: Says what is wrong with the model, loss or data, and what to do.
        """
        if self.selfcheck is None:
            return self._layers.batches
        self.vector.check_unchanged()
        return self.selfcheck(theta, products=products, parts=parts) and self._layers.batches

    @in_turn
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

        def loss_of(inputs: Tree, targets: Tree) -> Tensor:
            return self.chunk_loss(self.forward(leaves, inputs), targets, count)

        with self.evaluating(leaves):
            for n, (x, y) in enumerate(data.pieces(size)):
                if gradient:
                    with torch.enable_grad():
                        share = loss_of(x, y)
                    part = self.vector.gradient(share, leaves)
                else:
                    share, part = without_graph(partial(loss_of, x, y)), gradients
                if n == 0 and len(tensors_of(y)[0]) == data.count:
                    return share.detach(), part
                value = share.detach().double() if n == 0 else value + share.detach()
                gradients = part.double() if n == 0 else gradients.add_(part)
        return value.to(self.dtype), gradients.to(self.dtype)
