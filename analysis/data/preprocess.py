"""Converts datasets to tensors: scaled images, token ids, labels, the first n examples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr

from analysis.data.pixel_statistics import pixel_statistics
from sharpflat.errors import InputError

SCALINGS = ("unit", "channel", "pixel", "pixel-all")
PADDING, UNKNOWN = 0, 1
_SPECIAL = ("<padding>", "<unknown>")


def first(ds: xr.Dataset, examples: int) -> xr.Dataset:
    """The first examples, with a title that says so; the dataset itself if it has exactly that many.

    The subset may lack classes. The attribute `missing_classes` then lists their numbers. The attribute `sha256` stays
    that of the whole set, which together with `first` identifies the subset.

    Raises:
        InputError: the number is less than one, or larger than the number of examples.
    """
    total = ds.sizes["example"]
    if not 1 <= examples <= total:
        raise InputError(
            f"{ds.attrs['title']} ({ds.attrs['name']}): {examples:,} examples were requested, "
            f"but it has {total:,}. Allowed: 1 to {total:,}."
        )
    subset = ds.isel(example=slice(None, examples)).copy(deep=True)
    if examples < total:
        subset.attrs["title"] = f"{ds.attrs['title']}, first {examples:,}"
        subset.attrs["first"] = examples
    present = set(np.unique(subset["labels"].values).tolist())
    missing = [str(label) for label in range(int(ds.attrs["classes"])) if label not in present]
    if missing:
        subset.attrs["missing_classes"] = ", ".join(missing)
    return subset


def label_tensor(ds: xr.Dataset) -> torch.Tensor:
    """Labels as int64 [N]."""
    return torch.from_numpy(ds["labels"].values.astype(np.int64))


def side_tensor(ds: xr.Dataset, dtype: torch.dtype) -> torch.Tensor:
    """A toy's sides +1 and −1 as [N, 1].

    Raises:
        InputError: the data are images or text instead of sides.
    """
    if "sides" not in ds:
        raise InputError(f"{ds.attrs['name']} holds no sides: a toy cannot read it.")
    return torch.from_numpy(ds["sides"].values).to(dtype)[:, None]


def image_tensors(
    train: xr.Dataset, test: xr.Dataset, scaling: str, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """The images of both splits, with the same scaling.

    Args:
        train: image dataset with N examples. Only this split gives the statistics, except with "pixel-all".
        test: image dataset with M examples of the same shape.
        scaling: "unit" scales to [0, 1]. "channel" subtracts the channel's mean and divides by its standard deviation.
            "pixel" does this for each pixel of each channel. "pixel-all" does the same with the statistics of all
            images of the collection from which the training split is taken. Constant pixels become 0 in both splits.
        dtype: floating-point type of the result.

    Returns:
        [N, C, H, W] and [M, C, H, W]; C = 1 for MNIST.

    Raises:
        InputError: the scaling is unknown, the data are text, the splits have different shapes, or "pixel-all" is used
            with a data set for which the project has no statistics.
    """
    if scaling not in SCALINGS:
        raise InputError(f'Unknown image scaling "{scaling}". Allowed: {", ".join(SCALINGS)}.')
    train_pixels, test_pixels = _pixels(train), _pixels(test)
    if train_pixels.shape[1:] != test_pixels.shape[1:]:
        raise InputError(
            f"{train.attrs['name']} has images of shape {train_pixels.shape[1:]}, "
            f"{test.attrs['name']} of shape {test_pixels.shape[1:]}: they are no splits of one data set."
        )
    if scaling == "unit":
        # The division gives exactly 1 for white. Multiplying by 1/255 might not.
        train_inputs, test_inputs = (torch.from_numpy(p).to(dtype) / 255 for p in (train_pixels, test_pixels))
        return train_inputs, test_inputs
    if scaling == "pixel-all":
        mean, factor = _of_collection(train)
    else:
        mean, factor = _standardisation(train_pixels, (0, 2, 3) if scaling == "channel" else (0,))
    shift, scale = torch.from_numpy(mean).to(dtype), torch.from_numpy(factor).to(dtype)
    train_inputs, test_inputs = (
        torch.from_numpy(p).to(dtype).sub_(shift).mul_(scale) for p in (train_pixels, test_pixels)
    )
    return train_inputs, test_inputs


def _pixels(ds: xr.Dataset) -> np.ndarray:
    """uint8 [N, C, H, W]."""
    if "inputs" not in ds:
        raise InputError(f"{ds.attrs['name']} holds text, not images: a model for images cannot read it.")
    values = ds["inputs"].values
    return values if values.ndim == 4 else values[:, None]


def _of_collection(ds: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Mean and 1/deviation [1, C, H, W] of pixels 0 to 255, over the whole collection; 0 where constant."""
    if not ds.attrs.get("collection"):
        raise InputError(f"{ds.attrs['name']}: no statistics of its whole collection, for the scaling pixel-all")
    mean, deviation = (255 * values[None] for values in pixel_statistics(ds.attrs["collection"]))
    return mean, np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 0)


