"""Rule judge: every claim in every setting, from trajectories."""

from pathlib import Path

from analysis.claims import judge
from analysis.jobs import job

with job(snakemake.log[0]):
    trajectories = {Path(path).parent.name: Path(path) for path in snakemake.input}
    judge(snakemake.params.claims, trajectories, {kind: Path(snakemake.output[kind]) for kind in ("json", "csv")})
