"""Records of what plainly named results were made from, and of their bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from analysis.plan.names import canonical
from analysis.plan.plan import Planned
from analysis.store.atomic import write_text
from sharpflat.errors import InputError


@contextmanager
def recorded(params: Sequence[str], records: Sequence[str], files: Sequence[str]) -> Iterator[None]:
    """Around the making of results: each has at most one record `<name>-<8 hex>.json`, and only once it is made.

    Args:
        params: what each result is made from (`Planned.params`).
        records: the file of each (`Planned.record`); other records of the same name go before anything is made.
        files: all that is made (`Planned.files` of each, together).

    Raises:
        InputError: if the folder or the disk does not take a record.
    """
    paths = [Path(record) for record in records]
    for path in paths:
        for old in path.parent.glob(f"{_name(path)}-????????.json"):
            old.unlink()
    yield
    for made_from, path in zip(params, paths, strict=True):
        results = path.parent.parent
        own = {f.relative_to(results).as_posix(): f for f in map(Path, files) if f.stem == _name(path)}
        write_text(_record(made_from, own), path)


def is_made(planned: Planned, results: Path) -> bool:
    """Whether there is a record that says that the result was made from just this, and has these bytes."""
    try:
        found = (results / planned.record).read_text(encoding="utf-8")
        return found == _record(planned.params, {file: results / file for file in planned.files})
    except (OSError, ValueError):
        return False


def check(record: Path) -> None:
    """The result's files are those that were recorded.

    Raises:
        InputError: if one is missing or its bytes are others, or the record is damaged.
    """
    try:
        recorded = json.loads(record.read_text(encoding="utf-8"))["sha256"].items()
    except (OSError, ValueError, LookupError, AttributeError, TypeError) as error:
        raise InputError(f"{record}: is no readable record ({error}); delete it and run again") from error
    for file, expected in recorded:
        path = record.parent.parent / file
        try:
            found = _sha256(path)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); run again") from error
        if found != expected:
            raise InputError(f"{path}: has SHA-256 {found}, not the one of its record, {record}; run again")


def _name(record: Path) -> str:
    return record.stem.rpartition("-")[0]


def _record(params: str, files: Mapping[str, Path]) -> str:
    hashes = {file: _sha256(path) for file, path in files.items()}
    return canonical({"made_from": json.loads(params), "sha256": hashes})


def _sha256(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()