def _standardisation(pixels: np.ndarray, axes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and 1/deviation (0 where constant) over `axes`, float64, with `axes` kept as 1.

    Sums of integers are exact, so they do not depend on the order of summation, and "constant" does not depend on
    rounding.
    """
    count = int(np.prod([pixels.shape[axis] for axis in axes]))
    squares = np.square(np.arange(256, dtype=np.uint32))[pixels]
    total = pixels.sum(axis=axes, dtype=np.int64, keepdims=True).astype(object)  # Python's integers
    total_squares = squares.sum(axis=axes, dtype=np.int64, keepdims=True).astype(object)
    spread = np.asarray(count * total_squares - total * total, dtype=np.float64)  # count² × variance
    mean = np.asarray(total / count, dtype=np.float64)
    deviation = np.sqrt(spread) / count
    return mean, np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 0)


def token_tensors(
    train: xr.Dataset, test: xr.Dataset, max_length: int
) -> tuple[torch.Tensor, torch.Tensor, tuple[str, ...]]:
    """Sentences of both splits as word ids, padded at the end to `max_length`.

    Words are separated by whitespace. 0 is padding, and 1 is an unknown word. The words of the training split follow in
    order of first appearance. Longer test sentences are cut.

    Args:
        train: text dataset with N examples. Only this split gives the vocabulary.
        test: text dataset with M examples.
        max_length: words per sentence, T.

    Returns:
        int64 [N, T], int64 [M, T], and the vocabulary, which has the word of each id, "<padding>" and "<unknown>"
        first.

    Raises:
        InputError: a training sentence has more than `max_length` words, or the data are images.
    """
    train_words, test_words = _words(train), _words(test)
    _check_longest(train, max(len(words) for words in train_words), max_length, "words")
    ids: dict[str, int] = {}
    for words in train_words:
        for word in words:
            ids.setdefault(word, len(_SPECIAL) + len(ids))
    return (
        _ids(train_words, ids, max_length),
        _ids(test_words, ids, max_length),
        (*_SPECIAL, *ids),
    )


def id_tensors(train: xr.Dataset, test: xr.Dataset, max_length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The ids of both splits, padded or cut to `max_length` positions.

    Args:
        train: id dataset with N examples.
        test: id dataset with M examples. Longer sentences are cut.
        max_length: positions per sentence, T.

    Returns:
        int64 [N, T] and [M, T].

    Raises:
        InputError: a training sentence has more than `max_length` ids, or the splits have different vocabularies.
    """
    if train.attrs["vocabulary"] != test.attrs.get("vocabulary"):
        raise InputError(f"{train.attrs['name']} and {test.attrs['name']} are ids of different vocabularies.")
    longest = int((train["ids"].values != PADDING).any(axis=0).nonzero()[0].max()) + 1
    _check_longest(train, longest, max_length, "ids")
    tables = []
    for ds in (train, test):
        ids = torch.from_numpy(ds["ids"].values.astype(np.int64))[:, :max_length]
        tables.append(torch.nn.functional.pad(ids, (0, max_length - ids.shape[1]), value=PADDING))
    return tables[0], tables[1]


def _check_longest(train: xr.Dataset, longest: int, max_length: int, unit: str) -> None:
    if longest > max_length:
        raise InputError(
            f"{train.attrs['title']} ({train.attrs['name']}) has a sentence of {longest} {unit}, "
            f"more than max_length = {max_length}. Allowed: max_length of at least {longest}."
        )


def _words(ds: xr.Dataset) -> list[list[str]]:
    if "sentences" not in ds:
        raise InputError(f"{ds.attrs['name']} holds images, not text: a model for text cannot read it.")
    return [str(sentence).split() for sentence in ds["sentences"].values]


def _ids(sentences: Sequence[Sequence[str]], ids: dict[str, int], max_length: int) -> torch.Tensor:
    table = torch.full((len(sentences), max_length), PADDING, dtype=torch.int64)
    for row, words in enumerate(sentences):
        kept = [ids.get(word, UNKNOWN) for word in words[:max_length]]
        table[row, : len(kept)] = torch.tensor(kept, dtype=torch.int64)
    return table
