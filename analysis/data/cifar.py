"""CIFAR-10 from its published binary version, or from the Python version that torchvision keeps.

The binary version is preferred, and only this version is downloaded, because torchvision's CIFAR10 unpickles its
download and this project does not load pickles. The one exception is a Python version that already exists. Its file is
read only after its published MD5 is confirmed, with an unpickler that accepts only numpy arrays.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import xarray as xr

from analysis.data import fetch
from analysis.data.catalogue import Description
from analysis.data.dataset import Pixels, image_dataset
from sharpflat.errors import InputError

BINARY = "cifar-10-batches-bin"
PYTHON = "cifar-10-batches-py"
BATCH = {"train": "data_batch_1", "test": "test_batch"}
RECORDS = 10000
URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
# Of the Python version's files, as torchvision has them.
PYTHON_MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
_ADVICE = "Remove this file; the next run downloads the data again."


def load(entry: Description, *, data_dir: Path, download: bool) -> xr.Dataset:
    """The first `entry.examples` images of the first training batch, or of the test batch.

    Raises:
        InputError: the data are missing and unavailable, truncated, or have another checksum.
    """
    batch = BATCH[entry.split]
    binary, python = data_dir / BINARY / f"{batch}.bin", data_dir / PYTHON / batch
    downloaded = fetch.obtain(
        entry,
        data_dir,
        files=[f"{BINARY}/{name}.bin" for name in BATCH.values()],
        present=lambda: binary.is_file() or python.is_file(),
        get=_get,
        urls=[URL],
        download=download,
        check=lambda path: _read_binary(path, entry.shape),
    )
    if binary.is_file():
        path, layout = binary, BINARY
        pixels, labels = _read_binary(binary, entry.shape)
    else:
        path, layout = python, PYTHON
        pixels, labels = _read_python(python, entry.shape)
    return image_dataset(
        entry,
        pixels[: entry.examples],
        labels[: entry.examples],
        source="download" if downloaded else f"files in {layout}",
        where=str(path),
        advice=_ADVICE,
    )


def _read_binary(path: Path, shape: tuple[int, ...]) -> tuple[Pixels, Pixels]:
    """Records of one label byte and the pixels, red, green and blue plane, row by row."""
    record = 1 + int(np.prod(shape))
    size, expected = path.stat().st_size, RECORDS * record
    if size != expected:
        problem = "cut short" if size < expected else "too long"
        raise InputError(f"{path}: {problem}. Found {size:,} bytes, expected {expected:,}. {_ADVICE}")
    records = np.frombuffer(path.read_bytes(), dtype=np.uint8).reshape(RECORDS, record)
    return records[:, 1:].reshape(RECORDS, *shape), records[:, 0]


def _read_python(path: Path, shape: tuple[int, ...]) -> tuple[Pixels, Pixels]:
    content = path.read_bytes()
    found, expected = hashlib.md5(content, usedforsecurity=False).hexdigest(), PYTHON_MD5[path.name]
    if found != expected:
        raise InputError(
            f"{path}: not the published file, or cut short ({len(content):,} bytes). It was not opened.\n"
            f"  MD5 found:    {found}\n  MD5 expected: {expected}\n  {_ADVICE}"
        )
    try:
        batch = _ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()
        data, labels = np.asarray(batch["data"]), np.asarray(batch["labels"], dtype=np.uint8)
        return data.astype(np.uint8, casting="equiv").reshape(-1, *shape), labels
    except (pickle.UnpicklingError, EOFError, LookupError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a batch of CIFAR-10 images ({error}). {_ADVICE}") from error


class _ArrayUnpickler(pickle.Unpickler):
    """An unpickler that accepts only the parts of a numpy array."""

    # numpy's module is `numpy.core` in files written before numpy 2, which these are.
    _ALLOWED = frozenset(
        {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("_codecs", "encode"),
        }
    )

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed")
        return cast(Callable[..., Any], super().find_class(module.replace("numpy.core", "numpy._core"), name))


def _get(folder: Path) -> None:
    archive = folder / "cifar-10-binary.tar.gz"
    fetch.retrieve(URL, known_hash=f"sha256:{SHA256}", path=archive)
    fetch.unpack(archive, [f"{BINARY}/{name}.bin" for name in BATCH.values()], folder)
