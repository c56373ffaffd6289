"""Checks datasets against their names and the manifest."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from analysis.archive.manifest import Entry, Manifest, read_archive
from analysis.plan.names import canonical, hash8
from sharpflat.errors import InputError

SCHEMAS = ("trajectory-2", "snapshots-1", "energies-1", "distances-1")  # that figures and claims can read
_OF_ONE_RUN = ("fingerprint", "seconds", "chunk_halvings")  # the rest of a provenance is the environment


def verify(archive: Path) -> Manifest:
    """Checks the archive as `read_archive` does, and each dataset against the manifest and its own name.

    Raises:
        InputError: a file is wrong. The message names it and says what is wrong.
    """
    manifest = read_archive(archive)
    for file, entry in manifest.datasets.items():
        found, environment = describe(archive / file)
        for name in Entry.model_fields:
            if (own := getattr(found, name)) != (said := getattr(entry, name)):
                raise InputError(f"{archive / file}: {name} is {own}; the manifest says {said}")
        if manifest.environments.get(entry.environment) != environment:
            raise InputError(f"{archive / file}: environment {entry.environment} is not the one of the manifest")
        if entry.dataset not in SCHEMAS:
            raise InputError(f"{archive / file}: has schema {entry.dataset!r}; this version reads {', '.join(SCHEMAS)}")
        check_name(file, entry, archive / file)
    return manifest


def describe(path: Path) -> tuple[Entry, dict[str, Any]]:
    """A dataset's entry, and the environment in which it was made.

    Raises:
        InputError: it is not a dataset of this pipeline.
    """
    import netCDF4  # imported here, because planning must not wait for it

    try:
        with netCDF4.Dataset(path) as file:
            found = {name: file.getncattr(name) for name in ("schema", "id", "specification", "provenance")}
        content = path.read_bytes()
        provenance, specification = json.loads(found["provenance"]), json.loads(found["specification"])
        code = provenance["fingerprint"]
    except (OSError, AttributeError, KeyError, ValueError) as error:
        raise InputError(f"{path}: is not a dataset of this pipeline ({error})") from error
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


def check_name(file: str, entry: Entry, path: Path) -> None:
    """Checks that a dataset's name follows from its attributes.

    Raises:
        InputError: it does not.
    """
    named = Path(file).parent.name if file.startswith("segments/") else Path(file).stem
    if entry.id != named:
        raise InputError(f"{path}: is dataset {entry.id}, not {named}")
    if not named.endswith(f"-{entry.name}"):
        raise InputError(f"{path}: its specification and code give the name …-{entry.name}, not {named}")


def specification_hash(value: Any) -> str:
    """SHA-256 of a specification as plain values."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()
