"""A model, a loss and data as one function of a flat parameter vector θ."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from sharpflat.curvature.chunks import Chunks, saved_bytes
from sharpflat.curvature.parameters import ParameterVector
from sharpflat.errors import InputError
from sharpflat.losses import PerExampleLoss, per_example_loss


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
        vector: The trainable parameters as the vector θ.
        chunks: How many examples are evaluated at once.
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
            InputError: No trainable parameter, mixed dtypes or devices, complex parameters, no or unequal numbers
                of examples, an unknown loss, a chunk_size or memory_budget less than 1, or a module whose output
                depends on the batch or on chance.
        """
        self.model = model
        self.loss: PerExampleLoss = per_example_loss(loss) if isinstance(loss, str) else loss
        self.vector = ParameterVector(model)
        self.size, self.dtype, self.device = self.vector.size, self.vector.dtype, self.vector.device
        self._watched = [(name, m) for name, m in model.named_modules() if isinstance(m, _WATCHED)]
        self.check_layers()
        if len(inputs) == 0 or len(inputs) != len(targets):
            raise InputError(f"need as many targets as inputs, and one at least: {len(inputs)}, {len(targets)}")
        self.inputs = self._moved(inputs)
        self.targets = self._moved(targets)
        self.chunks = Chunks(
            len(inputs), self._saved_bytes, device=self.device, chunk_size=chunk_size, memory_budget=memory_budget
        )

    def _moved(self, data: Tensor) -> Tensor:
        return data.detach().to(device=self.device, dtype=self.dtype if data.is_floating_point() else data.dtype)

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

    # ---------------------------------------------------------------- parameters and chunks

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
        """Examples evaluated at once: as given, or from the memory budget; halved when memory ran out."""
        return self.chunks.size

    @property
    def halvings(self) -> list[tuple[int, int]]:
        """(from, to) for each time that memory ran out and the chunk size was halved."""
        return self.chunks.halvings

    def in_chunks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """(inputs, targets) in pieces of `chunk_size` examples; the last may be smaller."""
        yield from zip(self.inputs.split(self.chunk_size), self.targets.split(self.chunk_size), strict=True)

    def _saved_bytes(self, count: int) -> int:
        def evaluate() -> Tensor:
            outputs = self.forward(self.vector.leaves(self.theta), self.inputs[:count])
            return self.chunk_loss(outputs, self.targets[:count])

        return saved_bytes(evaluate, self.inputs)

    # ---------------------------------------------------------------- values

    def forward(self, leaves: list[Tensor], inputs: Tensor) -> Tensor:
        """The model's outputs for these inputs with parameters `leaves` (see `ParameterVector.leaves`)."""
        self.check_layers()
        with self.vector.replaced_by(leaves):
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
                return torch.cat([self.forward(self.vector.leaves(theta), x) for x, _ in self.in_chunks()])

        return self.chunks.with_halving(evaluate)

    def _evaluate(self, theta: Tensor, indices: Tensor | None, *, gradient: bool) -> tuple[Tensor, Tensor]:
        self.vector.check(theta)
        if indices is None:
            return self.chunks.with_halving(lambda: self._sum_chunks(theta, self.inputs, self.targets, gradient))
        inputs, targets = self.inputs[indices], self.targets[indices]
        return self.chunks.with_halving(lambda: self._sum_chunks(theta, inputs, targets, gradient))

    def _sum_chunks(self, theta: Tensor, inputs: Tensor, targets: Tensor, gradient: bool) -> tuple[Tensor, Tensor]:
        leaves = self.vector.leaves(theta)
        size = self.chunks.size_for(len(inputs))
        pieces = [(inputs, targets)]
        if len(inputs) > size:
            pieces = list(zip(inputs.split(size), targets.split(size), strict=True))
        value = gradients = theta.new_zeros(())
        for n, (x, y) in enumerate(pieces):
            with torch.set_grad_enabled(gradient):
                share = self.chunk_loss(self.forward(leaves, x), y, len(inputs))
            part = self.vector.gradient(share, leaves) if gradient else gradients
            if len(pieces) == 1:
                return share.detach(), part
            value = share.detach().double() if n == 0 else value + share.detach()
            gradients = part.double() if n == 0 else gradients.add_(part)
        return value.to(self.dtype), gradients.to(self.dtype)


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
