"""Rule claims: every claim in every setting, from datasets."""

from analysis.execution.signals import job

with job(snakemake.log[0], snakemake.scriptdir):
    from analysis.execution.functions import claims
    from analysis.plan.plan import PlannedClaims

    planned = [PlannedClaims.model_validate_json(text) for text in snakemake.params.planned]
    claims(planned, snakemake.input, snakemake.output)
