"""Rule figures: several figures and tables, each from its datasets."""

from analysis.execution.signals import job

with job(snakemake.log[0], snakemake.scriptdir):
    from analysis.execution.functions import figures
    from analysis.plan.plan import PlannedFigure

    planned = [PlannedFigure.model_validate_json(text) for text in snakemake.params.planned]
    figures(planned, snakemake.input, snakemake.output)
