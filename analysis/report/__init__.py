"""The report: what the papers say, next to what was measured, as one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from analysis.specs.panels import ReportSpec


def write_report(
    report: ReportSpec,
    datasets: Mapping[str, Path],
    files: Mapping[str, Path],
    deviations: Path,
    output: Path,
    agreement: object = None,
) -> None:
    """Write the report. Its bytes depend on nothing but what the arguments and the files hold.

    Args:
        report: what it shows.
        datasets: the files of the datasets that the figures name (`analysis.runs.panels.by_name`).
        files: by name relative to the results, "figures/<id>.png" (".pdf", ".csv") and "claims.json".
        deviations: Markdown.
        output: the report.
        agreement: with the archived run (`analysis.agreement.Agreement`), or why there is none; None: not compared.

    Raises:
        InputError: if a dataset or file is missing or damaged, or the output cannot be written.
    """
    from analysis.report.page import page
    from analysis.store.atomic import write_text

    write_text(page(report, datasets, files, deviations, agreement), output)
