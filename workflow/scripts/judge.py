"""Rule judge: every claim in every setting, from datasets."""

from pathlib import Path

from analysis.execution.jobs import job

with job(snakemake.log[0]):
    from analysis.claims import judge
    from analysis.execution.records import recorded
    from analysis.runs.panels import by_name

    outputs = {kind: Path(snakemake.output[kind]) for kind in ("json", "csv")}
    with recorded([snakemake.params.claims], [snakemake.output.record], [str(path) for path in outputs.values()]):
        judge(snakemake.params.claims, by_name(snakemake.input), outputs)
