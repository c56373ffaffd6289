"""Records and compares the hashes of what is made from an archive."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path

from analysis.archive.manifest import Manifest, read_archive, write_manifest
from sharpflat.errors import InputError

_MADE_WITH = ("matplotlib", "numpy", "pillow", "seaborn", "xarray")


def record(archive: Path, made: Path, results: Path) -> Manifest:
    """Writes the hashes of everything that was made from the archive (in `made`) into its manifest.

    Raises:
        InputError: a file was not made, or differs from what the run itself wrote to `results`.
    """
    manifest = read_archive(archive)
    plan, outputs = manifest.plan(), {}
    for file in outputs_of(manifest):
        if (found := _sha256(made / file)) is None:
            raise InputError(f"{made / file}: is missing; it is made from {archive}")
        own = _sha256(results / file)
        # The run's own report links to other folders.
        if manifest.complete and file not in plan.report.files and own not in (None, found):
            raise InputError(f"{results / file}: differs from {made / file}, which was made from the archive")
        outputs[file] = found
    manifest = manifest.model_copy(update={"outputs": outputs, "made_with": versions()})
    write_manifest(manifest, archive)
    return manifest


def compare(manifest: Manifest, made: Path) -> dict[str, str]:
    """The state of each recorded output, by file: "identical", "differs" or "missing"."""
    found = {file: _sha256(made / file) for file in manifest.outputs}
    return {
        file: "missing" if found[file] is None else "identical" if found[file] == recorded else "differs"
        for file, recorded in manifest.outputs.items()
    }


def outputs_of(manifest: Manifest) -> tuple[str, ...]:
    """Everything that is made from an archive, relative to the results."""
    plan = manifest.plan()
    return tuple(file for drawn in (*plan.figures.values(), plan.claims, plan.report) for file in drawn.files)


def versions() -> dict[str, str]:
    """Versions of the libraries that determine the bytes of figures."""
    return {name: version(name) for name in _MADE_WITH}


def _sha256(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
