"""The two "examples" of a two-dimensional toy: the signs +1 and −1 of the noise in their losses.

They are both the training and the test set. `analysis.toys` defines the loss of an example.
"""

from __future__ import annotations

from pathlib import Path

import xarray as xr

from analysis.data.catalogue import Description
from analysis.data.dataset import toy_dataset

SIDES = (1, -1)


def load(entry: Description, *, data_dir: Path, download: bool) -> xr.Dataset:
    """The two sides. `data_dir` and `download` are not used.

    Raises:
        InputError: the module gave wrong sides.
    """
    return toy_dataset(
        entry,
        SIDES,
        source="generated",
        where="analysis/data/two_sides.py",
        advice="Restore the module.",
    )
