"""Locks on files, which end with the process that holds them, however it ends."""

from __future__ import annotations

import fcntl
import os
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

from analysis.store.filesystems import NO_LOCKS, file_system
from sharpflat.errors import InputError

_HELD: dict[Path, int] = {}  # for the rest of this process


class NoLocks(InputError):
    """The file system has no locks."""


def take(path: Path) -> int | None:
    """Locks a file, which is created if it does not exist.

    Returns:
        The open file that holds the lock, until it is closed or the process ends; None if another holds it.

    Raises:
        NoLocks: the file system has no locks.
        InputError: the file cannot be created or locked.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise InputError(f"{path}: cannot be locked ({error.strerror}); the folder must be writable.") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(file)
        if isinstance(error, BlockingIOError):
            return None
        where = f"the file system ({file_system(path)})"
        if error.errno in NO_LOCKS:
            raise NoLocks(f"{path}: {where} has no locks ({error.strerror}).") from error
        raise InputError(f"{path}: {where} cannot lock it ({error.strerror}).") from error
    return file


def only_pipeline(path: Path) -> int:
    """Takes the lock of a folder's pipelines, which only one process can hold, and returns the open file.

    On a file system without locks, it locks a file in the folder for temporary files, which only this machine sees.

    Raises:
        InputError: another process holds the lock, which the message names; or as for `take`.
    """
    try:
        file = take(path)
    except NoLocks as error:
        path = on_this_machine(path)
        file = take(path)
        print(f"{error} Pipelines of other machines in this folder are not noticed: run one.", file=sys.stderr)
    if file is None:
        holder = path.read_text().strip() or "unknown"
        raise InputError(f"another pipeline runs in this folder (process {holder}). Wait until it ends, or stop it.")
    os.truncate(file, 0)
    os.write(file, str(os.getpid()).encode())
    return file


def hold(path: Path) -> None:
    """Takes the lock as `only_pipeline` does, for the rest of this process, which may hold it already.

    Raises:
        InputError: as for `only_pipeline`.
    """
    if path.resolve() not in _HELD:
        _HELD[path.resolve()] = only_pipeline(path)


def held_since(path: Path) -> float | None:
    """The start of the pipeline that holds this lock, as a file time; None if no pipeline holds it. It takes no
    lock."""
    import psutil  # type: ignore[import-untyped]  # here: a machine that only trains may lack it

    try:
        since, holder = path.stat().st_mtime, psutil.Process(int(path.read_text()))
        return since if holder.create_time() <= since + 1 else None  # another process may have its number by now
    except (OSError, ValueError, psutil.NoSuchProcess):
        return None


def on_this_machine(path: Path) -> Path:
    """The lock that replaces one on a file system without locks."""
    name = sha256(str(path.resolve()).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"sharp-and-flat-{os.getuid()}" / f"{name}.lock"
