"""Rule figures: several figures and tables, each from its datasets."""

from pathlib import Path

from analysis.jobs import job

with job(snakemake.log[0]):
    from analysis.figures import draw_figures
    from analysis.records import recorded
    from analysis.trajectory import by_name

    with recorded(snakemake.params.figures, snakemake.output.records):
        outputs = [Path(path) for path in snakemake.output.figures]
        draw_figures(snakemake.params.figures, by_name(snakemake.input), outputs)
