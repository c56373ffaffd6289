"""The report: what the papers say, beside what was measured, as one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def write_report(
    params: str, datasets: Mapping[str, Path], files: Mapping[str, Path], deviations: Path, output: Path
) -> None:
    """Write the report. Its bytes depend on nothing but what the arguments and the files hold.

    Args:
        params: canonical JSON: `profile` and its `title`; `figures`, the parameters of each planned figure; `claims`,
            those of the claims; `papers` (`analysis.plan.papers`) as plain values; `base`, the relative path from the
            report to the folder of the datasets, "" or ending in "/".
        datasets: the files of the datasets that the figures name (`analysis.runs.panels.by_name`).
        files: by name relative to the results, "figures/<id>.png" (".pdf", ".csv") and "claims.json".
        deviations: Markdown.
        output: the report.

    Raises:
        InputError: if a dataset or file is missing or damaged, or the output cannot be written.
    """
    import json

    from analysis.report.page import page
    from analysis.store.atomic import write_text

    write_text(page(json.loads(params), datasets, files, deviations), output)
