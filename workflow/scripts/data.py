"""Rule data: data sets, from files, a wheel, a generator or by download, as netCDF."""

import os
from pathlib import Path

from analysis.jobs import job

with job(snakemake.log[0]):
    from analysis.data import load
    from analysis.store import write_dataset

    folder = os.environ.get("DATA_DIR")  # no parameter: the content's hash is in the outputs' names
    for output in map(Path, snakemake.output):
        write_dataset(load(output.stem.rpartition("-")[0], Path(folder) if folder else None), output)
