"""Rule figure: one figure from its trajectories."""

from pathlib import Path

from analysis.jobs import job

with job(snakemake.log[0]):
    from analysis.figures import draw_figure

    trajectories = {Path(path).parent.name: Path(path) for path in snakemake.input.trajectories}
    outputs = {kind: Path(snakemake.output[kind]) for kind in ("pdf", "png")}
    draw_figure(Path(snakemake.input.specification).read_text(encoding="utf-8"), trajectories, outputs)
