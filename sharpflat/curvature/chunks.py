"""How many examples to evaluate at once: what fits the caches, and half as many whenever memory runs out."""

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

# On a CPU a chunk's graph should fit the caches, for what falls out of them is slow. Milliseconds of CPU time for a
# gradient and for one vector's product with H through a kept graph, by the bytes that GRAPH_FACTOR gives the chunk
# (one core of an AMD EPYC, 32 MiB of L3 cache, other jobs beside it, so to some 20 %; papers' widths, VGG11/4 a
# quarter of it; fewer examples):
#
#   CNN, 500 images      547 MiB 842, 1091   219 MiB 498, 641    55 MiB 405, 536    27 MiB 505, 498   11 MiB 464, 623
#   ResNet8, 200 images  489 MiB 696, 1412   122 MiB 541, 1344   61 MiB 655, 1244   24 MiB 787, 1309  12 MiB 868, 1794
#   VGG11/4, 200 images  188 MiB 370, 496    94 MiB 328, 546     47 MiB 289, 509    23 MiB 395, 548   9 MiB 425, 891
#   VGG11, 64 images     240 MiB 1959, 2174  120 MiB 1772, 2584  60 MiB 1757, 2961  30 MiB 2627, 3762
#
# 64 MiB is near the best of each but VGG11's, whose 39 MB of θ pass through the caches with every chunk; so a chunk may
# also take eight times θ's bytes. Constants rather than this machine's caches: the numbers then depend on no machine.
_CACHE_BUDGET = 64 << 20
_CACHE_BUDGET_THETAS = 8

# Padded examples are cut to the longest of each chunk, which pays only where a chunk is much work. Of 150 sentences of
# `quick` (17 MiB) two chunks instead of one took 1.16 times as long for a gradient, 1.09 for a product through a kept
# graph and 1.24 for one at a new θ, though they hold a quarter fewer positions.
_TINY_BUDGET = 24 << 20


class Chunks:
    """The number of examples to evaluate at once.

    Attributes:
        memory_budget: Bytes that the graphs kept between products may take together.
        chunk_budget: Bytes that one chunk's graph may take.
        halvings: (from, to) for each time that memory ran out and the chunk size was halved.
    """

    def __init__(
        self,
        count: int,
        saved_bytes: Callable[[int], int],
        *,
        device: torch.device,
        theta_bytes: int = 0,
        examples: int | None = None,
        chunk_size: int | None = None,
        memory_budget: int | None = None,
        fixed: bool = False,
    ) -> None:
        """Evaluates nothing.

        Args:
            count: Number of examples, N; of padded ones, how many of the longest take as much room as all.
            saved_bytes: Bytes that a forward pass of so many (of the longest) examples saves for the backward pass.
            device: Where it is evaluated.
            theta_bytes: Bytes of θ.
            examples: Of padded ones, how many there are: one chunk, uncut, where that is tiny.
            chunk_size: Examples evaluated at once. `None`: as many as `chunk_budget` allows.
            memory_budget: Bytes. `None`: 1 GiB on a CPU, an eighth of a GPU's memory. One chunk's graph may take all
                of it on a GPU, and on a CPU 64 MiB of it, or eight times the bytes of θ where that is more.
            fixed: Chunks of another size would give another function, so `chunk_size` is kept when memory runs out.

        Raises:
            InputError: chunk_size or memory_budget is less than 1.
        """
        check_counts(chunk_size=chunk_size, memory_budget=memory_budget)
        if memory_budget is None:
            memory_budget = _CPU_BUDGET
            if device.type == "cuda":
                memory_budget = torch.cuda.get_device_properties(device).total_memory // _CUDA_BUDGET_FRACTION
        self.memory_budget = self.chunk_budget = memory_budget
        if device.type != "cuda":
            self.chunk_budget = min(memory_budget, max(_CACHE_BUDGET, _CACHE_BUDGET_THETAS * theta_bytes))
        self.halvings: list[tuple[int, int]] = []
        self._count, self._saved_bytes, self._device = count, saved_bytes, device
        self._examples = count if examples is None else examples
        self._size = None if chunk_size is None else min(chunk_size, count)
        self._fixed = fixed
        self._limited = chunk_size is not None  # by the caller or by the memory there is, not by the caches alone
        self._bytes_per_example: int | None = None

    @property
    def size(self) -> int:
        """Examples evaluated at once: as given, or from the chunk budget; halved when memory ran out."""
        if self._size is None:
            each = max(1, GRAPH_FACTOR * self.bytes_per_example)
            if each * self._examples <= min(_TINY_BUDGET, self.chunk_budget):
                self._size = self._examples
            else:
                fitting = max(1, self.chunk_budget // each)
                chunks = -(-self._count // min(fitting, self._count))
                self._size = -(-self._count // chunks)  # equal chunks rather than a small last one
        return self._size

    def size_for(self, examples: int) -> int:
        """The chunk size for so many of the examples: for a minibatch, all of them, unless that was too many.

        Working out a chunk size costs two small forward passes, and several chunks cost a sum in float64: both are
        too much for a minibatch.
        """
        return examples if not self._limited and examples <= _MINIBATCH else self.size

    @property
    def bytes_per_example(self) -> int:
        """Bytes that the forward pass of one more example saves for the backward pass, beside its input."""
        if self._bytes_per_example is None:
            if self._count == 1:
                self._bytes_per_example = 1
            elif self._fixed:  # fewer examples than a group may be too few
                self._bytes_per_example = max(1, self._saved_bytes(self.size) // self.size)
            else:  # the difference leaves out what does not grow with the examples
                self._bytes_per_example = max(1, self._saved_bytes(2) - self._saved_bytes(1))
        return self._bytes_per_example

    @property
    def graph_fits(self) -> bool:
        """Whether the graphs of all chunks together stay within the memory budget."""
        return GRAPH_FACTOR * self.bytes_per_example * self._count <= self.memory_budget

    def with_halving(self, evaluate: Callable[[], T], examples: int | None = None) -> T:
        """The result of `evaluate()`; when memory runs out, again with half the chunk size, until it fits.

        Args:
            evaluate: Evaluates in chunks.
            examples: In chunks of `size_for(examples)`. `None`: of `size`.

        Raises:
            RuntimeError: Memory runs out with one example, or where the chunk size is fixed.
        """
        while True:
            try:
                return evaluate()
            except (RuntimeError, MemoryError) as error:
                if self._fixed or not is_out_of_memory(error):
                    raise
                size = self.size if examples is None else self.size_for(examples)
                if size == 1:
                    raise
            # Outside the handler, so that the traceback no longer holds the tensors.
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
            half = -(-size // 2)
            self.halvings.append((size, half))
            self._size, self._limited = half, True


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
