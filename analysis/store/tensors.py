"""Stores named tensors with metadata as safetensors files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from analysis.store.atomic import write_atomically
from sharpflat.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

_METADATA = "metadata"


def write_tensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], path: Path) -> None:
    """Writes tensors (on any device) and JSON-able metadata atomically as safetensors.

    Raises:
        InputError: it cannot be written.
    """
    import torch  # here: it takes seconds, that data sets and figures need not wait for
    from safetensors.torch import save_file

    # Copies: safetensors refuses tensors that share memory, as a segment's start and its first θ do.
    contiguous = {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    text = json.dumps(metadata, sort_keys=True)
    entry = {_METADATA: f"{_digest(contiguous, text)} {text}"}  # one entry, because several would have a random order
    write_atomically(path, lambda target: save_file(contiguous, target, metadata=entry))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and metadata that `write_tensors` wrote. The tensors are on the CPU, in separate memory that is
    aligned as torch's is.

    Raises:
        InputError: the file is missing or damaged.
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
        raise InputError(_why_unreadable(path, error)) from error


def _why_unreadable(path: Path, error: Exception) -> str:
    """The message. It advises to delete a file only if its content is wrong, because otherwise the file is intact and
    the storage is at fault."""
    from safetensors.torch import load

    try:
        content = path.read_bytes()
    except IsADirectoryError:
        return f"{path}: is no readable safetensors file but a folder; move it away and run again"
    except OSError as reading:
        return f"{path}: cannot be read ({reading.strerror}); the file may be sound: keep it"
    try:
        length = int.from_bytes(content[:8], "little")
        entry = json.loads(content[8 : 8 + length])["__metadata__"][_METADATA]
        digest, _, text = entry.partition(" ")
        sound = digest == _digest(load(content), text)
    except (SafetensorError, ValueError, LookupError, TypeError, AttributeError, OverflowError):
        sound = False
    if not sound:
        return f"{path}: is no readable safetensors file ({error}); delete it and run again"
    return f"{path}: is sound (it has the SHA-256 in its metadata), but cannot be opened ({error})"


def _digest(tensors: Mapping[str, Tensor], text: str) -> str:
    """SHA-256 of tensors with their names, types and shapes, and of the metadata."""
    digest = sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()
