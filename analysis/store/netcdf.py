"""Stores xarray datasets as netCDF files that end with a seal."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import xarray as xr

from analysis.store.atomic import write_atomically
from analysis.store.filesystems import HDF5_LOCKS, file_system
from sharpflat.errors import InputError

PROVENANCE = "provenance"
_SEALED = "sealed"  # attribute of a netCDF file that ends with a seal; those archived before there were seals have none
_SEAL = b"\nSHA-256 of all before this line: "


def write_dataset(dataset: xr.Dataset, path: Path, provenance: Mapping[str, Any] | None = None) -> None:
    """Writes `dataset` compressed and atomically. `provenance` is added to that of this environment.

    The SHA-256 of its bytes follows after the end of the netCDF data, which readers of netCDF ignore.

    Raises:
        InputError: it cannot be written.
    """
    attributes = {
        **dataset.attrs,
        PROVENANCE: json.dumps({**environment(), **(provenance or {})}, sort_keys=True),
        _SEALED: "the file ends with the SHA-256 of its bytes",
    }
    encoding = {
        name: {"zlib": True, "complevel": 4, "shuffle": True}
        for name, variable in dataset.variables.items()
        if variable.dtype.kind in "fiub" and variable.size > 64
    }
    whole = dataset.assign_attrs(attributes)

    def write(target: Path) -> None:
        whole.to_netcdf(target, engine="netcdf4", encoding=encoding)
        seal = _seal(target.read_bytes())
        with target.open("ab") as file:
            file.write(seal)

    write_atomically(path, write)


def read_dataset(path: Path) -> xr.Dataset:
    """The whole dataset, in memory.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        sealed = _check_seal(path.read_bytes())  # first: what reads netCDF is not made for damaged files
        with xr.open_dataset(path, engine="netcdf4") as dataset:
            found = dataset.load()
        if found.attrs.pop(_SEALED, None) is not None and not sealed:
            raise ValueError("the SHA-256 at its end is missing")
        return found
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(_why_unreadable(path, error)) from error


def _why_unreadable(path: Path, error: Exception) -> str:
    """The message. It advises to delete a file only if its content is wrong, because otherwise the file is intact and
    the storage is at fault."""
    try:
        sealed = _check_seal(path.read_bytes())
    except IsADirectoryError:
        return f"{path}: is no readable netCDF file but a folder; move it away and run again"
    except OSError as reading:
        return f"{path}: cannot be read ({reading.strerror}); the file may be sound: keep it"
    except ValueError:
        sealed = False
    if not sealed:
        return f"{path}: is no readable netCDF file ({error}); delete it and run again"
    return (
        f"{path}: is sound (it has the SHA-256 at its end), but cannot be opened ({error}). If its file system "
        f"({file_system(path)}) has no locks, set {HDF5_LOCKS}=FALSE in the environment"
    )


def _seal(content: bytes) -> bytes:
    return _SEAL + sha256(content).hexdigest().encode() + b"\n"


def _check_seal(content: bytes) -> bool:
    """Whether the file ends with a seal. It raises ValueError if the seal does not fit the content."""
    size = len(_seal(b""))
    if not content[-size:].startswith(_SEAL):
        return False
    if content[-size:] != _seal(content[:-size]):
        raise ValueError("its bytes do not have the SHA-256 at its end")
    return True


def environment() -> dict[str, Any]:
    """Versions and machine for the provenance."""
    packages = ("torch", "numpy", "xarray", "netcdf4")
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        **{name: version(name) for name in packages},
    }
