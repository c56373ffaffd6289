"""A small made-up profile for the report: two settings, one diverged run, a family, a table, and hostile texts."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from analysis.data.catalogue import describe
from analysis.models.mlp import Numbers as MLPNumbers
from analysis.report import write_report
from analysis.rules.sgd import Numbers as SGDNumbers
from analysis.runs.panels import by_name
from analysis.specs import DataSpec, FilterSpec, ProblemSpec, SegmentSpec, StopSpec
from analysis.specs.panels import ClaimSpec, FigureSpec, PanelSpec, Paper, PaperFigure, ReportSpec
from analysis.store.drawn import Line, Panel, with_panels
from analysis.store.netcdf import write_dataset
from analysis.training.probes import build as build_probes
from analysis.training.records import Records, to_trajectory
from tests.specs import probes

HOSTILE = "<script>alert('χ')</script> & \"co\""
# One pixel.
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def _blank(width: int, height: int) -> bytes:
    """A white image."""
    parts = (
        b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0),
        b"IDAT" + zlib.compress((b"\0" + width * b"\xff") * height),
        b"IEND",
    )
    chunks = (struct.pack(">I", len(p) - 4) + p + struct.pack(">I", zlib.crc32(p)) for p in parts)
    return PNG[:8] + b"".join(chunks)


BLANK = _blank(500, 250)  # 300 × 150 on the page
LOSSES = Panel(  # the lines of the left half of an image; none of SGD's values is at the second step
    title=HOSTILE,
    across="step",
    up="training loss",
    box=(0.1, 0.2, 0.5, 0.8),
    x_axis=(0, 40, 0),
    y_axis=(0.01, 1, 1),
    x=tuple(range(0, 42, 2)),
    names=(),
    lines=(
        Line(label="SGD", color="#0072b2", values=(1, None, *19 * (0.5,))),
        Line(label=HOSTILE, color="#d55e00", values=(1, *20 * (0.0123,))),
    ),
)
GRID = Panel(
    title="",
    across="α",
    up="accuracy (%)",
    box=(0.6, 0.2, 0.9, 0.8),
    x_axis=(0, 2, 0),
    y_axis=(0, 2, 0),
    x=(0.5, 1.5),
    names=("0", "0.25"),
    lines=(Line(label="β = 1", values=(None, 82.25), at=1.5), Line(label="β = 0", values=(10, 20), at=0.5)),
)
DOM_LR = "dom_lr_mean,dom_lr_std,published_dom_lr_mean,published_dom_lr_std,published_dom_lr_difference"
TABLE = f"""setting,method,steps_measured,{DOM_LR},bulk_lr_mean
mlp,GD,13,-0.00048321243236292254,0.0176,0.007,0.0232,-0.32255225,0.5
mlp,<b>Adam</b>,0,nan,nan,,,,
"""
DEVIATIONS = """# Deviations

