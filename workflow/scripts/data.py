"""Rule data: data sets, from files, a wheel, a generator or by download, as netCDF."""

from analysis.execution.signals import job

with job(snakemake.log[0], snakemake.scriptdir):
    from analysis.execution.functions import data

    data((), snakemake.input, snakemake.output)
