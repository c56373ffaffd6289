"""Rule curvature: energies and spectral densities along segments, from their snapshots, in one process."""

from analysis.execution.jobs import job

with job(snakemake.log[0]):
    from analysis.execution.gpus import share
    from analysis.measurement.energies import measure_energies

    with share("cuda" if snakemake.resources.gpu else "cpu") as device:
        measure_energies(
            snakemake.params.energies,
            data=snakemake.input.data,
            snapshots=snakemake.input.snapshots,
            outputs=snakemake.output,
            threads=snakemake.threads,
            device=device,
        )
