"""Rule distances: how far runs are from each other and from their start, from snapshots."""

from analysis.execution.signals import job

with job(snakemake.log[0], snakemake.scriptdir):
    from analysis.execution.functions import distances
    from analysis.plan.plan import PlannedDistances

    planned = [PlannedDistances.model_validate_json(text) for text in snakemake.params.planned]
    distances(planned, snakemake.input, snakemake.output)