Some *words*, a [document](other.md), <b>html</b> and ![a picture](https://example.org/x.png).

## A paper

| subject | here |
| --- | --- |
| `α` \\| β | two |
"""
CLAIM = {"claim": "song-1", "says": "gradients align", "threshold": "median χ ≥ 0.9", "runs": "a"}
VERDICTS = [
    {**CLAIM, "setting": "mlp", "verdict": "holds", "measured": "median χ_k 0.968"},
    {**CLAIM, "setting": "mlp-ce", "verdict": "does not hold", "measured": f"failed: {HOSTILE}"},
    {**CLAIM, "setting": "cnn", "verdict": "not measured", "measured": "not in this profile"},
    {**CLAIM, "claim": "own", "setting": "mlp", "verdict": "holds", "measured": "own numbers"},
]


def _panel(setting: str, runs: Mapping[str, list[str]], **more: Any) -> PanelSpec:
    panel = PanelSpec(setting=setting, title="MLP", runs=tuple(runs.items()), **{"families": (), **more})
    return panel.model_copy(update={"title": HOSTILE}) if setting == "mlp-ce" else panel


def _figure(name: str, caption: str, *panels: PanelSpec) -> FigureSpec:
    return FigureSpec(name=name, module="m", caption=caption, panels=panels)


def _listed(name: str, number: str, claims: tuple[str, ...]) -> PaperFigure:
    return PaperFigure(id=name, number=number, says=f"{number} says", claims=claims)


BY_RATE = (("SGD", (({"learning_rate": 0.1}, ("sgd",)), ({"learning_rate": 1.5}, ("dom",)))),)
REPORT = ReportSpec(
    profile="quick",
    title="quick (small)",
    base="",
    figures=(
        _figure(
            "song-fig01",
            "Training loss",
            _panel("mlp", {"SGD": ["start", "sgd"], "Dom-SGD": ["start", "dom"]}, distances="apart"),
            _panel("mlp-ce", {"SGD": ["crossed"]}, snapshots=True),
        ),
        _figure("song-table1", "Effective learning rates", _panel("mlp", {"GD": ["start"]})),
        _figure("own-figure", "By rate", _panel("mlp", {}, families=BY_RATE)),
    ),
    claims=(ClaimSpec(name="song-1", panels=(_panel("mlp", {"SGD": ["start", "sgd"]}),)),),
    papers=(
        Paper(
            title="A paper",
            authors="A. Author",
            year=2024,
            note="A note.",
            figures=(
                _listed("song-fig01", "Figure 1", ("song-1",)),
                _listed("song-fig02", "Figure 2", ("song-1",)),
                _listed("song-table1", "Table 1", ("song-1",)),
            ),
        ),
    ),
)


@dataclass
class Example:
    """The arguments of `write_report`."""

    report: ReportSpec
    datasets: dict[str, Path]
    files: dict[str, Path]
    deviations: Path
    output: Path
    agreement: object = None

    def write(self) -> str:
        write_report(self.report, self.datasets, self.files, self.deviations, self.output, self.agreement)
        return self.output.read_text(encoding="utf-8")

    def panel(self, figure: int) -> PanelSpec:
        """The first of a figure."""
        return self.report.figures[figure].panels[0]

    def change(self, figure: int, **values: Any) -> None:
        """Another first panel for a figure."""
        figures = list(self.report.figures)
        panels = (self.panel(figure).model_copy(update=values), *figures[figure].panels[1:])
        figures[figure] = figures[figure].model_copy(update={"panels": panels})
        self.report = self.report.model_copy(update={"figures": tuple(figures)})


def example(folder: Path) -> Example:
    """Datasets, figures and claims in `folder`; the report is not written yet."""
    _segment(folder, "start", 0, 10)
    _segment(folder, "sgd", 10, 20, parent="start", filtered=2)
    _segment(folder, "dom", 10, 13, parent="start", filtered=5, diverged=True)
    _segment(folder, "crossed", 0, 5, loss="cross_entropy")
    write_dataset(xr.Dataset(attrs={"schema": "distances-1"}), folder / "distances" / "apart.nc")
    snapshots = folder / "segments" / "crossed" / "snapshots.nc"
    snapshots.write_bytes(b"never read")
    names = ["start", "sgd", "dom", "crossed"]
    paths = [*(folder / "segments" / n / "trajectory.nc" for n in names), snapshots, folder / "distances" / "apart.nc"]
    files = {}
    for name in ("song-fig01", "song-table1", "own-figure"):
        image = with_panels(BLANK, (LOSSES, GRID)) if name == "song-fig01" else PNG
        for kind, content in (("png", image), ("pdf", b"%PDF"), ("csv", TABLE.encode())):
            if kind != "csv" or name == "song-table1":
                files[f"figures/{name}.{kind}"] = _write(folder / "figures" / f"{name}.{kind}", content)
    files["claims.json"] = _write(folder / "claims.json", json.dumps(VERDICTS).encode())
    deviations = _write(folder / "deviations.md", DEVIATIONS.encode())
    return Example(REPORT, by_name(map(str, paths)), files, deviations, folder / "report.html")


def _write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _segment(
    folder: Path,
    name: str,
    first: int,
    last: int,
    *,
    parent: str | None = None,
    loss: Any = "mse",
    filtered: int | None = None,
    diverged: bool = False,
) -> None:
    data = DataSpec(
        train="polarity1k",
        train_sha256=describe("polarity1k").sha256,
        examples=150,
        test="polarity-test500",
        test_sha256=describe("polarity-test500").sha256,
        test_examples=250,
        holdout=30,
    )
    spec = SegmentSpec(
        problem=ProblemSpec(data=data, model=MLPNumbers(width=4), loss=loss, k=2),
        seed=7,
        rule=SGDNumbers(learning_rate=0.25, batch_size=20),
        filter=FilterSpec(alpha_dom=1, beta_bulk=0, k=filtered) if filtered else None,
        stop=StopSpec(step=last),
        probes=probes(loss=5, test=5, spectrum=5),
        parent=parent,
    )
    records = Records()
    for step in (first, last):
        records.add("step", step, loss=1 / (1 + step), gradient_norm=1.0, distance=0.0)
        records.add(
            "spectrum_step",
            step,
            eigenvalues=[12.5, 3.0, 1.0, 0.5],
            residual=0.0,
            converged=1,
            alignment=0.875,
            alignment_ema=0.5,
            update_alignment=0.5,
            stability_threshold=8.0,
            probe_products=40,
            filter_products=2,
        )
    attributes = {
        "id": name,
        "status": "diverged" if diverged else "completed",
        "stopped_by": "divergence" if diverged else "steps",
        "first_step": first,
        "last_step": last,
        "diverged_at": last if diverged else -1,
        "parameters": 4321,
        "train_title": "polarity-1k (synthetic), first 150",
        "test_title": "polarity test",
        "probe_products": 1000,
        "filter_products": 234 if filtered else 0,
        "refreshes": 3 if filtered else 0,
        "unconverged_refreshes": 1 if filtered else 0,
        "unconverged_rates": 0,
    }
    provenance = {"fingerprint": "f", "threads": 1, "seconds": 30.0, "chunk_halvings": []}
    write_dataset(
        to_trajectory(records, spec, build_probes(spec.probes, {}), attributes),
        folder / "segments" / name / "trajectory.nc",
        provenance,
    )
