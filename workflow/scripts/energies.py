"""Rule energies: energies and spectral densities along segments, from their snapshots, in one process."""

from analysis.execution.signals import job

with job(snakemake.log[0], snakemake.scriptdir):
    from analysis.execution.functions import energies
    from analysis.execution.gpus import WITHOUT_GPU, share
    from analysis.plan.plan import PlannedEnergies

    planned = [PlannedEnergies.model_validate_json(text) for text in snakemake.params.planned]
    with share("cuda" if snakemake.resources.gpu else "cpu", WITHOUT_GPU) as device:
        energies(planned, snakemake.input, snakemake.output, threads=snakemake.threads, device=device)
