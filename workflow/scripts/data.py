"""Rule data: one data set, from files, a wheel, a generator or by download, as netCDF."""

import os
from pathlib import Path

from analysis.data import load
from analysis.jobs import job
from analysis.store import write_dataset

with job(snakemake.log[0]):
    name = snakemake.wildcards.subset.rpartition("-")[0]
    folder = os.environ.get("DATA_DIR")  # no parameter: the content's hash is in the output's name
    write_dataset(load(name, Path(folder) if folder else None), Path(snakemake.output[0]))
