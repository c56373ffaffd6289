"""Archives, with the datasets from which a profile's figures and claims are made, and a manifest that describes them.

An archive is a folder with `manifest.json` and the datasets as the pipeline wrote them, under their original names. The
manifest also lists what is made from them. So figures can be redrawn when nothing else of a run is left, and by later
code.
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
