"""Writes data sets as files of the results."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from analysis.data import load
from analysis.store.netcdf import write_dataset


def write_subsets(outputs: Iterable[str | Path]) -> None:
    """Writes data sets as netCDF, from the folder in the environment variable DATA_DIR or from the default folder.

    Args:
        outputs: paths, each named `<name>-<8 hex of its content's hash>.nc`; The name determines the content, so
            the folder is not a parameter of the workflow.

    Raises:
        InputError: as for `load`, or an output cannot be written.
    """
    folder = os.environ.get("DATA_DIR") or None
    for output in map(Path, outputs):
        write_dataset(load(output.stem.rpartition("-")[0], folder), output)
