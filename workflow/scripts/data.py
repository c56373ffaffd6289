"""Rule data: one data set, from files, a wheel, a generator or by download, as netCDF."""

import os
from pathlib import Path

from analysis.jobs import job

with job(snakemake.log[0]):
    from analysis.data import load
    from analysis.store import write_dataset

    name = snakemake.wildcards.subset.rpartition("-")[0]
    folder = os.environ.get("DATA_DIR")  # no parameter: the content's hash is in the output's name
    write_dataset(load(name, Path(folder) if folder else None), Path(snakemake.output[0]))
