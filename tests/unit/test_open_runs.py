"""All runs of a figure, a claim or a family as one dataset."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import xarray as xr

from analysis.archive import read_archive
from analysis.open_runs import _panels, _together, open_runs
from analysis.plan.plan import Plan, PlannedMember
from analysis.runs.panels import Member, Panel
from analysis.store.words import Words
from sharpflat.errors import InputError
from tests.unit.test_words import undescribed

RESULTS = Path(__file__).parents[2] / "results"


def run(name: str, steps: list[int], **more: list[float]) -> xr.Dataset:
    words = Words("some", "some").attributes()
    variables = {"loss": [float(step) for step in steps], **more}
    return xr.Dataset(
        {variable: ("step", values, words) for variable, values in variables.items()},
        coords={"step": ("step", steps, words)},
        attrs={"id": name, "status": "completed", "title": name},
    )


def test_runs_of_other_steps_and_variables_are_one_dataset() -> None:
    """Also of a family that varies in the step of the switch, which is no dimension."""
    members = [Member({"step": 5, "seed": 1}, run("b", [0, 5, 10], overlap=[1, 2, 3]), ["b"])]
    found = _together(Panel("mlp", "MLP", {"sgd": run("a", [0, 10])}, {"sgd": ["a"]}, families={"bulk": members}))
    assert found.step.values.tolist() == [0, 5, 10]
    assert found.label.values.tolist() == ["sgd", "bulk"]
    assert found.segment.values.tolist() == ["a", "b"]
    np.testing.assert_array_equal(found.switch_step, [np.nan, 5])
    np.testing.assert_array_equal(found.seed, [np.nan, 1])
    np.testing.assert_array_equal(found.loss, [[0, np.nan, 10], [0, 5, 10]])
    np.testing.assert_array_equal(found.overlap, [[np.nan] * 3, [1, 2, 3]])
    assert undescribed(found) == []
    assert found.attrs["title"] == "Runs of MLP", "not that of the first run"


def test_a_segment_stands_for_the_runs_that_end_in_it() -> None:
    members = (PlannedMember({"seed": 0}, ("a", "b")), PlannedMember({"seed": 1}, ("c", "d")))
    runs = {("mlp", "sgd"): ("a",), ("cnn", "bulk"): ("e", "f")}
    plan = cast(
        Plan,
        SimpleNamespace(
            profile="p", figures={}, claims=SimpleNamespace(claims=()), runs=runs, families={("mlp", "bulk"): members}
        ),
    )
    cnn, mlp = _panels(plan, "bulk")
    assert (cnn.setting, cnn.paths()) == ("cnn", [("e", "f")])
    assert (mlp.setting, mlp.families) == ("mlp", (("bulk", (({"seed": 0}, ("a", "b")), ({"seed": 1}, ("c", "d")))),))
    with pytest.raises(InputError, match="p has no figure, claim or segment 'blk'; did you mean \"bulk\""):
        _panels(plan, "blk")


@pytest.mark.slow
def test_every_figure_of_the_archive_is_one_dataset() -> None:
    plan = read_archive(RESULTS / "reference" / "quick").plan()
    for name in ("zs-fig04", "zs-switch-step", "song-fig01", "song-fig06"):
        for panel in plan.figures[name].panels:
            runs = open_runs("quick", name, panel.setting, archived=True, results=RESULTS)
            members = list(panel.members())
            assert runs.sizes["run"] == len(members)
            assert np.isfinite(runs.loss.values[:, 0]).all()
            for position, member in enumerate(members):
                assert runs.label.values[position] == member.label
                assert runs.segment.values[position] == member.path[-1]
                for number, value in member.varied.items():
                    assert runs["switch_step" if number == "step" else number].values[position] == value
    with pytest.raises(InputError, match=r'quick has no figure, claim or segment .zs-fig99.; did you mean "zs-fig'):
        open_runs("quick", "zs-fig99", archived=True, results=RESULTS)
    with pytest.raises(InputError, match="song-fig01: found setting None; allowed: mlp, cnn"):
        open_runs("quick", "song-fig01", archived=True, results=RESULTS)
