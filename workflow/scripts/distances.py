"""Rule distances: how far runs are from each other and from their start, from snapshots."""

from analysis.execution.jobs import job

with job(snakemake.log[0]):
    from analysis.measurement.distances import write_distances

    write_distances(snakemake.params.distances, snakemake.input, snakemake.output)
