"""Rule report: what the papers say beside what was measured."""

from pathlib import Path

from analysis.execution.jobs import job

with job(snakemake.log[0]):
    from analysis.execution.records import check, recorded
    from analysis.report import write_report
    from analysis.runs.panels import by_name

    results = Path(snakemake.output.html).parent
    for record in map(Path, snakemake.input.records):
        check(record)
    with recorded([snakemake.params.report], [snakemake.output.record], [snakemake.output.html]):
        files = {Path(path).relative_to(results).as_posix(): Path(path) for path in snakemake.input.files}
        write_report(
            snakemake.params.report,
            by_name(snakemake.input.datasets),
            files,
            Path(snakemake.input.deviations),
            Path(snakemake.output.html),
        )
