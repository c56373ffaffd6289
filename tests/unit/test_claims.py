"""Claims are judged by what was measured: made-up runs on either side of each threshold."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from analysis.claims import CLAIMS, judge, song
from analysis.plan import load_plan
from analysis.store import write_dataset


def run(loss: float, distance: float = 1.0, alignment: float = 0.95, gap: float = 2.0) -> xr.Dataset:
    """SGD from loss 1 to e⁻¹ at the switch at step 10, then to `loss` at step 20; k = 1."""
    steps = np.arange(0, 21, 10)
    spectrum = np.arange(0, 21, 5)
    return xr.Dataset(
        {
            "loss": ("step", [1.0, np.exp(-1), loss]),
            "distance": ("step", [0.0, 0.0, distance]),
            "alignment": ("spectrum_step", [0.0, 0.0, alignment, alignment, alignment]),
            "eigenvalues": (("spectrum_step", "index"), [[1.0, 1.0]] * 2 + [[gap, 1.0]] * 3),
        },
        coords={"step": steps, "spectrum_step": spectrum, "index": [1, 2]},
        attrs={
            "status": "completed",
            "switches": [10],
            "specification": json.dumps({"problem": {"k": 1}}),
        },
    )


SGD = run(np.exp(-2))  # a drop in log-loss of 1


@pytest.mark.parametrize(
    ("function", "label", "value", "holds"),
    [
        (song.dom_stops, "Dom-SGD", run(np.exp(-1.099)), True),
        (song.dom_stops, "Dom-SGD", run(np.exp(-1.101)), False),
        (song.dom_stops, "Dom-SGD", run(np.exp(-0.9)), True),  # its loss rises
        (song.bulk_trains, "Bulk-SGD", run(np.exp(-1.901)), True),
        (song.bulk_trains, "Bulk-SGD", run(np.exp(-1.899)), False),
    ],
)
def test_drops_in_log_loss_are_compared_with_sgds(function, label, value, holds):
    assert function({"SGD": SGD, label: value})[0] is holds


def test_nothing_is_as_effective_as_an_sgd_that_does_not_train():
    flat = run(np.exp(-1))
    assert song.bulk_trains({"SGD": flat, "Bulk-SGD": SGD}) == (
        False,
        "log-loss fell by 1.0000, SGD's by 0.0000 (SGD's did not fall) in 10 steps",
    )


@pytest.mark.parametrize(("alignment", "holds"), [(0.9, True), (0.89, False)])
def test_alignment_is_the_last_halfs_median(alignment, holds):
    assert song.aligns({"SGD": run(1, alignment=alignment)}) == (holds, f"median χ_k {alignment:.3f}")


@pytest.mark.parametrize(("gap", "holds"), [(1.25, True), (1.24, False)])
def test_the_gap_is_between_the_kth_and_the_next_eigenvalue(gap, holds):
    assert song.low_rank({"SGD": run(1, gap=gap)}) == (holds, f"median λ_k/λ_(k+1) {gap:.2f}")


@pytest.mark.parametrize(
    ("dom", "bulk", "holds"), [(0.25, 1.2, True), (0.26, 1.0, False), (0.2, 1.21, False), (0.2, 0.79, False)]
)
def test_distances_are_compared_with_sgds(dom, bulk, holds):
    runs = {"SGD": run(1, distance=1.0), "Dom-SGD": run(1, distance=dom), "Bulk-SGD": run(1, distance=bulk)}
    assert song.distance(runs)[0] is holds


def test_every_configured_claim_has_a_function_and_the_reverse():
    planned = json.loads(load_plan("quick").claims.params)["claims"]
    assert {claim["name"] for claim in planned} == set(CLAIMS)


def write_runs(folder: Path, dom: xr.Dataset) -> tuple[str, dict[str, Path]]:
    for name, dataset in {"sgd": SGD, "dom": dom}.items():
        alone = dataset.assign_attrs(first_step=0).assign(test_loss=("test_step", [1.0]), test_step=("test_step", [0]))
        write_dataset(
            alone.drop_attrs(deep=False).assign_attrs({k: v for k, v in alone.attrs.items() if k != "switches"}),
            folder / f"{name}.nc",
        )
    panel = {"setting": "mlp", "title": "MLP", "runs": [["SGD", ["sgd"]], ["Dom-SGD", ["dom"]]]}
    params = json.dumps({"claims": [{"name": "song-1", "panels": [panel]}]})
    return params, {name: folder / f"{name}.nc" for name in ("sgd", "dom")}


def test_verdicts_are_written_as_csv_and_json(tmp_path):
    params, paths = write_runs(tmp_path, run(1))
    outputs = {kind: tmp_path / f"claims.{kind}" for kind in ("json", "csv")}
    (verdict,) = judge(params, paths, outputs)
    assert (verdict.verdict, verdict.measured, verdict.runs) == ("holds", "median χ_k 0.950", "sgd dom")
    rows = json.loads(outputs["json"].read_text(encoding="utf-8"))
    with outputs["csv"].open(encoding="utf-8", newline="") as file:
        assert list(csv.DictReader(file)) == rows
    assert rows[0]["threshold"] == "median χ_k(∇L) over the last half of SGD ≥ 0.9"


def test_a_diverged_run_is_not_measured(tmp_path):
    params, paths = write_runs(tmp_path, run(1).assign_attrs(status="diverged"))
    (verdict,) = judge(params, paths, {kind: tmp_path / f"claims.{kind}" for kind in ("json", "csv")})
    assert (verdict.verdict, verdict.measured) == ("not measured", "Dom-SGD diverged")
