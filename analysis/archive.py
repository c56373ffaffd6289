"""Archives: the datasets that a profile's figures and claims are made from, and a manifest that says what they are.

An archive is a folder: datasets as the pipeline wrote them, under the names that it gave them, and `manifest.json`.
What is made from them stands there too: figures can be redrawn when nothing else of a run is left, and by later code.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import StringConstraints

from analysis import config
from analysis.errors import InputError
from analysis.fingerprint import keys
from analysis.names import canonical, hash8
from analysis.planned import Plan, panel_paths
from analysis.specs import Frozen
from analysis.wanted import datasets_of, figure_modules, planned_claims, planned_figure, planned_report

REFERENCE, REDRAWN = "reference", "redrawn"  # folders of archives, and of what is made from them, in the results
MANIFEST = "manifest.json"
SCHEMAS = ("trajectory-2", "snapshots-1", "energies-1", "distances-1")  # that figures and claims can read
NOT_RUN = "not run"
_BATCH = 10  # figures that share a process
_MADE_WITH = ("matplotlib", "numpy", "pillow", "seaborn", "xarray")

_OF_ONE_RUN = ("fingerprint", "seconds", "chunk_halvings")  # the rest of a provenance is the environment
WasRun = Callable[[str], bool]  # whether a dataset, relative to the results, is there

# Patterns: nothing that a manifest names leads out of the archive.
DatasetFile = Annotated[
    str,
    StringConstraints(pattern=r"^(segments/[\w.-]*\w[\w.-]*/(trajectory|snapshots)|(energies|distances)/[\w.-]+)\.nc$"),
]
OutputFile = Annotated[
    str, StringConstraints(pattern=r"^(figures/[\w.-]+\.(pdf|png|csv)|claims\.(json|csv)|report\.html)$")
]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Entry(Frozen):
    """One dataset: its bytes, and what its attributes say.

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


class Figure(Frozen):
    """A figure or table as `analysis.wanted.planned_figure` takes it."""

    name: config.Name
    module: config.Name
    caption: str
    panels: tuple[dict[str, Any], ...]
    absent: dict[str, str]


class Claim(Frozen):
    """A claim as `analysis.wanted.planned_claims` takes it."""

    name: config.Name
    panels: tuple[dict[str, Any], ...]
    absent: dict[str, str]


class Manifest(Frozen):
    """What an archive holds.

    Attributes:
        complete: whether all is here that the profile's figures and claims need.
        figures, claims: what is made from the datasets; what was not run is `absent`.
        environments: versions and machines of the runs.
        outputs: SHA-256 of all that was made from the datasets; empty until it was.
        made_with: versions with which.
    """

    schema_version: Literal["archive-1"] = "archive-1"
    profile: config.Name
    title: config.Label
    complete: bool
    figures: tuple[Figure, ...]
    claims: tuple[Claim, ...]
    datasets: dict[DatasetFile, Entry]
    environments: dict[str, dict[str, Any]]
    outputs: dict[OutputFile, Sha256]
    made_with: dict[str, str]

    def plan(self) -> Plan:
        """What is made from the archive, by the present code."""
        figures = {figure.name: planned_figure(figure.model_dump()) for figure in self.figures}
        claims = planned_claims([claim.model_dump() for claim in self.claims])
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


# ---------------------------------------------------------------- packing
def pack(plan: Plan, results: Path, archive: Path) -> Manifest:
    """Copy what the plan's figures and claims are made from, as far as it was run, and write the manifest.

    What is in the archive already stays, if it is still needed; so parts can be run one after the other, or on several
    machines.

    Raises:
        InputError: if nothing was run; if what is archived would be lost, because the present code names it otherwise
            and not all was run anew; if a dataset is damaged or not what its name says, or the folder not writable.
    """

    def source(file: str) -> Path:
        return next((folder / file for folder in (results, archive) if (folder / file).is_file()), archive / file)

    def was_run(file: str) -> bool:
        return source(file).is_file()

    figures = [_run_of_figure(json.loads(planned.params), was_run) for planned in plan.figures.values()]
    claims = [Claim.model_validate(_run_of(claim, was_run)) for claim in json.loads(plan.claims.params)["claims"]]
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
        datasets[file], environment = _describe(source(file))
        _check_name(file, datasets[file], source(file))
        environments[datasets[file].environment] = environment
    if not datasets:
        raise InputError(f"{results}: holds no dataset of profile {plan.profile}; run it first (make reproduce)")
    manifest = manifest.model_copy(update={"datasets": datasets, "environments": environments})
    lost = [file for file in _stored(archive) if file not in datasets]
    if lost and not manifest.complete:
        raise InputError(
            f"{archive}: holds {len(lost)} datasets that profile {plan.profile} names otherwise now, or does not need "
            f"(such as {lost[0]}), and not all of the profile was run; move the folder away if they are to go"
        )
    try:
        for old in lost:
            (archive / old).unlink()
        for file in datasets:
            if source(file) != archive / file:
                (archive / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source(file), archive / file)
    except OSError as error:
        raise InputError(f"{archive}: cannot be written ({error}); it must be writable and have room") from error
    _write(manifest, archive)
    return manifest


