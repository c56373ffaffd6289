"""The two "examples" of a two-dimensional toy: the signs +1 and −1 of the noise in their losses.

Training and test set at once; what an example's loss is, `analysis.toys` says.
"""

from __future__ import annotations

from pathlib import Path

import xarray as xr

from analysis.data.catalogue import Description
from analysis.data.dataset import toy_dataset

SIDES = (1, -1)


def load(entry: Description, *, data_dir: Path, download: bool) -> xr.Dataset:
    """The two sides; `data_dir` and `download` are not needed.

    Raises:
        InputError: the module gave other sides than it should.
    """
    return toy_dataset(
        entry,
        SIDES,
        source="generated",
        where="analysis/data/two_sides.py",
        advice="Restore the module.",
    )
