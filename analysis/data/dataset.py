"""Makes checked datasets from raw arrays: canonical bytes, their checksum, the schema."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from analysis.data.catalogue import Description
from analysis.store.words import CONVENTIONS, Words, describe
from sharpflat.errors import InputError

Pixels = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]

_IMAGE_DIMS = {2: ("row", "column"), 3: ("channel", "row", "column")}
WORDS = {
    "inputs": Words("pixels", "brightness of each pixel from 0 to 255, the first row on top"),
    "sentences": Words("sentences", "words with spaces between them", units=""),
    "ids": Words("token ids", "number of each piece of a word in the vocabulary; 0: padding"),
    "sides": Words("sides", "+1 or -1: the side of the toy that the example is on"),
    "labels": Words("labels", "number of the class of each example, from 0"),
}


def image_sha256(inputs: Pixels, labels: Pixels) -> str:
    """SHA-256 of uint8 pixels [N, ...] in C order followed by uint8 labels [N]."""
    digest = hashlib.sha256(np.ascontiguousarray(inputs, dtype=np.uint8).tobytes())
    digest.update(np.ascontiguousarray(labels, dtype=np.uint8).tobytes())
    return digest.hexdigest()


def text_sha256(sentences: Sequence[str], labels: Sequence[int]) -> str:
    """SHA-256 of the lines `label<TAB>sentence`, joined by newlines, in UTF-8."""
    lines = (f"{label}\t{sentence}" for label, sentence in zip(labels, sentences, strict=True))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def id_sha256(ids: np.ndarray, labels: Pixels) -> str:
    """SHA-256 of int64 ids [N, T] in C order followed by uint8 labels [N]."""
    return hashlib.sha256(ids.astype("<i8").tobytes() + labels.astype(np.uint8).tobytes()).hexdigest()


def toy_sha256(sides: Sequence[int], labels: Sequence[int]) -> str:
    """SHA-256 of int8 sides [N] followed by uint8 labels [N]."""
    return hashlib.sha256(np.array(sides, np.int8).tobytes() + np.array(labels, np.uint8).tobytes()).hexdigest()


def image_dataset(
    entry: Description, inputs: Pixels, labels: Pixels, *, source: str, where: str, advice: str
) -> xr.Dataset:
    """The dataset of an image collection, after its bytes are checked.

    Args:
        entry: the entry in the catalogue.
        inputs: uint8 [N, *entry.shape].
        labels: uint8 [N].
        source: where the bytes came from, without a path, for the attributes.
        where: the file or files that were read, for the error message.
        advice: what to do if the bytes are wrong, for the error message.

    Raises:
        InputError: the bytes do not have the catalogue's checksum.
    """
    _refuse_wrong(entry, image_sha256(inputs, labels), where, advice)
    dims = ("example", *_IMAGE_DIMS[len(entry.shape)])
    # Copies: a view would keep a whole file in memory, and torch warns of read-only arrays.
    return _described(
        entry,
        source,
        {"inputs": (dims, np.array(inputs, order="C")), "labels": ("example", np.array(labels, order="C"))},
    )


def text_dataset(
    entry: Description,
    sentences: Sequence[str],
    labels: Sequence[int],
    *,
    source: str,
    where: str,
    advice: str,
) -> xr.Dataset:
    """The dataset of a text collection, after its bytes are checked.

    Arguments and errors are as for `image_dataset`, with N sentences and N labels.
    """
    _refuse_wrong(entry, text_sha256(sentences, labels), where, advice)
    strings = np.array(list(sentences), dtype=str)  # what xarray reads netCDF's strings as
    return _described(
        entry,
        source,
        {"sentences": ("example", strings), "labels": ("example", np.array(labels, dtype=np.uint8))},
    )


def id_dataset(
    entry: Description, ids: np.ndarray, labels: Pixels, vocabulary: int, *, source: str, where: str, advice: str
) -> xr.Dataset:
    """The dataset of a text collection as ids below `vocabulary`.

    Arguments and errors are as for `image_dataset`, with ids [N, T] that are padded with 0.
    """
    _refuse_wrong(entry, id_sha256(ids, labels), where, advice)
    described = _described(
        entry,
        source,
        {"ids": (("example", "position"), ids.astype(np.int32)), "labels": ("example", labels.astype(np.uint8))},
    )
    return described.assign_attrs(vocabulary=vocabulary)


def toy_dataset(entry: Description, sides: Sequence[int], *, source: str, where: str, advice: str) -> xr.Dataset:
    """The dataset of a toy, with a side +1 or −1 for each example, all of one class.

    Arguments and errors are as for `image_dataset`, with N sides.
    """
    labels = [0] * len(sides)
    _refuse_wrong(entry, toy_sha256(sides, labels), where, advice)
    return _described(
        entry,
        source,
        {"sides": ("example", np.array(sides, dtype=np.int8)), "labels": ("example", np.array(labels, dtype=np.uint8))},
    )


def _described(entry: Description, source: str, variables: Mapping[str, Any]) -> xr.Dataset:
    attributes = {
        "Conventions": CONVENTIONS,
        "name": entry.name,
        "title": entry.title,
        "sha256": entry.sha256,
        "source": source,
        "synthetic": int(entry.synthetic),  # netCDF attributes have no booleans
        "classes": entry.classes,
    }
    if entry.collection:
        attributes["collection"] = entry.collection
    return describe(xr.Dataset(variables, attrs=attributes), {name: WORDS[name] for name in variables})


def _refuse_wrong(entry: Description, found: str, where: str, advice: str) -> None:
    if found != entry.sha256:
        raise InputError(
            f"{where}: not the data of {entry.title} ({entry.name}).\n"
            f"  SHA-256 found:    {found}\n"
            f"  SHA-256 expected: {entry.sha256}\n"
            f"  {advice}"
        )
