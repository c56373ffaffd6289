"""Rule judge: every claim in every setting, from trajectories."""

from pathlib import Path

from analysis.jobs import job

with job(snakemake.log[0]):
    from analysis.claims import judge

    trajectories = {Path(path).parent.name: Path(path) for path in snakemake.input.trajectories}
    outputs = {kind: Path(snakemake.output[kind]) for kind in ("json", "csv")}
    judge(Path(snakemake.input.specification).read_text(encoding="utf-8"), trajectories, outputs)
