"""How many examples to evaluate at once: as many as fit the caches, and half as many whenever memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from torch import Tensor

from sharpflat.arguments import check_counts

T = TypeVar("T")

# Size of one example's graph of a Hessian product, relative to what its forward pass saves. The graph holds the forward
# pass, the differentiable backward pass, and the temporaries of the second backward pass.
GRAPH_FACTOR = 4
_MINIBATCH = 64
_CPU_BUDGET = 1 << 30
_CUDA_BUDGET_FRACTION = 8  # one eighth of the device's memory

# On a CPU, a chunk's graph should fit the caches, because memory outside them is slow. The table gives milliseconds of
# CPU time for a gradient and for one vector's product with H through a kept graph, for several sizes of the chunk as
# GRAPH_FACTOR estimates them. It was measured on one core of an AMD EPYC (32 MiB of L3 cache) with other jobs on the
# machine, so it is accurate to about 20 %. The widths are the papers' (VGG11/4 has a quarter of VGG11's width), and
# there are fewer examples:
#
#   CNN, 500 images      547 MiB 842, 1091   219 MiB 498, 641    55 MiB 405, 536    27 MiB 505, 498   11 MiB 464, 623
#   ResNet8, 200 images  489 MiB 696, 1412   122 MiB 541, 1344   61 MiB 655, 1244   24 MiB 787, 1309  12 MiB 868, 1794
#   VGG11/4, 200 images  188 MiB 370, 496    94 MiB 328, 546     47 MiB 289, 509    23 MiB 395, 548   9 MiB 425, 891
#   VGG11, 64 images     240 MiB 1959, 2174  120 MiB 1772, 2584  60 MiB 1757, 2961  30 MiB 2627, 3762
#
# 64 MiB is close to the best for all models except VGG11, whose 39 MB of θ pass through the caches with every chunk. So
# a chunk may also take eight times the bytes of θ. These are constants rather than this machine's cache sizes, so that
# the results do not depend on the machine.
_CACHE_BUDGET = 64 << 20
_CACHE_BUDGET_THETAS = 8

# Padded examples are cut to the longest of each chunk, which helps only if a chunk is much work. For 150 sentences of
# `quick` (17 MiB), two chunks instead of one took 1.16 times as long for a gradient, 1.09 times for a product through a
# kept graph and 1.24 times for a product at a new θ, although they hold a quarter fewer positions.
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
            count: Number of examples, N. For padded examples, how many of the longest take as much memory as all.
            saved_bytes: Bytes that a forward pass of a number of (the longest) examples saves for the backward pass.
            device: Device of the evaluation.
            theta_bytes: Bytes of θ.
            examples: Number of padded examples. They are one uncut chunk if that is tiny.
            chunk_size: Examples evaluated at once. `None` means as many as `chunk_budget` allows.
            memory_budget: In bytes. `None` means 1 GiB on a CPU and an eighth of the memory of a GPU. One chunk's graph
                may take all of it on a GPU. On a CPU it may take 64 MiB of it, or eight times the bytes of θ if that is
                more.
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
        """Number of examples evaluated at once: as given or from the chunk budget, and halved when memory ran out."""
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
        """The chunk size for a number of examples. A minibatch is one chunk, unless that was too many.

        Computing a chunk size takes two small forward passes, and several chunks need a sum in float64. Both cost too
        much for a minibatch.
        """
        return examples if not self._limited and examples <= _MINIBATCH else self.size

    @property
    def bytes_per_example(self) -> int:
        """Bytes that the forward pass of one more example saves for the backward pass, without its input."""
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
        """The result of `evaluate()`, which is repeated with half the chunk size when memory runs out.

        Args:
            evaluate: Evaluates in chunks.
            examples: The chunks have the size `size_for(examples)`. `None` means `size`.

        Raises:
            RuntimeError: Memory runs out even with one example, or the chunk size is fixed.
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
            # This is outside the handler, so that the traceback no longer holds the tensors.
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
            half = -(-size // 2)
            self.halvings.append((size, half))
            self._size, self._limited = half, True


def saved_bytes(forward: Callable[[], object], data: Iterable[Tensor]) -> int:
    """Bytes that `forward()` saves for the backward pass, without the storage of `data`, which exists anyway."""
    storages: dict[int, int] = {}
    kept: list[Tensor] = []
    there = {tensor.untyped_storage().data_ptr() for tensor in data}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in there:
            storages[storage.data_ptr()] = min(storage.nbytes(), tensor.numel() * tensor.element_size())
            kept.append(tensor)  # so that no address is reused
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), torch.enable_grad():
        result = forward()
    del result  # kept until here, so that its saved tensors are not freed and their addresses reused meanwhile
    return sum(storages.values())


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error says that memory ran out, on a GPU or in the CPU's allocator."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    message = str(error)
    return "DefaultCPUAllocator: can't allocate memory" in message or "not enough memory" in message
