"""Archives: the datasets that a profile's figures and claims are made from, and a manifest that says what they are.

An archive is a folder: datasets as the pipeline wrote them, under the names that it gave them, and `manifest.json`.
What is made from them stands there too: figures can be redrawn when nothing else of a run is left, and by later code.
"""

from analysis.archive.checks import verify
from analysis.archive.manifest import MANIFEST, REDRAWN, REFERENCE, Manifest, read_archive
from analysis.archive.outputs import compare, outputs_of, record, versions
from analysis.archive.packing import pack

__all__ = [
    "MANIFEST",
    "REDRAWN",
    "REFERENCE",
    "Manifest",
    "compare",
    "outputs_of",
    "pack",
    "read_archive",
    "record",
    "verify",
    "versions",
]
