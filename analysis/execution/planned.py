"""Whether the code that a job runs is the code that its plan was made with."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.plan.fingerprint import ROOT, reread
from analysis.plan.outputs import code_of
from analysis.plan.plan import Drawn, PlannedDistances, PlannedEnergies, PlannedSegment
from sharpflat.errors import InputError

_CHECKED: set[tuple[str, str]] = set()  # by kind: this process has imported that code


def check_code(planned: Sequence[PlannedSegment | PlannedEnergies | PlannedDistances | Drawn]) -> None:
    """The fingerprint of the code as it is on the disk now, which is imported next, is the planned one.

    Without this check, what is edited while a run waits for its turn would make results under the name of other code.

    Raises:
        InputError: if not.
    """
    new = [one for one in planned if (type(one).__name__, one.fingerprint) not in _CHECKED]
    if new:
        reread()
    for one in new:
        try:
            found = code_of(one)
        except KeyError as error:  # a module or a definition that is gone
            found = str(error)
        if found != one.fingerprint:
            name = one.name if isinstance(one, Drawn) else one.id
            raise InputError(
                f"{name}: the code in {ROOT} is not the code that this run was planned with. If it was edited "
                "meanwhile, give the same command again: it plans with the present code"
            )
        _CHECKED.add((type(one).__name__, one.fingerprint))
