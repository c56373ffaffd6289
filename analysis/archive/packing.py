"""Filling an archive."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from analysis.archive.checks import check_name, describe
from analysis.archive.manifest import MANIFEST, Claim, Figure, Manifest, read_archive, stored, write_manifest
from analysis.plan.outputs import datasets_of
from analysis.plan.plan import Plan, panel_paths
from sharpflat.errors import InputError

NOT_RUN = "not run"
WasRun = Callable[[str], bool]  # whether a dataset, relative to the results, is there
Kept = Mapping[tuple[str, str], dict[str, Any]]  # (figure or claim, setting) -> panel that is archived


def pack(plan: Plan, results: Path, archive: Path) -> Manifest:
    """Copy what the plan's figures and claims are made from, as far as it was run, and write the manifest.

    So parts can be run one after the other, on several machines, or by later code, which names segments anew: what an
    archive has of a figure or claim in one setting stays there until the present plan's was run in full.

    Raises:
        InputError: if nothing was run; if a dataset or the archive is damaged, or a dataset not what its name says; if
            the folder is not writable.
    """

    def source(file: str) -> Path:
        return next((folder / file for folder in (results, archive) if (folder / file).is_file()), archive / file)

    def was_run(file: str) -> bool:
        return source(file).is_file()

    kept = _panels(read_archive(archive)) if (archive / MANIFEST).is_file() else {}
    figures = [_figure(json.loads(planned.params), was_run, kept) for planned in plan.figures.values()]
    claims = [Claim.model_validate(_made(claim, was_run, kept)) for claim in json.loads(plan.claims.params)["claims"]]
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
        raise InputError(f"{results}: holds no dataset of profile {plan.profile}; run it first (make reproduce)")
    manifest = manifest.model_copy(update={"datasets": datasets, "environments": environments})
    try:
        for file in datasets:
            if source(file) != archive / file:
                (archive / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source(file), archive / file)
        for old in set(stored(archive)) - set(datasets):
            (archive / old).unlink()
    except OSError as error:
        raise InputError(f"{archive}: cannot be written ({error}); it must be writable and have room") from error
    write_manifest(manifest, archive)
    return manifest


def _panels(manifest: Manifest) -> Kept:
    made: list[Claim] = [*manifest.figures, *manifest.claims]
    return {(m.name, panel.setting): panel.model_dump(exclude_none=True) for m in made for panel in m.panels}


def _figure(figure: Mapping[str, Any], was_run: WasRun, kept: Kept) -> Figure:
    own = {
        "name": figure["name"],
        "module": figure["module"].rpartition(".")[2].replace("_", "-"),
        "caption": figure["caption"],
    }
    return Figure.model_validate({**_made(figure, was_run, kept), **own})


def _made(made: Mapping[str, Any], was_run: WasRun, kept: Kept) -> dict[str, Any]:
    """A figure's or claim's name, panels and absent settings, as far as they were run."""
    panels, absent = [], dict(made["absent"])
    for planned in made["panels"]:
        panel = _run_of_panel(planned, was_run)
        if panel is None or "absent" in panel:
            panel = kept.get((made["name"], planned["setting"]), panel)
        if panel is None:
            absent[planned["setting"]] = NOT_RUN
        else:
            panels.append(panel)
    return {"name": made["name"], "panels": tuple(panels), "absent": absent}


def _run_of_panel(panel: Mapping[str, Any], was_run: WasRun) -> dict[str, Any] | None:
    """The panel with those members of its families that were run; None if a run, or a whole family, was not."""

    def ran(path: list[str]) -> bool:
        return all(map(was_run, datasets_of([{**panel, "runs": [["", path]], "families": []}])))

    families = [[label, [m for m in members if ran(m[1])]] for label, members in panel["families"]]
    if not all(ran(path) for _, path in panel["runs"]) or not all(members for _, members in families):
        return None
    found = {**panel, "families": families}
    absent = [
        ", ".join([label, *(f"{name} {value:g}" for name, value in varied.items())])
        for label, members in panel["families"]
        for varied, path in members
        if not ran(path)
    ]
    if absent:
        found["absent"] = absent
    if "energies" in panel:
        ids = {i for path in panel_paths(found) for i in path}
        found["energies"] = {i: energies for i, energies in panel["energies"].items() if i in ids}
    return found
