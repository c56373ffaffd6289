"""The torch modes under which an objective is evaluated, and explanations of torch's errors that say what to do."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

from sharpflat.errors import InputError

P = ParamSpec("P")
R = TypeVar("R")

# An evaluation replaces the model's parameters for a while, and sets torch modes and restores random generators that
# all models share. So there is one lock for all of them.
_TURN = threading.RLock()


def in_turn(function: Callable[P, R]) -> Callable[P, R]:
    """The function, which waits until no other thread is inside such a function."""

    @functools.wraps(function)
    def waiting(*args: P.args, **kwargs: P.kwargs) -> R:
        with _TURN:
            return function(*args, **kwargs)

    return waiting


_EXPLANATIONS = (
    (
        ("checkpoint is incompatible with .grad()", "Checkpointing is not compatible with .grad()"),
        "the model checkpoints activations with use_reentrant=True, which supports no second derivatives; call "
        "torch.utils.checkpoint.checkpoint(..., use_reentrant=False)",
    ),
    (
        ("donated buffer", "does not currently support double backward"),
        "the model, or a part of it, is compiled, and compiled code has no second derivative here; hand over the "
        "uncompiled module (the wrapper's `_orig_mod`), and call functions decorated with torch.compile uncompiled",
    ),
    (
        ("Inference tensors cannot be saved", "inference tensor outside InferenceMode", "is an inference tensor"),
        "a parameter, buffer or input was made under torch.inference_mode(); make it outside of that mode, or clone it "
        "there: tensor.clone()",
    ),
    (
        ("modified by an inplace operation",),
        "a tensor that the products need was changed in place since they were first computed (by optimizer.step(), "
        "load_state_dict() or a forward pass with side effects); make a new operator at the new parameters",
    ),
    (
        ("is marked with @once_differentiable", "once_differentiable"),
        "the model or loss uses an operation whose backward pass cannot be differentiated (once_differentiable); there "
        "is no second derivative",
    ),
)


def explained(error: BaseException) -> InputError | None:
    """An InputError that explains an error of torch and says what to do; None if the error is not a known one."""
    message = str(error)
    for patterns, words in _EXPLANATIONS:
        if any(pattern in message for pattern in patterns):
            return InputError(f"{words} (torch: {message.splitlines()[0]})")
    if "derivative for" in message and "is not implemented" in message:
        return InputError(
            "an operation of the model or loss has no second derivative in torch; use another form of it "
            f"(torch: {message.splitlines()[0]})"
        )
    return None


@contextmanager
def explaining() -> Iterator[None]:
    """Converts the errors of torch that `explained` knows into InputErrors."""
    try:
        yield
    except RuntimeError as error:
        found = explained(error)
        if found is None:
            raise
        raise found from error


@contextmanager
def without_autocast(device: torch.device) -> Iterator[None]:
    """Computes in the tensors' own dtype, also inside an autocast region."""
    if not torch.is_autocast_enabled(device.type):
        yield
        return
    with torch.autocast(device.type, enabled=False):
        yield


def without_graph(evaluate: Callable[[], Tensor]) -> Tensor:
    """The result, computed without a graph unless the model itself differentiates in its forward pass."""
    try:
        with torch.no_grad():
            return evaluate()
    except RuntimeError as error:
        if "does not require grad" not in str(error):
            raise
    check_autograd()
    with torch.enable_grad():
        return evaluate().detach()


def check_autograd() -> None:
    """Refuses to differentiate in inference mode, in which autograd cannot be enabled.

    Raises:
        InputError: torch.inference_mode() is active.
    """
    if torch.is_inference_mode_enabled():
        raise InputError(
            "torch.inference_mode() is active, and nothing can be differentiated in it (torch.enable_grad() does not "
            "help); leave it with `with torch.inference_mode(False):` around this call, or use torch.no_grad() instead"
        )


def uncompiled(model: Any) -> nn.Module:
    """The module inside the wrappers of `torch.compile` and of distributed data parallelism.

    Raises:
        InputError: The model is not a module.
    """
    while True:
        if isinstance(model, torch._dynamo.OptimizedModule if _dynamo_loaded() else ()):
            model = model._orig_mod
        elif isinstance(model, nn.parallel.DistributedDataParallel):
            model = model.module
        elif hasattr(model, "_torchdynamo_orig_callable") and not isinstance(model, nn.Module):
            model = model._torchdynamo_orig_callable
        elif isinstance(model, nn.Module):
            return model
        else:
            raise InputError(f"model must be a torch.nn.Module, not a {type(model).__name__}")


def _dynamo_loaded() -> bool:
    import sys

    return "torch._dynamo.eval_frame" in sys.modules


class Modes:
    """How one model is evaluated.

    Attributes:
        math_attention: Whether attention uses its math kernel. It is set when another kernel turns out to have no
            second derivative.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        """Inspects the model's modules without evaluating them."""
        modules = list(model.modules())
        self._device = device
        self._compiled = _dynamo_loaded() and any(
            getattr(m, "_compiled_call_impl", None) is not None or isinstance(m, torch._dynamo.OptimizedModule)
            for m in modules
        )
        # Without gradients, their fast path replaces padded positions, so the function differs from the differentiated
        # one.
        self._fast_path = any(isinstance(m, nn.TransformerEncoder | nn.TransformerEncoderLayer) for m in modules)
        self.math_attention = False

    @contextmanager
    def active(self) -> Iterator[None]:
        """Evaluates in θ's dtype, uncompiled, and with kernels that can be differentiated as often as needed.

        It waits for evaluations in other threads.
        """
        with ExitStack() as stack:
            stack.enter_context(_TURN)
            stack.enter_context(explaining())
            stack.enter_context(without_autocast(self._device))
            if self._compiled:
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            if self._fast_path:
                stack.enter_context(_no_fast_path())
            if self.math_attention:
                stack.enter_context(torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH))
            yield

    def with_math_attention(self, evaluate: Callable[[], Any], again: Callable[[], None]) -> Any:
        """The result of `evaluate()`, with the math kernel of attention if another one cannot be differentiated.

        Args:
            evaluate: Evaluates in `active()`.
            again: Called before the second attempt.
        """
        try:
            return evaluate()
        except InputError as error:
            if self.math_attention or "attention" not in str(error.__cause__):
                raise
        self.math_attention = True
        again()
        return evaluate()


@contextmanager
def _no_fast_path() -> Iterator[None]:
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
