"""Fills an archive."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from analysis.archive.checks import check_name, describe
from analysis.archive.manifest import MANIFEST, Manifest, read_archive, stored, write_manifest
from analysis.plan.plan import Plan
from analysis.specs.panels import ClaimSpec, FigureSpec, Ids, PanelSpec
from sharpflat.errors import InputError

NOT_RUN = "not run"
Spec = TypeVar("Spec", FigureSpec, ClaimSpec)
WasRun = Callable[[str], bool]  # whether a dataset, relative to the results, is there
Kept = Mapping[tuple[str, str], PanelSpec]  # (figure or claim, setting) -> panel that is archived


def pack(plan: Plan, results: Path, archive: Path) -> Manifest:
    """Copies the existing datasets from which the plan's figures and claims are made, and writes the manifest.

    So parts can be run one after the other, on several machines, or by later code, which gives segments new names. The
    archived datasets of a figure or claim in one setting stay until as many of its runs in the current plan exist.

    Raises:
        InputError: nothing was run, a dataset or the archive is damaged, a dataset does not match its name, or the
            folder is not writable.
    """

    def source(file: str) -> Path:
        return next((folder / file for folder in (results, archive) if (folder / file).is_file()), archive / file)

    def was_run(file: str) -> bool:
        return source(file).is_file()

    archived = read_archive(archive) if (archive / MANIFEST).is_file() else None
    of_figures = _panels(archived.figures if archived else ())
    of_claims = _panels(archived.claims if archived else ())
    figures = [_as_run(planned.spec, was_run, of_figures) for planned in plan.figures.values()]
    claims = [_as_run(claim, was_run, of_claims) for claim in plan.claims.claims]
    manifest = Manifest(
        profile=plan.profile,
        title=plan.title,
        complete=all(was_run(file) for file in plan.datasets),
        figures=tuple(figure for figure in figures if figure.panels),
        claims=tuple(claims),
        datasets={},
        environments={},
        outputs={},
        made_with={},
    )
    datasets, environments = {}, {}
    for file in manifest.plan().datasets:
        datasets[file], environment = describe(source(file))
        check_name(file, datasets[file], source(file))
        environments[datasets[file].environment] = environment
    if not datasets:
        raise InputError(
            f"{results}: holds no dataset of profile {plan.profile}; run the profile first (make reproduce)"
        )
    manifest = manifest.model_copy(update={"datasets": datasets, "environments": environments})
    try:
        for file in datasets:
            if source(file) != archive / file:
                (archive / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source(file), archive / file)
        for old in set(stored(archive)) - set(datasets):
            (archive / old).unlink()
    except OSError as error:
        raise InputError(f"{archive}: cannot be written ({error}); it must be writable and have free space") from error
    write_manifest(manifest, archive)
    return manifest


def _panels(shown: Sequence[ClaimSpec]) -> Kept:
    """The panels of figures or of claims. (One of each may share a name.)"""
    return {(one.name, panel.setting): panel for one in shown for panel in one.panels}


def _as_run(spec: Spec, was_run: WasRun, kept: Kept) -> Spec:
    """A figure or claim with the panels that were run or are archived. Its other settings are absent."""
    panels, absent = [], dict(spec.absent)
    for planned in spec.panels:
        panel = _run_of_panel(planned, was_run, partial=isinstance(spec, FigureSpec) and bool(spec.partial))
        old = kept.get((spec.name, planned.setting))
        if old is not None and (panel is None or _counts(old) - _counts(panel)):
            panel = old.model_copy(update={"absent": _lacking(planned, old)})
        if panel is None:
            absent[planned.setting] = NOT_RUN
        else:
            panels.append(panel)
    return spec.model_copy(update={"panels": tuple(panels), "absent": dict(sorted(absent.items()))})


def _counts(panel: PanelSpec) -> Counter[str]:
    """The number of runs of each label."""
    return Counter(run.label for run in panel.members())


def _lacking(planned: PanelSpec, kept: PanelSpec) -> tuple[str, ...] | None:
    """The planned runs that a kept panel lacks. (Where it has one run, the plan may have a family since.)"""
    families, runs = dict(kept.families), dict(kept.runs)
    absent = [label for label, _ in planned.runs if label not in runs and label not in families]
    for label, members in planned.families:
        if label in families:
            there = [varied for varied, _ in families[label]]
            absent += [_named(label, varied) for varied, _ in members if varied not in there]
        elif label in runs and len(members) > 1:
            absent.append(f"{label}, {len(members) - 1} of {len(members)}")
    return tuple(absent) or None


def _named(label: str, varied: Mapping[str, float]) -> str:
    return ", ".join([label, *(f"{name} {value:g}" for name, value in varied.items())])


def _run_of_panel(panel: PanelSpec, was_run: WasRun, *, partial: bool = False) -> PanelSpec | None:
    """The panel with those members of its families, and if it may be `partial` those single runs, that were run.

    It is None if another run or a whole family is missing, or if nothing was run.
    """

    def ran(path: Ids) -> bool:
        alone = panel.model_copy(update={"runs": (("", path),), "families": ()})
        return all(map(was_run, alone.datasets()))

    families = tuple((label, tuple(m for m in members if ran(m[1]))) for label, members in panel.families)
    runs = tuple((label, path) for label, path in panel.runs if ran(path))
    if (runs != panel.runs and not partial) or not all(members for _, members in families) or not (runs or families):
        return None
    absent = tuple(_named(run.label, run.varied) for run in panel.members() if not ran(run.path))
    panel = panel.model_copy(update={"runs": runs, "families": families, "absent": absent or None})
    if panel.energies is not None:
        ids = {segment for path in panel.paths() for segment in path}
        energies = {segment: name for segment, name in panel.energies.items() if segment in ids}
        panel = panel.model_copy(update={"energies": energies})
    return panel
