"""Rule distances: how far two runs are from each other and from their start, from snapshots."""

from pathlib import Path

from analysis.jobs import job

with job(snakemake.log[0]):
    from analysis.distances import measure_distances
    from analysis.store import write_dataset

    first, second = ([Path(path) for path in paths] for paths in (snakemake.input.first, snakemake.input.second))
    write_dataset(measure_distances(first, second), Path(snakemake.output[0]))
