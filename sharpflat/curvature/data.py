"""An objective's data: trees of tensors in memory, or a stream of batches that is read again in every pass."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler

from sharpflat.errors import InputError

Tree = Any
"""A tensor, or dicts, lists and tuples of tensors, nested in any way. None is a leaf without tensors."""

_DATASET_BATCH = 64


def map_tree(function: Callable[[Tensor], Tensor], tree: Tree) -> Tree:
    """The tree with every tensor replaced by `function(tensor)`.

    Raises:
        InputError: The tree holds something other than tensors, None, dicts, lists and tuples.
    """
    if isinstance(tree, Tensor):
        return function(tree)
    if tree is None:
        return None
    if isinstance(tree, Mapping):
        return {key: map_tree(function, value) for key, value in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(map_tree(function, value) for value in tree))
    if isinstance(tree, list | tuple):
        return type(tree)(map_tree(function, value) for value in tree)
    raise InputError(
        "inputs and targets must be tensors, or dicts, lists and tuples of tensors with the examples first, not "
        f"{type(tree).__name__}; convert NumPy arrays and numbers with torch.as_tensor()"
    )


def tensors_of(tree: Tree) -> list[Tensor]:
    """All tensors of a tree, in its order."""
    found: list[Tensor] = []

    def take(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    map_tree(take, tree)
    return found


def count_of(tree: Tree, name: str) -> int:
    """The number of examples: the length of every tensor's first dimension.

    Raises:
        InputError: There is no tensor, a tensor has no dimension or is sparse, or the lengths differ.
    """
    tensors = tensors_of(tree)
    if any(t.layout != torch.strided for t in tensors):
        raise InputError(f"{name} hold a sparse tensor, of which chunks cannot be taken: call to_dense() on it")
    if any(t.ndim == 0 for t in tensors):
        raise InputError(f"{name} hold a tensor without a dimension; the first dimension counts the examples")
    lengths = {len(t) for t in tensors}
    if len(lengths) != 1:
        raise InputError(f"all tensors of the {name} need the same first dimension: {sorted(lengths) or 'none'}")
    return lengths.pop()


def _pieces(tree: Tree, size: int) -> Iterator[Tree]:
    count = count_of(tree, "data")
    for start in range(0, count, size):
        stop = min(start + size, count)
        yield map_tree(lambda t, start=start, stop=stop: t[start:stop], tree)  # type: ignore[misc]


class Examples:
    """Data in memory.

    Attributes:
        inputs: A tree of tensors.
        targets: Likewise.
        count: Number of examples, N.
    """

    def __init__(self, inputs: Tree, targets: Tree, move: Callable[[Tensor], Tensor]) -> None:
        """Moves the tensors with `move`.

        Raises:
            InputError: There are no examples, or there are not as many targets as inputs.
        """
        numbers = count_of(inputs, "inputs"), count_of(targets, "targets")
        if numbers[0] == 0 or numbers[0] != numbers[1]:
            raise InputError(f"need as many targets as inputs, and at least one: {numbers[0]}, {numbers[1]}")
        self.inputs, self.targets = map_tree(move, inputs), map_tree(move, targets)
        self.count = numbers[0]

    @property
    def room(self) -> int:
        """How many examples of the greatest length take as much memory as all of these; N if lengths are equal."""
        return self.count

    def pieces(self, size: int) -> Iterator[tuple[Tree, Tree]]:
        """(inputs, targets) in pieces of `size` examples; the last may be smaller."""
        if isinstance(self.inputs, Tensor) and isinstance(self.targets, Tensor):
            yield from zip(self.inputs.split(size), self.targets.split(size), strict=True)
        else:
            yield from zip(_pieces(self.inputs, size), _pieces(self.targets, size), strict=True)

    def head(self, count: int) -> tuple[Tree, Tree]:
        """The first `count` examples (or all, if there are fewer), as views of the data."""
        return map_tree(lambda t: t[:count], self.inputs), map_tree(lambda t: t[:count], self.targets)

    def take(self, indices: Tensor) -> Examples:
        """The examples `indices` [B], or those of a slice.

        Raises:
            InputError: Indices that are no indices of these examples, or none, or not one-dimensional.
        """
        try:
            flat = _flat(indices)
            parts = tuple(map_tree(lambda t: t[flat], tree) for tree in (self.inputs, self.targets))
        except (IndexError, TypeError, ValueError) as error:
            raise InputError(f"indices must be integers below {self.count}, the number of examples: {error}") from error
        return Examples(parts[0], parts[1], move=lambda t: t)

    def in_own_order(self, outputs: Tensor) -> Tensor:
        """Reorders rows [N, ...] from the order of `pieces` to the order of the examples."""
        return outputs


class Padded(Examples):
    """Data in memory whose examples are padded to one length with positions that the model ignores.

    Pieces hold examples of similar length, longest first, and are cut to their longest example. Pieces of shorter
    examples hold more of them.

    Attributes:
        lengths: Number of positions that count in each example, int64 [N] on the CPU.
    """

    def __init__(self, inputs: Tree, targets: Tree, move: Callable[[Tensor], Tensor], lengths: Tensor) -> None:
        """Moves the tensors with `move`. The lengths stay on the CPU, because the host needs them.

        Raises:
            InputError: As for `Examples`; an input is not [N, T, ...] with one T; or lengths are not N integers from 0
                to T.
        """
        super().__init__(inputs, targets, move)
        shapes = {tuple(t.shape[:2]) for t in tensors_of(self.inputs)}
        if len(shapes) != 1 or len(next(iter(shapes))) != 2:
            raise InputError(f"with lengths, all inputs must have the same shape [N, T, ...]: {sorted(shapes)}")
        whole = isinstance(lengths, Tensor) and not lengths.is_floating_point() and lengths.dtype != torch.bool
        if not whole or lengths.shape != (self.count,):
            raise InputError(f"lengths must be a tensor of {self.count} integers, one for each example")
        self.lengths = lengths.detach().to(device="cpu", dtype=torch.int64)
        at_most = next(iter(shapes))[1]
        if not 0 <= int(self.lengths.min()) <= int(self.lengths.max()) <= at_most:
            raise InputError(f"lengths must be 0 to {at_most}, the inputs' second dimension")
        self._order = self.lengths.argsort(descending=True, stable=True)
        self._descending: list[int] = self.lengths[self._order].clamp(min=1).tolist()

    @property
    def room(self) -> int:
        """How many examples of the greatest length take as much memory as all of these."""
        longest: int = self._descending[0]
        return -(-sum(self._descending) // longest)

    def pieces(self, size: int) -> Iterator[tuple[Tree, Tree]]:
        """(inputs, targets) with as many positions as `size` of the longest examples, and at least one example."""
        start = 0
        while start < self.count:
            stop = start + max(1, size * self._descending[0] // self._descending[start])
            yield self._cut(self._order[start:stop])
            start = stop

    def head(self, count: int) -> tuple[Tree, Tree]:
        """The `count` longest examples, or all if there are fewer."""
        return self._cut(self._order[:count])

    def take(self, indices: Tensor) -> Examples:
        """The examples `indices` [B], cut to the longest of them if the indices are on the CPU.

        If they are on another device, the examples are not cut, because the host would have to wait for the indices.

        Raises:
            InputError: Indices that are no indices of these examples, or none, or not one-dimensional.
        """
        part = super().take(indices)
        if not isinstance(indices, Tensor) or indices.device.type != "cpu" or part.count == 0:
            return part
        longest = int(self.lengths[indices].max())
        part.inputs = map_tree(lambda t: t[:, :longest], part.inputs)
        return part

    def in_own_order(self, outputs: Tensor) -> Tensor:
        """Reorders rows [N, ...] from the order of `pieces` to the order of the examples."""
        return torch.empty_like(outputs).index_copy_(0, self._order.to(outputs.device), outputs)

    def _cut(self, chosen: Tensor) -> tuple[Tree, Tree]:
        longest = int(self.lengths[chosen[0]])
        inputs = map_tree(lambda t: t[:, :longest][chosen.to(t.device)], self.inputs)
        return inputs, map_tree(lambda t: t[chosen.to(t.device)], self.targets)


class Stream:
    """Batches (inputs, targets) from an iterable that yields the same batches in the same order each time.

    Only a digest of every batch of the first pass is kept, and later passes must match it.

    Attributes:
        inputs: The iterable itself.
        targets: None.
        count: Number of examples, N.
    """

    targets = None

    def __init__(self, batches: Iterable[Any], move: Callable[[Tensor], Tensor], coupled: int | None = None) -> None:
        """Reads all batches once.

        Raises:
            InputError: The iterable shuffles, can be read only once, is empty or does not yield pairs of trees, or its
                batches would cut groups of `coupled` examples.
        """
        self.inputs = batches
        self._batches = _checked(batches)
        self._move = move
        self._digests: list[bytes] = []
        self.count = 0
        for inputs, targets in self._pairs():
            numbers = count_of(inputs, "inputs"), count_of(targets, "targets")
            if numbers[0] != numbers[1]:
                raise InputError(f"a batch needs as many targets as inputs: {numbers[0]}, {numbers[1]}")
            if coupled is not None and self.count % coupled:
                raise InputError(
                    f"coupled={coupled} needs batches of a multiple of {coupled} examples (but for the last one): "
                    f"{self.count} examples come before batch {len(self._digests)}"
                )
            self.count += numbers[0]
            self._digests.append(_digest(inputs, targets))
        if self.count == 0:
            raise InputError("need at least one example; the data have none")

    def _pairs(self) -> Iterator[tuple[Tree, Tree]]:
        for batch in _begin(self._batches):
            if not isinstance(batch, list | tuple) or len(batch) != 2:
                raise InputError(
                    f"each batch must be a pair (inputs, targets), not {type(batch).__name__}; wrap the data in "
                    "something that yields pairs, such as a DataLoader with a collate_fn"
                )
            yield batch[0], batch[1]

    def pieces(self, size: int) -> Iterator[tuple[Tree, Tree]]:
        """(inputs, targets) of at most `size` examples, batch after batch.

        Raises:
            InputError: A batch differs from that of the first pass.
        """
        number = 0
        for inputs, targets in self._pairs():
            if number >= len(self._digests) or _digest(inputs, targets) != self._digests[number]:
                raise InputError(
                    f"the data changed between two passes (batch {number}): an Objective needs the same examples in "
                    "the same order each time; switch off shuffling and random augmentation"
                )
            number += 1
            inputs, targets = map_tree(self._move, inputs), map_tree(self._move, targets)
            yield from zip(_pieces(inputs, size), _pieces(targets, size), strict=True)
        if number != len(self._digests):
            raise InputError(
                f"the data ended early: {number} of {len(self._digests)} batches; an Objective reads them in every "
                "pass and needs an iterable that starts again each time"
            )

    @property
    def room(self) -> int:
        """N, because the lengths are unknown."""
        return self.count

    def in_own_order(self, outputs: Tensor) -> Tensor:
        """The rows unchanged, in the order of the batches."""
        return outputs

    def head(self, count: int) -> tuple[Tree, Tree]:
        """The first `count` examples of the first batch."""
        inputs, targets = next(iter(self._pairs()))
        return (
            map_tree(lambda t: self._move(t[:count]), inputs),
            map_tree(lambda t: self._move(t[:count]), targets),
        )

    def take(self, indices: Tensor) -> Examples:
        """Always refused, because a stream has no random access.

        Raises:
            InputError: Always.
        """
        raise InputError("indices need data in memory: give the Objective tensors rather than a stream of batches")


def _flat(indices: Any) -> Any:
    """Indices that select examples and leave every other dimension as it is: a slice or indices [B].

    Raises:
        InputError: They are not.
    """
    if isinstance(indices, list | range):  # torch takes a list of tensors for an index of each dimension
        indices = torch.as_tensor(indices, dtype=None if indices else torch.int64)
    if isinstance(indices, slice) or getattr(indices, "ndim", None) == 1:
        return indices
    found = f"of shape {list(indices.shape)}" if hasattr(indices, "shape") else repr(indices)
    raise InputError(
        f"indices must be one-dimensional, a tensor [B] or a slice, not {found}: give torch.tensor([i]) for one example"
    )


def open_data(
    inputs: Any,
    targets: Any,
    move: Callable[[Tensor], Tensor],
    chunk_size: int | None,
    lengths: Any,
    coupled: int | None = None,
) -> Examples | Stream:
    """The data behind the arguments of an `Objective`.

    Raises:
        InputError: They are neither trees of tensors nor a stream, or `lengths` or `coupled` do not fit them.
    """
    if targets is not None:
        if isinstance(inputs, DataLoader | Dataset):
            raise InputError(f"a {type(inputs).__name__} contains its own targets: leave `targets` out")
        return Examples(inputs, targets, move) if lengths is None else Padded(inputs, targets, move, lengths)
    if lengths is not None:
        raise InputError("lengths need data in memory; a stream of batches must cut its own padding")
    if isinstance(inputs, IterableDataset) and not isinstance(inputs, DataLoader):
        raise InputError("wrap the IterableDataset in a DataLoader, which makes batches of its examples")
    if isinstance(inputs, Dataset):
        inputs = DataLoader(inputs, batch_size=coupled or chunk_size or _DATASET_BATCH)  # in order
    if isinstance(inputs, Tensor | Mapping) or not isinstance(inputs, Iterable):
        raise InputError(
            f"targets are missing: {type(inputs).__name__} is not a DataLoader, Dataset or other re-iterable of "
            "(inputs, targets)"
        )
    return Stream(inputs, move, coupled)


def _begin(batches: Iterable[Any]) -> Iterator[Any]:
    state = torch.get_rng_state()
    begun = iter(batches)  # a DataLoader draws a seed here
    torch.set_rng_state(state)
    return begun


def _checked(batches: Iterable[Any]) -> Iterable[Any]:
    if _begin(batches) is batches:
        raise InputError(
            f"a {type(batches).__name__} can be read only once: give a list of batches, a DataLoader, or an object "
            "whose __iter__ starts again each time"
        )
    if isinstance(batches, DataLoader):
        samplers = batches.sampler, getattr(batches.batch_sampler, "sampler", None)
        if any(isinstance(s, RandomSampler) or getattr(s, "shuffle", False) is True for s in samplers):
            raise InputError("the DataLoader shuffles; an Objective needs a fixed order: make one with shuffle=False")
    return batches


def _digest(*trees: Tree) -> bytes:
    """A short digest of all tensors' contents and shapes."""
    found = hashlib.blake2b(digest_size=16)
    for tensor in tensors_of(list(trees)):
        flat = tensor.detach().cpu().contiguous()
        found.update(f"{tuple(flat.shape)}{flat.dtype}".encode())
        if flat.numel():
            found.update(flat.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.digest()
