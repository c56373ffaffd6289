"""Checks that the files of a run have not changed since they were written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from analysis.archive.checks import check_name, describe
from analysis.execution.records import check
from analysis.store.netcdf import read_dataset
from analysis.store.tensors import read_tensors
from sharpflat.errors import InputError


@dataclass(frozen=True)
class Soundness:
    """The number of intact files of a run, and one line for each file that is not."""

    sound: int
    problems: tuple[str, ...]


def check_results(results: Path) -> Soundness:
    """Checks every file in the results of a profile, whether it is still in the plan or not.

    A dataset must end with its SHA-256 and have the name that follows from its specification and code. A state must
    contain its SHA-256. A drawn file must have the bytes of its record.
    """
    checks: list[tuple[str, Callable[[Path], object]]] = [
        ("data/*.nc", read_dataset),
        *((f"{folder}/*.nc", _Dataset(results, read_dataset)) for folder in ("segments/*", "energies", "distances")),
        ("segments/*/*.safetensors", read_tensors),
        ("checkpoints/*.safetensors", read_tensors),
        ("made-from/*.json", check),
    ]
    sound, problems = 0, []
    for pattern, look in checks:
        for path in sorted(results.glob(pattern)):
            try:
                look(path)
                sound += 1
            except InputError as error:
                problems.append(str(error))
    return Soundness(sound, tuple(problems))


class _Dataset:
    """Reads a dataset whose name hashes what determined it."""

    def __init__(self, results: Path, read: Callable[[Path], object]) -> None:
        self._results, self._read = results, read

    def __call__(self, path: Path) -> None:
        self._read(path)
        entry, _ = describe(path)
        check_name(path.relative_to(self._results).as_posix(), entry, path)
