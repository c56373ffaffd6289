"""A figure in the report: image, alternative text, table, verdicts, runs."""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from analysis.report import words
from analysis.report.readings import Reading, readings_of
from analysis.report.runs import Datasets, Link, Runs, runs_of
from analysis.report.tables import Table, read_table
from analysis.report.verdicts import Judged, Verdict, by_claim
from analysis.specs.panels import FigureSpec, PanelSpec, PaperFigure
from analysis.store.drawn import Panel, as_json, without_panels
from sharpflat.errors import InputError

PNG = b"\x89PNG\r\n\x1a\n"
SHARPNESS = 160 / 96  # pixels of a figure for one of the page, which has 96 an inch
FEW = 8  # values that an alternative text lists


@dataclass(frozen=True)
class Image:
    """As a data URI; `width` and `height` on the page; `panels`, in JSON, what a script reads off."""

    uri: str
    alt: str
    width: int
    height: int
    panels: str


@dataclass(frozen=True)
class Figure:
    """A figure or table; `number` and `says` are the paper's, "" for one that no paper lists."""

    id: str
    number: str
    caption: str
    says: str
    image: Image
    readings: list[Reading]
    table: Table | None
    links: list[Link]
    judged: list[Judged]
    absent: list[str]
    panels: list[Runs]

    @property
    def name(self) -> str:
        return self.number or self.id

    @property
    def runs(self) -> int:
        return sum(len(panel.rows) for panel in self.panels)


def figure_of(
    planned: FigureSpec,
    listed: PaperFigure | None,
    verdicts: Sequence[Verdict],
    labels: Mapping[str, str],
    datasets: Datasets,
    files: Mapping[str, Path],
) -> Figure:
    """A planned figure as the report shows it; `listed` is what `papers.yaml` has of it.

    Raises:
        InputError: if a file or dataset is missing or damaged.
    """
    name = planned.name
    made = {kind: f"figures/{name}.{kind}" for kind in ("pdf", "png", "csv")}
    if made["png"] not in files:
        raise InputError(f"{made['png']}: the report shows it, but it is not among the report's files")
    for file in made.values():
        if file in files and not files[file].is_file():
            raise InputError(f"{files[file]}: there is no such file")
    csv = files.get(made["csv"])
    image, panels = _image(files[made["png"]], alternative(planned, labels, is_table=csv is not None))
    return Figure(
        name,
        "" if listed is None else listed.number,
        planned.caption,
        "" if listed is None else listed.says,
        image,
        readings_of(panels),
        None if csv is None else read_table(csv),
        [Link(kind.upper(), quote(file)) for kind, file in made.items() if file in files],
        by_claim(verdicts),
        _absent(planned, labels),
        [runs_of(panel, datasets) for panel in planned.panels],
    )


def _absent(planned: FigureSpec, labels: Mapping[str, str]) -> list[str]:
    """Settings, and members of families, that the figure would have too."""
    settings = [f"{labels.get(s, s)} ({reason})" for s, reason in planned.absent.items()]
    members = [
        f"{labels[panel.setting]}: {member} (not run)" for panel in planned.panels for member in panel.absent or ()
    ]
    return settings + members


def _image(path: Path, alt: str) -> tuple[Image, tuple[Panel, ...]]:
    try:
        content, panels = without_panels(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise InputError(f"{path}: its values cannot be read ({error}); delete it and run again") from error
    if len(content) < 24 or not content.startswith(PNG):
        raise InputError(f"{path}: is no PNG image; delete it and run again")
    width, height = (round(pixels / SHARPNESS) for pixels in struct.unpack(">II", content[16:24]))
    uri = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    return Image(uri, alt, width, height, as_json(panels) if panels else ""), panels


def alternative(planned: FigureSpec, labels: Mapping[str, str], *, is_table: bool) -> str:
    """What the image shows, in words: its caption, the settings and the runs in each."""
    together: dict[str, list[str]] = {}
    for panel in planned.panels:
        together.setdefault(_drawn(panel), []).append(labels[panel.setting])
    what = "; ".join(f"{words.listed(settings)}: {drawn}" for drawn, settings in together.items())
    kind = "Table, also in text below" if is_table else "Plot"
    return f"{kind}. {planned.caption}. {what}."


def _drawn(panel: PanelSpec) -> str:
    runs = [label for label, _ in panel.runs]
    for label, members in panel.families:
        values: dict[str, list[float]] = {}
        for varied, _ in members:
            for name, value in varied.items():
                values.setdefault(name, []).append(value)
        runs.append(f"{label} by {words.listed(_values(n, v) for n, v in values.items())}")
    return f"runs {words.listed(runs)}" if len(runs) > 1 else f"run {runs[0]}"


def _values(name: str, values: Sequence[float]) -> str:
    different = sorted(set(values))
    title = words.VARIED.get(name, name)
    if len(different) > FEW:
        return f"{title} ({len(different)} values from {words.number(different[0])} to {words.number(different[-1])})"
    return f"{title} ({words.numbers(different)})"
