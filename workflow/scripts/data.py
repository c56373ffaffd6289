"""Rule data: data sets, from files, a wheel, a generator or by download, as netCDF."""

from analysis.execution.jobs import job

with job(snakemake.log[0]):
    from analysis.data.subsets import write_subsets

    write_subsets(snakemake.output)
