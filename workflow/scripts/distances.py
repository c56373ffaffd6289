"""Rule distances: how far runs are from each other and from their start, from snapshots."""

from pathlib import Path

from analysis.jobs import job

with job(snakemake.log[0]):
    from analysis.distances import write_distances
    from analysis.trajectory import by_name

    files = by_name(snakemake.input)
    for params, output in zip(snakemake.params.distances, map(Path, snakemake.output), strict=True):
        write_distances(params, files, output)
