"""MNIST from its IDX files, in torchvision's layout: `MNIST/raw/`, unpacked or as `.gz`."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import xarray as xr

from analysis.data import fetch
from analysis.data.catalogue import Description
from analysis.data.dataset import Pixels, image_dataset
from sharpflat.errors import InputError

LAYOUT = "MNIST/raw"
PREFIX = {"train": "train", "test": "t10k"}
PUBLISHED = {"train": 60000, "test": 10000}
MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist/"
# MD5 of the published .gz files, as torchvision has them.
MD5 = {
    "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
}
_IMAGES_MAGIC, _LABELS_MAGIC = 2051, 2049


def load(entry: Description, *, data_dir: Path, download: bool) -> xr.Dataset:
    """The first `entry.examples` images of a split.

    Raises:
        InputError: the data are missing and unavailable, truncated, not IDX, or have another checksum.
    """
    raw = data_dir / LAYOUT
    names = [f"{PREFIX[entry.split]}-{part}-ubyte" for part in ("images-idx3", "labels-idx1")]
    downloaded = fetch.obtain(
        entry,
        data_dir,
        files=[f"{LAYOUT}/{name}" for name in MD5],
        present=lambda: all(_path(raw, name).is_file() for name in names),
        get=_get,
        urls=[f"{MIRROR}{name}.gz" for name in names],
        download=download,
        check=lambda path: _items(path, _header(path.name.removesuffix(".gz"), entry)),
    )
    images, labels = (_path(raw, name) for name in names)
    pixels, classes = _items(images, _header(names[0], entry)), _items(labels, _header(names[1], entry))
    return image_dataset(
        entry,
        pixels[: entry.examples],
        classes[: entry.examples],
        source="download" if downloaded else f"files in {LAYOUT}",
        where=f"{images}, {labels.name}",
        advice="Remove these files; the next run downloads them again.",
    )


def _header(name: str, entry: Description) -> tuple[int, ...]:
    """The header of a published file: magic number, count, shape of an item."""
    split, part, _ = name.split("-", 2)
    count = next(PUBLISHED[known] for known, prefix in PREFIX.items() if prefix == split)
    return (_IMAGES_MAGIC, count, *entry.shape) if part == "images" else (_LABELS_MAGIC, count)


def _path(raw: Path, name: str) -> Path:
    """The unpacked file if it exists, otherwise the packed one."""
    return raw / name if (raw / name).is_file() else raw / f"{name}.gz"


def _items(path: Path, header: tuple[int, ...]) -> Pixels:
    """The items of an IDX file whose header must be `header`: magic number, count, shape of an item."""
    prefix = struct.pack(f">{len(header)}I", *header)
    expected = len(prefix) + int(np.prod(header[1:]))
    content = _read(path, expected + 1)
    if len(content) != expected:
        problem, more = ("cut short", "") if len(content) < expected else ("too long", " or more")
        packed = " unpacked" if path.suffix == ".gz" else ""
        raise InputError(
            f"{path}: {problem}. Found {len(content):,} bytes{more}{packed}, expected {expected:,}. "
            "Remove the file; the next run downloads it again."
        )
    if not content.startswith(prefix):
        raise InputError(
            f"{path}: not the IDX file of this name: it starts with {content[: len(prefix)].hex()}, "
            f"expected {prefix.hex()}. Remove the file; the next run downloads it again."
        )
    return np.frombuffer(content, dtype=np.uint8, offset=len(prefix)).reshape(header[1:])


def _read(path: Path, most: int) -> bytes:
    """The first unpacked bytes. The number is limited, because a small file can unpack to more than fits in memory."""
    content = bytearray()
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            while chunk := file.read(min(1 << 20, most - len(content))):
                content += chunk
    except EOFError:
        pass  # the caller compares sizes
    except (gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}: damaged ({error}). Remove the file; the next run downloads it again.") from error
    return bytes(content)


def _get(folder: Path) -> None:
    """Downloads all four files unpacked to `folder / LAYOUT`. It does not use torchvision, which retries without
    TLS."""
    for name, md5 in MD5.items():
        packed = folder / LAYOUT / f"{name}.gz"
        fetch.retrieve(f"{MIRROR}{packed.name}", known_hash=f"md5:{md5}", path=packed)
        packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
