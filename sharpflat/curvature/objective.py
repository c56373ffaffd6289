"""A model, a loss and data as one function of a flat parameter vector θ."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from sharpflat.arguments import check_counts
from sharpflat.errors import InputError
from sharpflat.losses import PerExampleLoss, per_example_loss

T = TypeVar("T")

# What one example's graph of a Hessian product holds, relative to what its forward pass saves: the forward
# pass, the backward pass made differentiable, and the temporaries of the second backward pass.
GRAPH_FACTOR = 4
_MINIBATCH = 64
_CPU_BUDGET = 1 << 30
_CUDA_BUDGET_FRACTION = 8  # one eighth of the device's memory


class Objective:
    """The full-batch training loss L(θ) = 1/N Σ_i ℓ(f(x_i; θ), y_i), its gradient, and their chunks.

    θ is the vector of the model's trainable parameters in the order of `model.parameters()`: frozen ones
    (`requires_grad=False`) are constants, a shared (tied) one counts once. Nothing here changes the model.

    Sums over examples run in chunks of `chunk_size` with weight 1/N for every example, and add up in
    float64 when there is more than one chunk.

    Attributes:
        model: The model, called as `model(inputs)`.
        loss: `loss(outputs, targets) -> [N]`.
        inputs: [N, ...]; floats in the dtype of the parameters, or integers (token ids) as given.
        targets: [N, ...].
        size: P, the number of trainable parameters.
        dtype: dtype of θ.
        device: Device of θ.
        memory_budget: Bytes that one chunk's graph may take.
        halvings: (from, to) for each time that memory ran out and the chunk size was halved.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: str | PerExampleLoss,
        inputs: Tensor,
        targets: Tensor,
        *,
        chunk_size: int | None = None,
        memory_budget: int | None = None,
    ) -> None:
        """Wires model, loss and data; evaluates nothing.

        Args:
            model: Any module without batch-dependent layers.
            loss: "mse", "cross_entropy", or a function `loss(outputs, targets) -> [N]`.
            inputs: [N, ...]. Moved to the parameters' device; floats are cast to their dtype.
            targets: [N, ...]. Class indices or floats.
            chunk_size: Examples evaluated at once. `None`: as many as `memory_budget` allows.
            memory_budget: Bytes. `None`: 1 GiB on a CPU, an eighth of a GPU's memory.

        Raises:
            InputError: No trainable parameter, mixed dtypes or devices, no or unequal numbers of examples,
                an unknown loss, or a module whose output depends on the batch or on chance.
        """
        self.model = model
        self.loss: PerExampleLoss = per_example_loss(loss) if isinstance(loss, str) else loss
        self._collect_parameters(model)
        self._watched = [(name, m) for name, m in model.named_modules() if isinstance(m, _WATCHED)]
        self.check_layers()
        if len(inputs) == 0 or len(inputs) != len(targets):
            raise InputError(f"need as many targets as inputs, and one at least: {len(inputs)}, {len(targets)}")
        check_counts(chunk_size=chunk_size, memory_budget=memory_budget)
        self.inputs = inputs.detach().to(
            device=self.device, dtype=self.dtype if inputs.is_floating_point() else inputs.dtype
        )
        self.targets = targets.detach().to(
            device=self.device, dtype=self.dtype if targets.is_floating_point() else targets.dtype
        )
        self._chunk_size = None if chunk_size is None else min(chunk_size, len(inputs))
        if memory_budget is None:
            memory_budget = _CPU_BUDGET
            if self.device.type == "cuda":
                memory_budget = torch.cuda.get_device_properties(self.device).total_memory // _CUDA_BUDGET_FRACTION
        self.memory_budget = memory_budget
        self._bytes_per_example: int | None = None
        self.halvings: list[tuple[int, int]] = []

    def _collect_parameters(self, model: nn.Module) -> None:
        """Finds every trainable parameter once, and every place in the module tree that holds it."""
        index: dict[int, int] = {}
        parameters: list[nn.Parameter] = []
        self._slots: list[tuple[dict[str, Any], str, int]] = []
        for parameter in model.parameters():
            if parameter.requires_grad:
                index[id(parameter)] = len(parameters)
                parameters.append(parameter)
        for module in model.modules():
            for name, value in module._parameters.items():
                if value is not None and id(value) in index:
                    self._slots.append((module._parameters, name, index[id(value)]))
        if not parameters:
            raise InputError("the model has no trainable parameter")
        dtypes = {p.dtype for p in parameters}
        devices = {p.device for p in parameters}
        if len(dtypes) > 1 or len(devices) > 1:
            raise InputError(f"trainable parameters must share dtype and device: {dtypes}, {devices}")
        self._parameters = parameters
        self.shapes = [p.shape for p in parameters]
        self.lengths = [p.numel() for p in parameters]
        self.size = sum(self.lengths)
        self.dtype = parameters[0].dtype
        self.device = parameters[0].device

    def check_layers(self) -> None:
        """Refuses layers whose output for one example depends on the other examples or on chance.

        Raises:
            InputError: Names the first such module.
        """
        for name, module in self._watched:
            reason = _batch_dependence(module)
            if reason:
                raise InputError(
                    f"module {name or '(the model)'!r} ({type(module).__name__}): {reason}, so the loss is "
                    "no function of θ alone; call model.eval() or remove the layer"
                )

    # ---------------------------------------------------------------- parameters

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The model's trainable parameters, in the order they have in θ."""
        return list(self._parameters)

    @property
    def theta(self) -> Tensor:
        """The model's current trainable parameters as one vector, a detached copy [P]."""
        return torch.cat([p.detach().reshape(-1) for p in self._parameters])

    def leaves(self, theta: Tensor) -> list[Tensor]:
        """Differentiable views of θ [P], one for each parameter, in its shape."""
        return [
            piece.view(shape).requires_grad_()
            for piece, shape in zip(theta.detach().split(self.lengths), self.shapes, strict=True)
        ]

    @contextmanager
    def _parameters_from(self, leaves: list[Tensor]) -> Iterator[None]:
        """Lets the model compute with `leaves`; puts its own parameters back whatever happens.

        This is what `torch.func.functional_call` does, with the look-up of names done once (and without its
        flaw in torch 2.11: a module that occurs twice does not get its own parameters back).
        """
        for holder, name, i in self._slots:
            holder[name] = leaves[i]
        try:
            yield
        finally:
            for holder, name, i in self._slots:
                holder[name] = self._parameters[i]

    def forward(self, leaves: list[Tensor], inputs: Tensor) -> Tensor:
        """The model's outputs for these inputs with parameters `leaves` (see `leaves()`)."""
        self.check_layers()
        with self._parameters_from(leaves):
            outputs: Tensor = self.model(inputs)
        return outputs

    def chunk_loss(self, outputs: Tensor, targets: Tensor, count: int | None = None) -> Tensor:
        """Sum of the examples' losses divided by `count` (default N): the chunk's share of the mean.

        Raises:
            InputError: The loss is not one number per example.
        """
        losses = self.loss(outputs, targets)
        if losses.shape != targets.shape[:1]:
            raise InputError(
                f"the loss must return one value per example, shape [{len(targets)}], not {list(losses.shape)}"
            )
        return losses.sum() / (len(self.inputs) if count is None else count)

    # ---------------------------------------------------------------- chunks

    @property
    def chunk_size(self) -> int:
        """Examples evaluated at once: as given, or from the memory budget; halved when memory ran out."""
        if self._chunk_size is None:
            count = len(self.inputs)
            fitting = max(1, self.memory_budget // max(1, GRAPH_FACTOR * self.bytes_per_example))
            chunks = -(-count // min(fitting, count))
            self._chunk_size = -(-count // chunks)  # equal chunks rather than a small last one
        return self._chunk_size

    @property
    def bytes_per_example(self) -> int:
        """Bytes that the forward pass of one more example saves for the backward pass, beside its input."""
        if self._bytes_per_example is None:
            if len(self.inputs) == 1:
                self._bytes_per_example = 1
            else:  # the difference leaves out what does not grow with the examples
                self._bytes_per_example = max(1, self._saved_bytes(2) - self._saved_bytes(1))
        return self._bytes_per_example

    @property
    def graph_fits(self) -> bool:
        """Whether the graphs of all chunks together stay within the memory budget."""
        return GRAPH_FACTOR * self.bytes_per_example * len(self.inputs) <= self.memory_budget

    def _saved_bytes(self, count: int) -> int:
        storages: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() == data:
                return tensor  # there anyway
            storages[storage.data_ptr()] = min(storage.nbytes(), tensor.numel() * tensor.element_size())
            kept.append(tensor)  # so that no address is used twice
            return tensor

        kept: list[Tensor] = []
        data = self.inputs.untyped_storage().data_ptr()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), torch.enable_grad():
            outputs = self.forward(self.leaves(self.theta), self.inputs[:count])
            self.chunk_loss(outputs, self.targets[:count])
        return sum(storages.values())

    def chunks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """(inputs, targets) in pieces of `chunk_size` examples; the last may be smaller."""
        yield from zip(self.inputs.split(self.chunk_size), self.targets.split(self.chunk_size), strict=True)

    def with_halving(self, evaluate: Callable[[], T]) -> T:
        """`evaluate()`; when memory runs out, again with half the chunk size, until it fits.

        Raises:
            RuntimeError: Memory runs out with one example.
        """
        while True:
            try:
                return evaluate()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or self.chunk_size == 1:
                    raise
            # Outside the handler, so that the traceback no longer holds the tensors.
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            half = -(-self.chunk_size // 2)
            self.halvings.append((self.chunk_size, half))
            self._chunk_size = half

    # ---------------------------------------------------------------- values

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

        def evaluate() -> Tensor:
            with torch.no_grad():
                return torch.cat([self.forward(self.leaves(theta), x) for x, _ in self.chunks()])

        return self.with_halving(evaluate)

    def _evaluate(self, theta: Tensor, indices: Tensor | None, *, gradient: bool) -> tuple[Tensor, Tensor]:
        self.check_theta(theta)
        if indices is None:
            return self.with_halving(lambda: self._sum_chunks(theta, self.inputs, self.targets, gradient))
        inputs, targets = self.inputs[indices], self.targets[indices]
        return self.with_halving(lambda: self._sum_chunks(theta, inputs, targets, gradient))

    def _sum_chunks(self, theta: Tensor, inputs: Tensor, targets: Tensor, gradient: bool) -> tuple[Tensor, Tensor]:
        leaves = self.leaves(theta)
        # Working out a chunk size costs two small forward passes: not worth it for a minibatch.
        small = self._chunk_size is None and len(inputs) <= _MINIBATCH
        size = len(inputs) if small else self.chunk_size
        pieces = [(inputs, targets)]
        if len(inputs) > size:
            pieces = list(zip(inputs.split(size), targets.split(size), strict=True))
        value = gradients = theta.new_zeros(())
        for n, (x, y) in enumerate(pieces):
            with torch.set_grad_enabled(gradient):
                share = self.chunk_loss(self.forward(leaves, x), y, len(inputs))
            part = self.flat_gradient(share, leaves) if gradient else gradients
            if len(pieces) == 1:
                return share.detach(), part
            value = share.detach().double() if n == 0 else value + share.detach()
            gradients = part.double() if n == 0 else gradients.add_(part)
        return value.to(self.dtype), gradients.to(self.dtype)

    def flat_gradient(self, share: Tensor, leaves: list[Tensor]) -> Tensor:
        """Gradient [P] of a scalar by `leaves`; zero for those it does not depend on."""
        if not share.requires_grad:
            return torch.zeros(self.size, dtype=self.dtype, device=self.device)
        parts = torch.autograd.grad(share, leaves, allow_unused=True, materialize_grads=True)
        return torch.cat([p.reshape(-1) for p in parts])

    def check_theta(self, theta: Tensor) -> None:
        """Raises InputError unless θ is a vector of this objective's size, dtype and device."""
        if theta.shape != (self.size,) or theta.dtype != self.dtype or theta.device != self.device:
            raise InputError(
                f"theta must be a vector [{self.size}] of {self.dtype} on {self.device}, not "
                f"{list(theta.shape)} of {theta.dtype} on {theta.device}"
            )


_WATCHED = (_BatchNorm, _DropoutNd, nn.RReLU, nn.RNNBase, nn.MultiheadAttention)


def _batch_dependence(module: nn.Module) -> str | None:
    """Why the module's output for one example is no function of that example, or None."""
    if isinstance(module, _BatchNorm):
        if module.training or module.running_mean is None:
            return "it normalises with the statistics of the batch"
    elif module.training:
        if isinstance(module, nn.RReLU):
            return "it draws random slopes"
        rate = module.p if isinstance(module, _DropoutNd) else getattr(module, "dropout", 0.0)
        if rate > 0:
            return "its dropout is active"
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error says that memory ran out, on a GPU or in the CPU's allocator."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    message = str(error)
    return "DefaultCPUAllocator: can't allocate memory" in message or "not enough memory" in message
