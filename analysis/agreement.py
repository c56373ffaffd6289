"""Whether a run agrees with the archived one: verdicts, and where curves diverge from those of the archive.

It is not in `analysis.archive`, because planning imports that package, which must not import heavy libraries.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from analysis.archive import MANIFEST, REFERENCE, Manifest, read_archive
from analysis.claims import verdicts_of
from analysis.runs.panels import by_name
from analysis.specs.panels import ClaimSpec, PanelSpec, ReportSpec
from analysis.store.netcdf import read_dataset
from sharpflat.errors import InputError

# Relative difference in float32. Rounding is 6e-8 at each operation. Runs that are not chaotic, with sums in another
# order, differed by up to 1.1e-5 within 300 steps (docs/determinism.md, "Threads"), and usually by 1e-7.
ROUNDING = 1e-5
SMALL = 1e-3  # of a curve's median size; smaller values are compared as if they had that size
# The compared quantities, which a rounding error changes by about its own size. Residuals, standard errors, accuracies
# (which change by a whole example) and quotients of small numbers are left out.
CURVES = (
    *("loss", "gradient_norm", "distance", "test_loss", "eigenvalues", "alignment"),
    *("energy_dominant", "energy_total", "fraction_dominant"),
    *("between", "first", "second"),
)
_DECIDES = ("problem", "rule", "filter", "seed", "stop")  # parts of a segment's specification


@dataclass(frozen=True)
class Departure:
    """The point at which a dataset diverges from the archived one.

    Attributes:
        step: the first step at which a curve differs beyond rounding.
        variable: the name of that curve.
        largest: the largest relative difference of any curve at any step.
    """

    step: int
    variable: str
    largest: float


@dataclass(frozen=True)
class ComparedRun:
    """One run of the plan, compared with the archived one.

    Attributes:
        setting, label, varied: its name in figures and claims.
        departure: the departure of its first dataset that diverges from the archived one; None if none does.
        largest: the largest relative difference of any curve at any step.
        otherwise: whether it was configured differently, so that its numbers are not compared.
    """

    setting: str
    label: str
    varied: tuple[tuple[str, float], ...]
    departure: Departure | None
    largest: float
    otherwise: bool = False

    @property
    def name(self) -> str:
        numbers = ", ".join(f"{name} {value:g}" for name, value in self.varied)
        return f"{self.setting}: {self.label}" + (f" ({numbers})" if numbers else "")


@dataclass(frozen=True)
class ComparedVerdict:
    """One claim in one setting: the verdicts and measurements here and in the archive."""

    claim: str
    setting: str
    own: tuple[str, str]
    archived: tuple[str, str]

    @property
    def agrees(self) -> bool:
        return self.own[0] == self.archived[0]

    @cached_property
    def difference(self) -> float:
        """The largest relative difference of the measured numbers; infinite if their numbers differ."""
        one, other = ([float(n.replace("−", "-").replace(",", "")) for n in _NUMBER.findall(m[1])] for m in self._both)
        if len(one) != len(other):
            return np.inf
        return max((abs(a - b) / max(abs(a), abs(b)) for a, b in zip(one, other, strict=True) if a != b), default=0.0)

    @property
    def by(self) -> str:
        """How much the measured numbers differ, in words."""
        return f"{self.difference:.2%}" if np.isfinite(self.difference) else "in what was measured"

    @property
    def _both(self) -> tuple[tuple[str, str], tuple[str, str]]:
        return self.own, self.archived


_NUMBER = re.compile(r"(?<![\w.])[-−]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")


@dataclass(frozen=True)
class Agreement:
    """A run compared with the archived one.

    Attributes:
        profile: the profile of both.
        verdicts: the verdicts that both have.
        runs: the runs that both have, without repetitions.
        alone: number of runs without a counterpart, or that do not exist yet.
    """

    profile: str
    verdicts: tuple[ComparedVerdict, ...]
    runs: tuple[ComparedRun, ...]
    alone: int

    @property
    def departed(self) -> tuple[ComparedRun, ...]:
        """Runs that differ beyond rounding, in the order of the steps at which they diverge."""
        found = [run for run in self.runs if run.departure is not None and not run.otherwise]
        return tuple(sorted(found, key=lambda run: (run.departure.step if run.departure else 0, run.name)))

    @property
    def otherwise(self) -> tuple[ComparedRun, ...]:
        """Runs whose configuration differs from that of the archived ones."""
        return tuple(run for run in self.runs if run.otherwise)

    @property
    def other_verdicts(self) -> tuple[ComparedVerdict, ...]:
        """Verdicts that do not agree."""
        return tuple(verdict for verdict in self.verdicts if not verdict.agrees)

    @property
    def other_numbers(self) -> tuple[ComparedVerdict, ...]:
        """Verdicts that agree but have different numbers."""
        return tuple(v for v in self.verdicts if v.agrees and v.own[1] != v.archived[1])

    def in_one_line(self) -> str:
        """The line at the end of `make reproduce`."""
        agree = len(self.verdicts) - len(self.other_verdicts)
        compared = [run for run in self.runs if not run.otherwise]
        text = f"agrees with the archived run: {agree} of {len(self.verdicts)} verdicts; "
        if not self.departed:
            text += f"all {len(compared)} runs within rounding"
        else:
            first = min(run.departure.step for run in self.departed if run.departure)
            text += f"{len(self.departed)} of {len(compared)} runs differ beyond rounding, first at step {first:,}"
        if self.otherwise:
            text += f"; {len(self.otherwise)} configured otherwise"
        return f"{text}: see make agree"

    def lines(self) -> Iterator[str]:
        """The whole comparison as text."""
        yield f"{self.profile}: {self.in_one_line().removesuffix(': see make agree')}."
        yield f"Beyond rounding: a relative difference above {ROUNDING:g}. What to expect: docs/determinism.md."
        if self.other_verdicts:
            yield "\nVerdicts that differ"
            for verdict in self.other_verdicts:
                yield f"  {verdict.claim}, {verdict.setting}: {verdict.own[0]} ({verdict.own[1]})"
                yield f"    archived: {verdict.archived[0]} ({verdict.archived[1]})"
        if self.other_numbers:
            yield "\nNumbers that differ, of verdicts that agree"
            for verdict in self.other_numbers:
                yield f"  {verdict.claim}, {verdict.setting}, by {verdict.by}: {verdict.own[1]}"
                yield f"    archived: {verdict.archived[1]}"
        if self.departed:
            yield "\nRuns that differ beyond rounding: the first step, its curve, the largest relative difference"
            for run in self.departed:
                if run.departure is not None:
                    yield f"  {run.departure.step:>7,}  {run.departure.variable:<17} {run.largest:8.1e}  {run.name}"
        if self.otherwise:
            yield "\nRuns that are configured otherwise than the archived ones"
            yield from (f"  {run.name}" for run in self.otherwise)
        if self.alone:
            yield f"\n{self.alone} runs are not compared: they are not there yet, or not archived."


def for_report(report: ReportSpec, results: Path) -> Agreement | str | None:
    """The comparison with the archived run for a run's own report, or the reason why they cannot be compared.

    It is None if nothing is archived. It is also None for a report made from the archive, whose bytes are the same on
    every machine.
    """
    archive = results.parent / REFERENCE / report.profile
    if report.base or not (archive / MANIFEST).is_file():
        return None
    try:
        return agree(report, results, read_archive(archive), archive)
    except InputError as error:
        return str(error)


def agree(report: ReportSpec, results: Path, manifest: Manifest, archive: Path) -> Agreement:
    """Compares the runs of a report with the archived ones of the same profile. It writes nothing.

    Runs are matched by their names in figures and claims (setting, label and the numbers in which they vary), since
    their ids differ if other code made the archive.

    Raises:
        InputError: nothing was run, or a dataset or the verdicts are damaged.
    """
    seen: dict[tuple[str, str], tuple[Departure | None, float, bool]] = {}
    read_archived = cache(read_dataset)  # the verdicts need the same datasets again

    def compared(own: str, archived: str) -> tuple[Departure | None, float, bool]:
        if (own, archived) not in seen:
            seen[own, archived] = _compare(read_dataset(results / own), read_archived(archive / archived))
        return seen[own, archived]

    runs: dict[tuple[object, ...], ComparedRun] = {}
    alone: set[tuple[object, ...]] = set()
    known = _panels(manifest)
    for key, panel in _panels(report).items():
        for name, files in _files(panel).items():
            other = _files(known[key]).get(name, ()) if key in known else ()
            label, varied = name
            run = (panel.setting, label, varied, files)
            there = all((results / file).is_file() for file in files)
            if not other or len(other) != len(files) or not there:
                alone.add(run[:3])
                continue
            if run in runs:
                continue
            found = [compared(*pair) for pair in zip(files, other, strict=True)]
            left = [departure for departure, _, _ in found if departure is not None]
            runs[run] = ComparedRun(
                panel.setting,
                label,
                varied,
                min(left, key=lambda departure: departure.step, default=None),
                max((largest for _, largest, _ in found), default=0.0),
                any(otherwise for _, _, otherwise in found),
            )
    alone -= {run[:3] for run in runs}
    if not runs:
        raise InputError(
            f"{results}: holds no run that is archived in {archive}; run the profile first (make reproduce)"
        )
    verdicts = _verdicts(results, manifest, archive, read_archived)
    return Agreement(report.profile, verdicts, tuple(runs.values()), len(alone))


def _panels(shown: Manifest | ReportSpec) -> dict[tuple[str, str, str], PanelSpec]:
    """The panels by kind, since a figure and a claim may share a name, and by name and setting."""
    kinds: dict[str, Sequence[ClaimSpec]] = {"figure": shown.figures, "claim": shown.claims}
    return {(kind, one.name, p.setting): p for kind, specs in kinds.items() for one in specs for p in one.panels}


def _files(panel: PanelSpec) -> dict[tuple[str, tuple[tuple[str, float], ...]], tuple[str, ...]]:
    """The datasets of each run, by its label and its varied numbers. A dataset of two runs together belongs to both."""
    found = {}
    for label, varied, path in panel.members():
        files = [f"segments/{segment}/trajectory.nc" for segment in path]
        if panel.energies:
            files += [f"energies/{panel.energies[segment]}.nc" for segment in path]
        if panel.distances:
            files.append(f"distances/{panel.distances}.nc")
        found[label, tuple(sorted(varied.items()))] = tuple(files)
    return found


def _verdicts(
    results: Path, manifest: Manifest, archive: Path, read: Callable[[Path], xr.Dataset]
) -> tuple[ComparedVerdict, ...]:
    path = results / "claims.json"
    if not path.is_file():
        return ()
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        own = {(row["claim"], row["setting"]): (row["verdict"], row["measured"]) for row in rows}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); make reproduce makes it again") from error
    datasets = by_name(str(archive / file) for claim in manifest.claims for p in claim.panels for file in p.datasets())
    judged = verdicts_of(manifest.claims, {name: read(path) for name, path in datasets.items()})
    archived = {(v.claim, v.setting): (v.verdict, v.measured) for v in judged}
    return tuple(ComparedVerdict(*key, own[key], archived[key]) for key in own if key in archived)


def _compare(own: xr.Dataset, archived: xr.Dataset) -> tuple[Departure | None, float, bool]:
    """The departure of one dataset from the other, the largest relative difference, and whether the configurations
    differ."""
    one, other = (json.loads(dataset.attrs["specification"]) for dataset in (own, archived))
    if any(_differ(one, other, part) for part in _DECIDES):
        return None, 0.0, True
    first, largest = None, 0.0
    for name in CURVES:
        if name not in own or name not in archived:
            continue
        steps, differences = _differences(own[name], archived[name])
        largest = max(largest, float(differences.max(initial=0.0)))
        beyond = steps[differences > ROUNDING]
        if len(beyond) and (first is None or int(beyond[0]) < first[0]):
            first = int(beyond[0]), name
    return Departure(*first, largest) if first is not None else None, largest, False


def _differ(one: Mapping[str, Any], other: Mapping[str, Any], part: str) -> bool:
    return part in one and part in other and one[part] != other[part]


def _differences(own: xr.DataArray, archived: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    """The steps in order, and the relative difference at each. It is infinite if only one was measured or is finite."""
    dimension = str(own.dims[0])
    one, other = (_rows(curve, dimension) for curve in (own, archived))
    steps = sorted(one.keys() | other.keys())
    sizes = [np.abs(row[np.isfinite(row)]).max(initial=0.0) for row in one.values()]
    least = SMALL * float(np.median(sizes)) if sizes else 0.0
    found = []
    for step in steps:
        a, b = one.get(step), other.get(step)
        if a is None or b is None or a.shape != b.shape or (np.isfinite(a) != np.isfinite(b)).any():
            found.append(np.inf)
            continue
        finite = np.isfinite(a)
        a, b = a[finite], b[finite]
        size = max(np.abs(a).max(initial=0.0), np.abs(b).max(initial=0.0), least)
        found.append(float(np.abs(a - b).max(initial=0.0)) / size if size else 0.0)
    return np.array(steps, dtype=np.int64), np.array(found)


def _rows(curve: xr.DataArray, dimension: str) -> dict[int, np.ndarray]:
    values = np.asarray(curve.values, dtype=np.float64).reshape(curve.sizes[dimension], int(np.prod(curve.shape[1:])))
    return dict(zip(curve[dimension].values.tolist(), values, strict=True))
