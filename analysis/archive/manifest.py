"""Reads and writes the manifest of an archive, which lists its contents."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import StringConstraints

from analysis.plan.fingerprint import keys
from analysis.plan.join import RESERVED
from analysis.plan.outputs import figure_modules, planned_claims, planned_figure, planned_report
from analysis.plan.plan import Plan
from analysis.plan.yaml import suggest, validate
from analysis.specs import Frozen
from analysis.specs.panels import ClaimSpec, FigureSpec, Label, Name
from analysis.store.atomic import write_text
from sharpflat.errors import InputError

REFERENCE, REDRAWN = RESERVED  # folders of archives, and of what is made from them, in the results
MANIFEST = "manifest.json"
_BATCH = 10  # figures that share a process

# These patterns ensure that no name in a manifest leads out of the archive.
DatasetFile = Annotated[
    str,
    StringConstraints(pattern=r"^(segments/[\w.-]*\w[\w.-]*/(trajectory|snapshots)|(energies|distances)/[\w.-]+)\.nc$"),
]
OutputFile = Annotated[
    str, StringConstraints(pattern=r"^(figures/[\w.-]+\.(pdf|png|csv)|claims\.(json|csv)|report\.html)$")
]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Entry(Frozen):
    """One dataset: its bytes and its attributes.

    Attributes:
        dataset: its schema.
        specification: SHA-256 of its canonical JSON.
        code: fingerprint of the code that made it.
        name: hash of specification and code, with which the id ends.
        environment: a key of the manifest's `environments`.
    """

    bytes: int
    sha256: Sha256
    dataset: str
    id: str
    specification: Sha256
    name: str
    code: str
    environment: str


class Manifest(Frozen):
    """The contents of an archive.

    Attributes:
        complete: whether it has everything that the profile's figures and claims need.
        figures, claims: what is made from the datasets. Parts that were not run are `absent`.
        environments: versions and machines of the runs.
        outputs: SHA-256 of everything that was made from the datasets; empty before that.
        made_with: versions with which the outputs were made.
    """

    schema_version: Literal["archive-1"] = "archive-1"
    profile: Name
    title: Label
    complete: bool
    figures: tuple[FigureSpec, ...]
    claims: tuple[ClaimSpec, ...]
    datasets: dict[DatasetFile, Entry]
    environments: dict[str, dict[str, Any]]
    outputs: dict[OutputFile, Sha256]
    made_with: dict[str, str]

    def plan(self) -> Plan:
        """The plan of what the current code makes from the archive."""
        figures = {figure.name: planned_figure(figure) for figure in self.figures}
        claims = planned_claims(self.claims)
        nothing: dict[Any, Any] = {}
        return Plan(
            profile=self.profile,
            title=self.title,
            batch_steps=1,
            batch_figures=_BATCH,
            segments=nothing,
            distances=nothing,
            energies=nothing,
            figures=figures,
            claims=claims,
            report=planned_report(
                self.profile, self.title, figures.values(), claims, f"../../{REFERENCE}/{self.profile}/"
            ),
            runs=nothing,
            families=nothing,
        )


def read_archive(archive: Path) -> Manifest:
    """The manifest, after checking that all datasets exist and have the recorded bytes.

    Raises:
        InputError: a file is wrong. The message names it and says what is wrong.
    """
    path = archive / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file; archived profiles: {_archived(archive.parent)}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    manifest = validate(content, Manifest, str(path))
    if manifest.profile != archive.name:
        raise InputError(f"{path}: profile: found {manifest.profile!r}; this folder is {archive.name}'s")
    for figure in manifest.figures:
        if figure.module not in (known := figure_modules()):
            hint = suggest(figure.module, known)
            raise InputError(f"{path}: figures: {figure.name}: unknown module {figure.module!r}{hint}")
    for claim in manifest.claims:
        if claim.name not in (known := keys("analysis.claims", "CLAIMS")):
            raise InputError(f"{path}: claims: unknown claim {claim.name!r}{suggest(claim.name, known)}")
    for file in manifest.plan().datasets:
        if file not in manifest.datasets:
            raise InputError(f"{path}: {file}: is needed, but not listed")
    for file, entry in manifest.datasets.items():
        try:
            found = hashlib.sha256((archive / file).read_bytes()).hexdigest()
        except OSError as error:
            raise InputError(f"{archive / file}: cannot be read ({error.strerror}); it is in the manifest") from error
        if found != entry.sha256:
            raise InputError(f"{archive / file}: has SHA-256 {found}; the manifest says {entry.sha256}")
    for file in stored(archive):
        if file not in manifest.datasets:
            raise InputError(f"{archive / file}: is not in the manifest, and an archive may contain only listed files")
    return manifest


def write_manifest(manifest: Manifest, archive: Path) -> None:
    """Writes the manifest.

    Raises:
        InputError: it cannot be written.
    """
    content = manifest.model_dump(exclude_none=True)
    write_text(json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n", archive / MANIFEST)


def stored(archive: Path) -> list[str]:
    """The datasets that exist."""
    return sorted(path.relative_to(archive).as_posix() for path in archive.rglob("*.nc"))


def _archived(folder: Path) -> str:
    return ", ".join(sorted(path.parent.name for path in folder.glob(f"*/{MANIFEST}"))) or "none"
