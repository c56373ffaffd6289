"""The function of each rule, under the rule's name, which does the work of a job from files to files.

Each function takes what it should make and the files of its task (`analysis.execution.tasks`) with their folders, by
the names that the task uses. Imports are inside the functions, because each job needs only a few and they take seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from analysis.execution.planned import check_code
from analysis.execution.records import check, recorded
from analysis.plan.plan import (
    PlannedClaims,
    PlannedDistances,
    PlannedEnergies,
    PlannedFigure,
    PlannedReport,
    PlannedSegment,
)

Files = Mapping[str, Sequence[str]]


def data(planned: Sequence[None], inputs: Files, outputs: Files) -> None:
    """Loads data sets from files, a wheel, a generator or a download."""
    from analysis.data.subsets import write_subsets

    write_subsets(outputs["files"])


def segments(
    planned: Sequence[PlannedSegment],
    inputs: Files,
    outputs: Files,
    *,
    threads: int,
    device: str,
    interrupted: Callable[[], bool],
) -> None:
    """Trains sibling segments, one after the other."""
    check_code(planned)
    from analysis.training.batch import train_batch

    train_batch(
        planned,
        data=inputs["data"],
        parents=inputs["parents"],
        trajectories=outputs["trajectories"],
        states=outputs["states"],
        snapshots=outputs["snapshots"],
        threads=threads,
        device=device,
        interrupted=interrupted,
    )


def energies(planned: Sequence[PlannedEnergies], inputs: Files, outputs: Files, *, threads: int, device: str) -> None:
    """Measures energies and spectral densities along segments, from their snapshots."""
    check_code(planned)
    from analysis.measurement.energies import measure_energies

    measure_energies(
        planned,
        data=inputs["data"],
        snapshots=inputs["snapshots"],
        outputs=outputs["files"],
        threads=threads,
        device=device,
    )


def distances(planned: Sequence[PlannedDistances], inputs: Files, outputs: Files) -> None:
    """Measures the distances of runs from each other and from their start, from snapshots."""
    check_code(planned)
    from analysis.measurement.distances import write_distances

    write_distances(planned, inputs["snapshots"], outputs["files"])


def figures(planned: Sequence[PlannedFigure], inputs: Files, outputs: Files) -> None:
    """Draws figures and tables, each from its datasets."""
    check_code(planned)
    from analysis.figures import draw_figures
    from analysis.runs.panels import by_name

    with recorded(planned, outputs["records"], outputs["files"]):
        draw_figures([figure.spec for figure in planned], by_name(inputs["datasets"]), _paths(outputs))


def claims(planned: Sequence[PlannedClaims], inputs: Files, outputs: Files) -> None:
    """Judges every claim in every setting, from datasets."""
    check_code(planned)
    from analysis.claims import judge
    from analysis.runs.panels import by_name

    (claims,) = planned
    with recorded(planned, outputs["records"], outputs["files"]):
        judge(claims.claims, by_name(inputs["datasets"]), {path.suffix[1:]: path for path in _paths(outputs)})


def report(planned: Sequence[PlannedReport], inputs: Files, outputs: Files) -> None:
    """Writes the report from the recorded figures, the verdicts and the datasets behind them."""
    check_code(planned)
    from analysis.agreement import for_report
    from analysis.plan.outputs import DEVIATIONS
    from analysis.report import write_report
    from analysis.runs.panels import by_name

    (report,), (output,) = planned, _paths(outputs)
    for record in map(Path, inputs["records"]):
        check(record)
    files = {path.relative_to(output.parent).as_posix(): path for path in map(Path, inputs["files"])}
    with recorded(planned, outputs["records"], outputs["files"]):
        agreement = for_report(report.spec, output.parent)
        write_report(report.spec, by_name(inputs["datasets"]), files, DEVIATIONS, output, agreement)


def _paths(outputs: Files) -> list[Path]:
    return [Path(file) for file in outputs["files"]]
