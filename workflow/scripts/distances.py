"""Rule distances: how far runs are from each other and from their start, from snapshots."""

from pathlib import Path

from analysis.jobs import job

with job(snakemake.log[0]):
    from analysis.distances import measure_distances
    from analysis.store import write_dataset

    for runs, output in zip(snakemake.params.runs, map(Path, snakemake.output), strict=True):
        first, second = ([Path(path) for path in run] for run in runs)
        write_dataset(measure_distances(first, second), output)
