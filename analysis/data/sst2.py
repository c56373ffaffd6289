"""SST-2 from GLUE's tables: `SST-2/train.tsv` and `SST-2/dev.tsv`, `sentence<TAB>label` under a header."""

from __future__ import annotations

from pathlib import Path

import xarray as xr

from analysis.data import fetch
from analysis.data.catalogue import Description
from analysis.data.dataset import text_dataset
from sharpflat.errors import InputError

LAYOUT = "SST-2"
FILE = {"train": "train.tsv", "test": "dev.tsv"}
PUBLISHED_ROWS = {"train": 67349, "test": 872}
HEADER = "sentence\tlabel"
URL = "https://dl.fbaipublicfiles.com/glue/data/SST-2.zip"
SHA256 = "d67e16fb55739c1b32cdce9877596db1c127dc322d93c082281f64057c16deaa"
_ADVICE = "Remove this file; the next run downloads it again."


def load(entry: Description, *, data_dir: Path, download: bool) -> xr.Dataset:
    """The first `entry.examples` sentences of a split.

    Raises:
        InputError: the data are missing and unavailable, truncated, malformed, or have another checksum.
    """
    path = data_dir / LAYOUT / FILE[entry.split]
    files = [f"{LAYOUT}/{name}" for name in FILE.values()]
    downloaded = fetch.obtain(
        entry, data_dir, files=files, present=path.is_file, get=_get, urls=[URL], download=download
    )
    sentences, labels = _read(path, entry)
    return text_dataset(
        entry,
        sentences,
        labels,
        source="download" if downloaded else f"files in {LAYOUT}",
        where=str(path),
        advice=_ADVICE,
    )


def _read(path: Path, entry: Description) -> tuple[list[str], list[int]]:
    """The first rows of a table, which must have the published number of rows.

    Rows are counted rather than bytes, because copies differ in the spaces at the end of a line.
    """
    content, rows = path.read_bytes(), PUBLISHED_ROWS[entry.split]
    try:
        # Only \n ends a line: sentences may hold characters that Unicode counts as line breaks.
        lines = content.decode().strip("\n").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error}). {_ADVICE}") from error
    if lines[0].strip() != HEADER:
        raise InputError(f"{path}, line 1: found {lines[0][:80]!r}, expected {HEADER!r}. {_ADVICE}")
    del lines[0]
    whole = [line for line in lines if line.count("\t") == 1 and line.split("\t")[1].strip()]
    if len(whole) < rows and lines[: len(whole)] == whole:  # missing rows are missing at the end
        raise InputError(
            f"{path}: cut short. Found {len(whole):,} sentences in {len(content):,} bytes, "
            f"expected {rows:,} sentences. {_ADVICE}"
        )
    sentences, labels = [], []
    for number, line in enumerate(lines[: entry.examples], start=2):
        cells = line.split("\t")
        if len(cells) != 2 or cells[1].strip() not in ("0", "1"):
            raise InputError(
                f"{path}, line {number}: found {line.strip()[:80]!r}, expected a sentence, a tab "
                f"and the label 0 or 1. {_ADVICE}"
            )
        sentences.append(cells[0].strip())
        labels.append(int(cells[1]))
    return sentences, labels


def _get(folder: Path) -> None:
    archive = folder / "SST-2.zip"
    fetch.retrieve(URL, known_hash=f"sha256:{SHA256}", path=archive)
    fetch.unpack(archive, [f"{LAYOUT}/{name}" for name in FILE.values()], folder)
