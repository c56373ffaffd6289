"""Figures and tables, made from datasets alone. Each kind of figure is a module of this package with `draw(panels)`
and, for tables, `table(panels)`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

from analysis.specs.panels import FigureSpec


def draw_figures(figures: Sequence[FigureSpec], datasets: Mapping[str, Path], outputs: Sequence[Path]) -> None:
    """Draws several figures and writes each in the formats that `outputs` lists under its name.

    Args:
        figures: the figures to draw.
        datasets: the files of the figures' datasets (`analysis.runs.panels.by_name`).
        outputs: paths <folder>/<name>.<format> with formats "pdf", "png" and, of tables, "csv".

    Raises:
        InputError: a dataset is missing or damaged, or an output cannot be written.
    """
    from analysis.figures import style
    from analysis.runs.panels import read_panels
    from analysis.runs.tables import as_csv
    from analysis.store.atomic import write_text
    from analysis.store.netcdf import read_dataset

    read = {name: read_dataset(path) for name, path in datasets.items()}
    for figure in figures:
        files = {path.suffix[1:]: path for path in outputs if path.stem == figure.name}
        module = import_module(f"{__name__}.{figure.module.replace('-', '_')}")
        panels = read_panels(figure.panels, read)
        if "csv" in files:
            write_text(as_csv(module.table(panels)), files.pop("csv"))
        with style.applied():
            style.save(module.draw(panels), files)
