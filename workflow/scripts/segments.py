"""Rule segments: a batch of sibling segments, one after the other, in one process."""

from analysis.execution.signals import job

with job(snakemake.log[0], snakemake.scriptdir, cooperative=True) as interrupted:
    from analysis.execution.functions import segments
    from analysis.execution.gpus import WITHOUT_GPU, share
    from analysis.plan.plan import PlannedSegment

    planned = [PlannedSegment.model_validate_json(text) for text in snakemake.params.planned]
    with share("cuda" if snakemake.resources.gpu else "cpu", WITHOUT_GPU) as device:
        segments(
            planned,
            snakemake.input,
            snakemake.output,
            threads=snakemake.threads,
            device=device,
            interrupted=interrupted,
        )
