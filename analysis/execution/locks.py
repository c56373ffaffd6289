"""Locks on files: they end with the process that holds them, however it ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from sharpflat.errors import InputError


def take(path: Path) -> int | None:
    """Lock a file, which is made if it is not there.

    Returns:
        The open file that holds the lock, until it is closed or the process ends; None if another holds it.

    Raises:
        InputError: if the file cannot be made or locked.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return None
    except OSError as error:
        raise InputError(f"{path}: cannot be locked ({error.strerror}); the folder must be writable.") from error
    return file


def only_pipeline(path: Path) -> int:
    """Be the only one that holds this lock of a folder's pipelines; returns the open file.

    Raises:
        InputError: if another is, with its process; or as `take`.
    """
    file = take(path)
    if file is None:
        holder = path.read_text().strip() or "unknown"
        raise InputError(f"another pipeline runs in this folder (process {holder}). Wait for its end, or stop it.")
    os.truncate(file, 0)
    os.write(file, str(os.getpid()).encode())
    return file
