"""Files between the stages: xarray datasets in netCDF and states in safetensors, always whole.

Everything is written under a temporary name in the same folder and moved into place (`os.replace`), so a file
under its final name is complete. A SHA-256 goes with the content, and reading checks it: neither format has checksums
of its own for all that it holds, and a flipped bit would pass for a number. What differs between two equal runs
(versions, machine, times) stands in the one attribute `provenance`.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Mapping
from contextlib import suppress
from hashlib import sha256
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
_SEALED = "sealed"  # attribute of a netCDF file that ends with a seal; those archived before there were seals have none
_SEAL = b"\nSHA-256 of all before this line: "


def write_dataset(dataset: xr.Dataset, path: Path, provenance: Mapping[str, Any] | None = None) -> None:
    """Write `dataset`, compressed, atomically; `provenance` is added to that of this environment.

    After the netCDF file's own end, where readers of netCDF do not look, stands the SHA-256 of its bytes.

    Raises:
        InputError: if the folder or the disk does not take it.
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
        InputError: if the file is missing or damaged.
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
        raise InputError(f"{path}: is no readable netCDF file ({error}); delete it and run again") from error


def _seal(content: bytes) -> bytes:
    return _SEAL + sha256(content).hexdigest().encode() + b"\n"


def _check_seal(content: bytes) -> bool:
    """Whether the file ends with a seal; ValueError if it is another content's."""
    size = len(_seal(b""))
    if not content[-size:].startswith(_SEAL):
        return False
    if content[-size:] != _seal(content[:-size]):
        raise ValueError("its bytes do not have the SHA-256 at its end")
    return True


def write_tensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], path: Path) -> None:
    """Write tensors (of any device) and JSON-able metadata atomically as safetensors.

    Raises:
        InputError: if the folder or the disk does not take it.
    """
    import torch  # here: it takes seconds, that data sets and figures need not wait for
    from safetensors.torch import save_file

    # Copies: safetensors refuses tensors that share memory, as a segment's start and its first θ do.
    contiguous = {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    text = json.dumps(metadata, sort_keys=True)
    entry = {_METADATA: f"{_digest(contiguous, text)} {text}"}  # one entry: several would come in a random order
    write_atomically(path, lambda target: save_file(contiguous, target, metadata=entry))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata that `write_tensors` wrote; on the CPU, in memory of their own, aligned as torch's are.

    Raises:
        InputError: if the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            digest, _, text = (file.metadata() or {}).get(_METADATA, "").partition(" ")
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        if digest != _digest(tensors, text):
            raise ValueError("its content does not have the SHA-256 in its metadata")
        return tensors, json.loads(text)
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path}: is no readable safetensors file ({error}); delete it and run again") from error


def _digest(tensors: Mapping[str, Tensor], text: str) -> str:
    """SHA-256 of tensors with their names, types and shapes, and of the metadata."""
    digest = sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()


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
