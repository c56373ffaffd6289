"""Rule figures: several figures and tables, each from its datasets."""

from pathlib import Path

from analysis.execution.jobs import job

with job(snakemake.log[0]):
    from analysis.execution.records import recorded
    from analysis.figures import draw_figures
    from analysis.runs.panels import by_name

    figures = snakemake.output.figures
    with recorded(snakemake.params.figures, snakemake.output.records, figures):
        draw_figures(snakemake.params.figures, by_name(snakemake.input), list(map(Path, figures)))