def _run_of_figure(figure: Mapping[str, Any], was_run: WasRun) -> Figure:
    own = {
        "name": figure["name"],
        "module": figure["module"].rpartition(".")[2].replace("_", "-"),
        "caption": figure["caption"],
    }
    return Figure.model_validate({**_run_of(figure, was_run), **own})


def _run_of(made: Mapping[str, Any], was_run: WasRun) -> dict[str, Any]:
    """A figure's or claim's name, panels and absent settings, without what was not run."""
    panels, absent = [], dict(made["absent"])
    for panel in made["panels"]:
        kept = _run_of_panel(panel, was_run)
        if kept is None:
            absent[panel["setting"]] = NOT_RUN
        else:
            panels.append(kept)
    return {"name": made["name"], "panels": tuple(panels), "absent": absent}


def _run_of_panel(panel: Mapping[str, Any], was_run: WasRun) -> dict[str, Any] | None:
    """The panel with those members of its families that were run; None if a run, or a whole family, was not."""

    def ran(path: list[str]) -> bool:
        return all(map(was_run, datasets_of([{**panel, "runs": [["", path]], "families": []}])))

    families = [[label, [m for m in members if ran(m[1])]] for label, members in panel["families"]]
    if not all(ran(path) for _, path in panel["runs"]) or not all(members for _, members in families):
        return None
    kept = {**panel, "families": families}
    absent = [
        ", ".join([label, *(f"{name} {value:g}" for name, value in varied.items())])
        for label, members in panel["families"]
        for varied, path in members
        if not ran(path)
    ]
    if absent:
        kept["absent"] = absent
    if "energies" in panel:
        ids = {i for path in panel_paths(kept) for i in path}
        kept["energies"] = {i: energies for i, energies in panel["energies"].items() if i in ids}
    return kept


def _describe(path: Path) -> tuple[Entry, dict[str, Any]]:
    """A dataset's entry, and the environment it was made in."""
    import netCDF4  # here: planning does not wait for it

    try:
        with netCDF4.Dataset(path) as file:
            found = {name: file.getncattr(name) for name in ("schema", "id", "specification", "provenance")}
        content = path.read_bytes()
        provenance, specification = json.loads(found["provenance"]), json.loads(found["specification"])
        code = provenance["fingerprint"]
    except (OSError, AttributeError, KeyError, ValueError) as error:
        raise InputError(f"{path}: is no dataset of this pipeline ({error})") from error
    environment = {k: v for k, v in provenance.items() if k not in _OF_ONE_RUN}
    entry = Entry(
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        dataset=found["schema"],
        id=found["id"],
        specification=specification_hash(specification),
        name=hash8({"spec": specification, "fingerprint": code}),
        code=code,
        environment=hash8(environment),
    )
    return entry, environment


def _check_name(file: str, entry: Entry, path: Path) -> None:
    """What a dataset says of itself makes its name."""
    named = Path(file).parent.name if file.startswith("segments/") else Path(file).stem
    if entry.id != named:
        raise InputError(f"{path}: is dataset {entry.id}, not {named}")
    if not named.endswith(f"-{entry.name}"):
        raise InputError(f"{path}: its specification and code make the name …-{entry.name}, not {named}")


