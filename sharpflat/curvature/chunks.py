"""How many examples to evaluate at once: a memory budget, and half as many whenever memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from torch import Tensor

from sharpflat.arguments import check_counts

T = TypeVar("T")

# What one example's graph of a Hessian product holds, relative to what its forward pass saves: the forward
# pass, the backward pass made differentiable, and the temporaries of the second backward pass.
GRAPH_FACTOR = 4
_MINIBATCH = 64
_CPU_BUDGET = 1 << 30
_CUDA_BUDGET_FRACTION = 8  # one eighth of the device's memory


class Chunks:
    """The number of examples to evaluate at once.

    Attributes:
        memory_budget: Bytes that one chunk's graph may take.
        halvings: (from, to) for each time that memory ran out and the chunk size was halved.
    """

    def __init__(
        self,
        count: int,
        saved_bytes: Callable[[int], int],
        *,
        device: torch.device,
        chunk_size: int | None = None,
        memory_budget: int | None = None,
    ) -> None:
        """Evaluates nothing.

        Args:
            count: Number of examples, N.
            saved_bytes: Bytes that a forward pass of so many examples saves for the backward pass.
            device: Where it is evaluated.
            chunk_size: Examples evaluated at once. `None`: as many as `memory_budget` allows.
            memory_budget: Bytes. `None`: 1 GiB on a CPU, an eighth of a GPU's memory.

        Raises:
            InputError: chunk_size or memory_budget is less than 1.
        """
        check_counts(chunk_size=chunk_size, memory_budget=memory_budget)
        if memory_budget is None:
            memory_budget = _CPU_BUDGET
            if device.type == "cuda":
                memory_budget = torch.cuda.get_device_properties(device).total_memory // _CUDA_BUDGET_FRACTION
        self.memory_budget = memory_budget
        self.halvings: list[tuple[int, int]] = []
        self._count, self._saved_bytes, self._device = count, saved_bytes, device
        self._size = None if chunk_size is None else min(chunk_size, count)
        self._bytes_per_example: int | None = None

    @property
    def size(self) -> int:
        """Examples evaluated at once: as given, or from the memory budget; halved when memory ran out."""
        if self._size is None:
            fitting = max(1, self.memory_budget // max(1, GRAPH_FACTOR * self.bytes_per_example))
            chunks = -(-self._count // min(fitting, self._count))
            self._size = -(-self._count // chunks)  # equal chunks rather than a small last one
        return self._size

    def size_for(self, examples: int) -> int:
        """The chunk size for so many of the examples: for a minibatch, all of them, unless a size is known.

        Working out a chunk size costs two small forward passes, which is too much for a minibatch.
        """
        return examples if self._size is None and examples <= _MINIBATCH else self.size

    @property
    def bytes_per_example(self) -> int:
        """Bytes that the forward pass of one more example saves for the backward pass, beside its input."""
        if self._bytes_per_example is None:
            if self._count == 1:
                self._bytes_per_example = 1
            else:  # the difference leaves out what does not grow with the examples
                self._bytes_per_example = max(1, self._saved_bytes(2) - self._saved_bytes(1))
        return self._bytes_per_example

    @property
    def graph_fits(self) -> bool:
        """Whether the graphs of all chunks together stay within the memory budget."""
        return GRAPH_FACTOR * self.bytes_per_example * self._count <= self.memory_budget

    def with_halving(self, evaluate: Callable[[], T]) -> T:
        """The result of `evaluate()`; when memory runs out, again with half the chunk size, until it fits.

        Raises:
            RuntimeError: Memory runs out with one example.
        """
        while True:
            try:
                return evaluate()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or self.size == 1:
                    raise
            # Outside the handler, so that the traceback no longer holds the tensors.
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
            half = -(-self.size // 2)
            self.halvings.append((self.size, half))
            self._size = half


def saved_bytes(forward: Callable[[], object], data: Iterable[Tensor]) -> int:
    """Bytes that `forward()` saves for the backward pass, without the storage of `data`, which is there anyway."""
    storages: dict[int, int] = {}
    kept: list[Tensor] = []
    there = {tensor.untyped_storage().data_ptr() for tensor in data}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in there:
            storages[storage.data_ptr()] = min(storage.nbytes(), tensor.numel() * tensor.element_size())
            kept.append(tensor)  # so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), torch.enable_grad():
        result = forward()
    del result  # kept until here: what it saved must not be freed, and its address used again, on the way
    return sum(storages.values())


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error says that memory ran out, on a GPU or in the CPU's allocator."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    message = str(error)
    return "DefaultCPUAllocator: can't allocate memory" in message or "not enough memory" in message
