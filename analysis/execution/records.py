"""Records of the sources and the bytes of results whose names have no hash."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from analysis.plan.names import canonical
from analysis.plan.plan import Drawn, Plan
from analysis.store.atomic import write_text
from sharpflat.errors import InputError


@contextmanager
def recorded(drawn: Sequence[Drawn], records: Sequence[str], files: Sequence[str]) -> Iterator[None]:
    """A context for making results. Each result has at most one record `<name>-<8 hex>.json`, and only after it is
    made.

    Args:
        drawn: the results.
        records: the file of each result's record. Other records of the same name are removed before anything is made.
        files: all files that are made.

    Raises:
        InputError: a record cannot be written.
    """
    paths = [Path(record) for record in records]
    for path in paths:
        for old in path.parent.glob(f"{_name(path)}-????????.json"):
            old.unlink()
    yield
    for one, path in zip(drawn, paths, strict=True):
        results = path.parent.parent
        own = {f.relative_to(results).as_posix(): f for f in map(Path, files) if f.stem == _name(path)}
        write_text(_record(one, own), path)


def is_made(drawn: Drawn, results: Path) -> bool:
    """Whether a record shows that the result was made from exactly this and has these bytes."""
    try:
        text = (results / drawn.record).read_text(encoding="utf-8")
        return text == _record(drawn, {file: results / file for file in drawn.files})
    except (OSError, ValueError):
        return False


def missing(plan: Plan, results: Path) -> set[str]:
    """Missing files of the plan, and the records of results that were made from something else or whose bytes
    differ. Both are relative to the results."""
    absent = {file for file in plan.files if not (results / file).exists()}
    return absent | {drawn.record for drawn in plan.drawn if not is_made(drawn, results)}


def remove_old_checkpoints(plan: Plan, results: Path) -> None:
    """Removes the checkpoints of finished segments, which are left if a job is killed between segments of its batch."""
    for segment in plan.segments.values():
        if all((results / file).exists() for file in segment.files):
            (results / "checkpoints" / f"{segment.id}.safetensors").unlink(missing_ok=True)


def check(record: Path) -> None:
    """Checks that the result's files are those that were recorded.

    Raises:
        InputError: a file is missing, its bytes differ, or the record is damaged.
    """
    try:
        recorded = json.loads(record.read_text(encoding="utf-8"))["sha256"].items()
    except (OSError, ValueError, LookupError, AttributeError, TypeError) as error:
        raise InputError(f"{record}: is not a readable record ({error}); delete it and run again") from error
    for file, expected in recorded:
        path = record.parent.parent / file
        try:
            actual = _sha256(path)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); run again") from error
        if actual != expected:
            raise InputError(f"{path}: has SHA-256 {actual}, which differs from its record, {record}; run again")


def _name(record: Path) -> str:
    return record.stem.rpartition("-")[0]


def _record(drawn: Drawn, files: Mapping[str, Path]) -> str:
    hashes = {file: _sha256(path) for file, path in files.items()}
    return canonical({"made_from": drawn.model_dump(), "sha256": hashes})


def _sha256(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()
