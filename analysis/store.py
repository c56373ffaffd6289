"""Files between the stages: xarray datasets in netCDF and states in safetensors, always whole.

Everything is written under a temporary name in the same folder and moved into place (`os.replace`), so a file
under its final name is complete. What differs between two equal runs (versions, machine, times) stands in the
one attribute `provenance`.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr
from safetensors import SafetensorError, safe_open

from analysis.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

PROVENANCE = "provenance"
_METADATA = "metadata"


def write_dataset(dataset: xr.Dataset, path: Path, provenance: Mapping[str, Any] | None = None) -> None:
    """Write `dataset`, compressed, atomically; `provenance` is added to that of this environment.

    Raises:
        InputError: if the folder or the disk does not take it.
    """
    attributes = {
        **dataset.attrs,
        PROVENANCE: json.dumps({**environment(), **(provenance or {})}, sort_keys=True),
    }
    encoding = {
        name: {"zlib": True, "complevel": 4, "shuffle": True}
        for name, variable in dataset.variables.items()
        if variable.dtype.kind in "fiub" and variable.size > 64
    }
    whole = dataset.assign_attrs(attributes)
    write_atomically(path, lambda target: whole.to_netcdf(target, engine="netcdf4", encoding=encoding))


def read_dataset(path: Path) -> xr.Dataset:
    """The whole dataset, in memory.

    Raises:
        InputError: if the file is missing or damaged.
    """
    try:
        with xr.open_dataset(path, engine="netcdf4") as dataset:
            return dataset.load()
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"{path}: is no readable netCDF file ({error}); delete it and run again") from error


def write_tensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], path: Path) -> None:
    """Write tensors and JSON-able metadata atomically as safetensors.

    Raises:
        InputError: if the folder or the disk does not take it.
    """
    import torch  # here: it takes seconds, that data sets and figures need not wait for
    from safetensors.torch import save_file

    # Copies: safetensors refuses tensors that share memory, as a segment's start and its first θ do.
    contiguous = {
        name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    text = {_METADATA: json.dumps(metadata, sort_keys=True)}  # one entry: several would come in a random order
    write_atomically(path, lambda target: save_file(contiguous, target, metadata=text))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors (in memory of their own, aligned as torch's always are) and metadata that `write_tensors` wrote.

    Raises:
        InputError: if the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {}).get(_METADATA, "{}"))
            return {name: file.get_tensor(name).clone() for name in file.keys()}, metadata  # noqa: SIM118
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path}: is no readable safetensors file ({error}); delete it and run again") from error


def write_text(text: str, path: Path) -> None:
    """Write `text` as UTF-8, with line ends as they are, atomically.

    Raises:
        InputError: if the folder or the disk does not take it.
    """
    write_atomically(path, lambda target: target.write_bytes(text.encode()))


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Have `write` fill a temporary file beside `path`, then move it there.

    Raises:
        InputError: if the folder or the disk does not take it.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise InputError(
            f"{path}: cannot be written ({error}); the folder must exist, be writable and have room"
        ) from error
    finally:
        with suppress(OSError):  # of which the first error, not this one, tells
            temporary.unlink(missing_ok=True)


def environment() -> dict[str, Any]:
    """Versions and machine, for provenance."""
    packages = ("torch", "numpy", "xarray", "netcdf4")
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        **{name: version(name) for name in packages},
    }