# ---------------------------------------------------------------- reading
def read_archive(archive: Path) -> Manifest:
    """The manifest, once all datasets are there with the bytes that it says.

    Raises:
        InputError: naming the file and what is wrong with it.
    """
    path = archive / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file; archived are: {_archived(archive.parent)}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    manifest = config.validate(content, Manifest, str(path))
    if manifest.profile != archive.name:
        raise InputError(f"{path}: profile: found {manifest.profile!r}; this folder is {archive.name}'s")
    for figure in manifest.figures:
        if figure.module not in (known := figure_modules()):
            hint = config.suggest(figure.module, known)
            raise InputError(f"{path}: figures: {figure.name}: unknown module {figure.module!r}{hint}")
    for claim in manifest.claims:
        if claim.name not in (known := keys("analysis.claims", "CLAIMS")):
            raise InputError(f"{path}: claims: unknown claim {claim.name!r}{config.suggest(claim.name, known)}")
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
    for file in _stored(archive):
        if file not in manifest.datasets:
            raise InputError(f"{archive / file}: is not in the manifest; nothing enters an archive unnoticed")
    return manifest


def verify(archive: Path) -> Manifest:
    """As `read_archive`, and each dataset is what the manifest and its own name say.

    Raises:
        InputError: naming the file and what is wrong with it.
    """
    manifest = read_archive(archive)
    for file, entry in manifest.datasets.items():
        found, environment = _describe(archive / file)
        for name in Entry.model_fields:
            if (own := getattr(found, name)) != (said := getattr(entry, name)):
                raise InputError(f"{archive / file}: {name} is {own}; the manifest says {said}")
        if manifest.environments.get(entry.environment) != environment:
            raise InputError(f"{archive / file}: environment {entry.environment} is not the one of the manifest")
        if entry.dataset not in SCHEMAS:
            raise InputError(f"{archive / file}: has schema {entry.dataset!r}; this version reads {', '.join(SCHEMAS)}")
        _check_name(file, entry, archive / file)
    return manifest


# ---------------------------------------------------------------- outputs
def record(archive: Path, made: Path, results: Path) -> Manifest:
    """Write the hashes of all that was made from the archive (below `made`) into its manifest.

    Raises:
        InputError: if something was not made, or differs from what the run itself left in `results`.
    """
    manifest = read_archive(archive)
    plan, outputs = manifest.plan(), {}
    for file in outputs_of(manifest):
        if (found := _sha256(made / file)) is None:
            raise InputError(f"{made / file}: is missing; it is made from {archive}")
        own = _sha256(results / file)
        # The run's own report leads to other folders.
        if manifest.complete and file not in plan.report.files and own not in (None, found):
            raise InputError(f"{results / file}: differs from {made / file}, which was made from the archive")
        outputs[file] = found
    manifest = manifest.model_copy(update={"outputs": outputs, "made_with": versions()})
    _write(manifest, archive)
    return manifest


def compare(manifest: Manifest, made: Path) -> dict[str, str]:
    """What became of each recorded output: "identical", "differs" or "missing", by file."""
    found = {file: _sha256(made / file) for file in manifest.outputs}
    return {
        file: "missing" if found[file] is None else "identical" if found[file] == recorded else "differs"
        for file, recorded in manifest.outputs.items()
    }


def outputs_of(manifest: Manifest) -> tuple[str, ...]:
    """All that is made from an archive, relative to the results."""
    plan = manifest.plan()
    return tuple(file for made in (*plan.figures.values(), plan.claims, plan.report) for file in made.files)


def versions() -> dict[str, str]:
    """Of what decides the bytes of figures."""
    return {name: version(name) for name in _MADE_WITH}


# ---------------------------------------------------------------- helpers
def _stored(archive: Path) -> list[str]:
    return sorted(path.relative_to(archive).as_posix() for path in archive.rglob("*.nc"))


def _archived(folder: Path) -> str:
    return ", ".join(sorted(path.parent.name for path in folder.glob(f"*/{MANIFEST}"))) or "none"


def specification_hash(value: Any) -> str:
    """SHA-256 of a specification as plain values."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def _sha256(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _write(manifest: Manifest, archive: Path) -> None:
    from analysis.store import write_text  # here: planning does not wait for it

    text = json.dumps(manifest.model_dump(), indent=1, sort_keys=True, ensure_ascii=False)
    write_text(text + "\n", archive / MANIFEST)
