"""Records of what plainly named results were made from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from analysis.store import write_text


@contextmanager
def recorded(params: Sequence[str], records: Sequence[str]) -> Iterator[None]:
    """Around the making of results: each has at most one record `<name>-<8 hex>.json`, and only once it is made.

    Args:
        params: what each result is made from (`Planned.params`).
        records: the file of each (`Planned.record`); other records of the same name go before anything is made.

    Raises:
        InputError: if the folder or the disk does not take a record.
    """
    paths = [Path(record) for record in records]
    for path in paths:
        for old in path.parent.glob(f"{path.stem.rpartition('-')[0]}-????????.json"):
            old.unlink()
    yield
    for made_from, path in zip(params, paths, strict=True):
        write_text(made_from, path)
