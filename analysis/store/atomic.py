"""Writes files that are complete under their final name."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError

from sharpflat.errors import InputError


def write_text(text: str, path: Path) -> None:
    """Writes `text` atomically as UTF-8, with unchanged line ends.

    Raises:
        InputError: it cannot be written.
    """
    write_atomically(path, lambda target: target.write_bytes(text.encode()))


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Calls `write` to fill a temporary file in the same folder, and then moves it to `path`.

    Raises:
        InputError: it cannot be written.
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
            f"{path}: cannot be written ({error}); the folder must exist, be writable and have free space"
        ) from error
    finally:
        with suppress(OSError):  # the first error, not this one, is reported
            temporary.unlink(missing_ok=True)
