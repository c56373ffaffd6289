"""Rule figure: one figure from its trajectories."""

from pathlib import Path

from analysis.figures import draw_figure
from analysis.jobs import job

with job(snakemake.log[0]):
    trajectories = {Path(path).parent.name: Path(path) for path in snakemake.input}
    outputs = {kind: Path(snakemake.output[kind]) for kind in ("pdf", "png")}
    draw_figure(snakemake.params.figure, trajectories, outputs)
