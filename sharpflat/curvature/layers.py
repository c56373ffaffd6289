"""How the model is called, and which layers prevent it from being a function of single examples."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from sharpflat.curvature.data import Tree, tensors_of
from sharpflat.curvature.means import no_tensor
from sharpflat.errors import InputError


class Layers:
    """A model, called with trees of tensors.

    Attributes:
        output: Extracts the outputs from the object that the model returns; None if they are the same.
        batches: Whether no layer is known to fail under vmap.
    """

    def __init__(self, model: nn.Module, output: Callable[[Any], Tensor] | None, *, coupled: bool = False) -> None:
        """Inspects the modules without evaluating them.

        Args:
            model: As it is called.
            output: Takes what the model returns and gives the outputs. `None`: they are the same.
            coupled: Layers may normalise with the statistics of the batch.

        Raises:
            InputError: `output` is not a function.
        """
        if output is not None and not callable(output):
            raise InputError(f"output must be a function of what the model returns, not {output!r}")
        self._model, self.output, self._coupled = model, output, coupled
        self._watched = [(name, m) for name, m in model.named_modules() if isinstance(m, _WATCHED)]
        # The double backward of torch 2.11's group norm under vmap raises an error, or gives wrong numbers if shapes
        # happen to broadcast (as many channels as pixels, one example). The self-check finds other such layers.
        self.batches = not any(getattr(type(m), "forward", None) is nn.GroupNorm.forward for m in model.modules())

    def check(self) -> None:
        """Refuses layers whose output for one example depends on the other examples or on random numbers.

        Raises:
            InputError: Names the first such module.
        """
        for name, module in self._watched:
            reason = _no_function(module, self._coupled)
            if reason:
                raise InputError(f"module {name or '(the model)'!r} ({type(module).__name__}): {reason}")

    def forward(self, leaves: list[Tensor], inputs: Tree) -> Any:
        """The model's outputs for these inputs, after `output`.

        Raises:
            InputError: The forward pass changed the parameters or its inputs in place.
        """
        tensors = [inputs] if isinstance(inputs, Tensor) else tensors_of(inputs)
        before = _versions(leaves[:1]), _versions(tensors)
        outputs = self._call(inputs)
        if _versions(leaves[:1]) != before[0]:
            raise InputError(changed_in_place("the parameters"))
        if _versions(tensors) != before[1]:
            raise InputError(changed_in_place("its inputs"))
        return outputs if self.output is None else self.output(outputs)

    def _call(self, inputs: Tree) -> Any:
        if isinstance(inputs, Tensor):
            try:
                return self._model(inputs)
            except RuntimeError as error:
                if inputs.is_floating_point() or ("dtype" not in str(error) and "type" not in str(error)):
                    raise
                raise InputError(
                    f"the model does not accept inputs of {inputs.dtype}: cast them to what it expects, for images "
                    f"with inputs.float() / 255 (torch: {str(error).splitlines()[0]})"
                ) from error
        if isinstance(inputs, Mapping):
            return self._model(**inputs) if _takes(self._model, (), inputs) else self._model(inputs)
        if hasattr(inputs, "_fields") or not _takes(self._model, tuple(inputs), {}):
            return self._model(inputs)
        return self._model(*inputs)

    @staticmethod
    def tensor(outputs: Any) -> Tensor:
        """The outputs, if they are a tensor.

        Raises:
            InputError: They are not.
        """
        if not isinstance(outputs, Tensor):
            raise InputError(no_tensor(outputs))
        return outputs


def changed_in_place(what: str) -> str:
    """The message about a forward pass with a side effect."""
    return (
        f"the model's forward pass changed {what} in place (as nn.Embedding with max_norm and operations such as "
        "x.mul_() do): it must leave them alone; remove the option or work on a copy"
    )


def _takes(model: nn.Module, positional: tuple[Any, ...], named: Mapping[str, Any]) -> bool:
    """Whether the model's forward can be called with these arguments; True if this cannot be determined."""
    try:
        signature = inspect.signature(model.forward)
    except (ValueError, TypeError):
        return True
    try:
        signature.bind(*positional, **named)
    except TypeError:
        return False
    return True


def _versions(tensors: list[Tensor]) -> list[int]:
    return [t._version for t in tensors if not t.is_inference()]


_WATCHED = (_BatchNorm, _DropoutNd, nn.RReLU, nn.RNNBase, nn.MultiheadAttention, nn.Embedding, nn.EmbeddingBag)


def _no_function(module: nn.Module, coupled: bool) -> str | None:
    """Why the module's output is not a function of θ and one example, or why it cannot be used; None if it is fine."""
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        if module.max_norm is not None:
            return "max_norm rewrites its weights in every forward pass; set module.max_norm = None"
        if module.sparse:
            return "sparse=True gives sparse gradients, which have no products; set module.sparse = False"
        if module.scale_grad_by_freq:
            return "scale_grad_by_freq changes gradients by the batch; set module.scale_grad_by_freq = False"
        return None
    if coupled and isinstance(module, _BatchNorm):
        if module.training and module.running_mean is not None:
            return "its running statistics change with each forward pass; set module.running_mean = None, and _var"
        return None
    reason = _batch_dependence(module)
    if reason is None:
        return None
    other = "; or set coupled=, for fixed batches" if isinstance(module, _BatchNorm) else ""
    return f"{reason}, so the loss is no function of θ alone; call model.eval() or remove the layer{other}"


def _batch_dependence(module: nn.Module) -> str | None:
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
