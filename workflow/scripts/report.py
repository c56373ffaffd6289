"""Rule report: what the papers say, next to what was measured."""

from analysis.execution.signals import job

with job(snakemake.log[0], snakemake.scriptdir):
    from analysis.execution.functions import report
    from analysis.plan.plan import PlannedReport

    planned = [PlannedReport.model_validate_json(text) for text in snakemake.params.planned]
    report(planned, snakemake.input, snakemake.output)
