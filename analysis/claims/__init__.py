"""Claims of the papers, judged from datasets: one function a claim, each with a threshold fixed before the runs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import xarray as xr

from analysis.claims import song
from analysis.store import read_dataset, write_atomically
from analysis.trajectory import Panel, read_panels

Judge = Callable[[Mapping[str, xr.Dataset]], tuple[bool, str]]

CLAIMS: dict[str, tuple[str, str, Judge]] = {
    # id: (what the paper claims, what has to hold, function)
    "song-1": ("gradients align with the dominant subspace under SGD", song.ALIGNED, song.aligns),
    "song-lowrank": ("k outlier eigenvalues", song.LOW_RANK, song.low_rank),
    "song-2-dom": ("Dom-SGD stops training", song.DOM_STOPS, song.dom_stops),
    "song-2-bulk": ("Bulk-SGD is as effective as SGD", song.BULK_TRAINS, song.bulk_trains),
    "song-distance": ("Dom-SGD does not move far", song.DISTANCE, song.distance),
}


@dataclass(frozen=True)
class Verdict:
    """A claim in one setting: `holds`, `does not hold` or `not measured` (then `measured` says why)."""

    claim: str
    says: str
    setting: str
    verdict: str
    measured: str
    threshold: str
    runs: str


def judge(params: str, trajectories: Mapping[str, Path], outputs: Mapping[str, Path]) -> list[Verdict]:
    """Judge every claim in every setting and write the verdicts as JSON and CSV.

    Args:
        params: what `analysis.plan` says of the claims (JSON).
        trajectories: the trajectory file of each segment id that the claims name.
        outputs: path by format, "json" and "csv".

    Raises:
        InputError: if a dataset is missing or damaged, or an output cannot be written.
    """
    datasets = {name: read_dataset(path) for name, path in trajectories.items()}
    verdicts = [
        _judge(claim["name"], panel) for claim in json.loads(params)["claims"] for panel in read_panels(claim, datasets)
    ]
    rows = [asdict(v) for v in verdicts]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(outputs["csv"], lambda path: path.write_text(text.getvalue(), encoding="utf-8"))
    as_json = json.dumps(rows, indent=1, ensure_ascii=False) + "\n"
    write_atomically(outputs["json"], lambda path: path.write_text(as_json, encoding="utf-8"))
    return verdicts


def _judge(claim: str, panel: Panel) -> Verdict:
    says, threshold, function = CLAIMS[claim]
    diverged = [label for label, run in panel.runs.items() if run.attrs["status"] == "diverged"]
    if diverged:
        verdict, measured = "not measured", f"{', '.join(diverged)} diverged"
    else:
        holds, measured = function(panel.runs)
        verdict = "holds" if holds else "does not hold"
    ids = dict.fromkeys(i for path in panel.segments.values() for i in path)
    return Verdict(claim, says, panel.setting, verdict, measured, threshold, " ".join(ids))
