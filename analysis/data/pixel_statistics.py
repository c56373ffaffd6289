"""Mean and deviation of each pixel over a whole published training split, for use with its subsets.

`cifar10-pixel-statistics.npz` holds `mean` and `std` (float64 [3, 32, 32], population deviation) of all 50,000
training images of CIFAR-10, divided by 255. The files of a subset do not contain these images, so the project includes
the numbers. `tests/unit/test_data_preprocess.py` recomputes them if all five batches are in the data directory.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sharpflat.errors import InputError

# SHA-256 of the bytes of `mean`, and then of `std`.
SHA256 = {"cifar10": "f53dc42d7014b236db401785e3a9f4b79b4b92ef4c259b8bbe9a10bf4697fc85"}


def pixel_statistics(collection: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean and population deviation of each pixel of images in [0, 1], each of the shape of an image.

    Raises:
        InputError: the file is not the one that came with the project.
    """
    path = Path(__file__).with_name(f"{collection}-pixel-statistics.npz")
    with np.load(path, allow_pickle=False) as file:
        mean, deviation = file["mean"], file["std"]
    if hashlib.sha256(mean.tobytes() + deviation.tobytes()).hexdigest() != SHA256[collection]:
        raise InputError(f"{path}: not the file that came with the project. Restore it from the repository.")
    return mean, deviation
