"""Rule train_segment: a batch of sibling segments, one after the other, in one process."""

from analysis.execution.jobs import job

with job(snakemake.log[0], asks=True) as interrupted:
    from analysis.execution.gpus import share
    from analysis.training.batch import train_batch

    with share("cuda" if snakemake.resources.gpu else "cpu") as device:
        train_batch(
            snakemake.params.segments,
            data=snakemake.input.data,
            parents=snakemake.input.parents,
            trajectories=snakemake.output.trajectories,
            states=snakemake.output.states,
            snapshots=snakemake.output.snapshots,
            threads=snakemake.threads,
            device=device,
            interrupted=interrupted,
        )
