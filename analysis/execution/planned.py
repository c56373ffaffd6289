"""Checks that the code that a job runs is the code of its plan."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.plan.fingerprint import ROOT, reread
from analysis.plan.outputs import code_of
from analysis.plan.plan import Drawn, PlannedDistances, PlannedEnergies, PlannedSegment
from sharpflat.errors import InputError

_CHECKED: set[tuple[str, str]] = set()  # by kind, because this process has imported that code


def check_code(planned: Sequence[PlannedSegment | PlannedEnergies | PlannedDistances | Drawn]) -> None:
    """Checks that the current code on disk, which is imported next, has the planned fingerprint.

    Without this check, code that is edited during a run would make results under the name of other code.

    Raises:
        InputError: the fingerprints differ.
    """
    new = [one for one in planned if (type(one).__name__, one.fingerprint) not in _CHECKED]
    if new:
        reread()
    for one in new:
        try:
            found = code_of(one)
        except KeyError as error:  # a module or a definition that no longer exists
            found = str(error)
        if found != one.fingerprint:
            name = one.name if isinstance(one, Drawn) else one.id
            raise InputError(
                f"{name}: the code in {ROOT} is not the code with which this run was planned. If it was "
                "edited meanwhile, run the same command again: it plans with the current code"
            )
        _CHECKED.add((type(one).__name__, one.fingerprint))
