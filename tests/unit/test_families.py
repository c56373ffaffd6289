"""Families of segments: one for each value, their descendants with them, and one cell's work for one changed cell."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from analysis.plan.join import Plan, load_plan
from analysis.plan.missing import energies_missing, untrained
from sharpflat.errors import InputError
from tests.unit.test_config import PROFILE, write

EXPERIMENTS: dict[str, Any] = {
    "settings": {"mlp": {"title": "MLP", "model": "mlp"}},
    "segments": {
        "start": {"settings": ["mlp"], "rule": "sgd", "varies": ["seed"]},
        "grid": {"settings": ["mlp"], "parent": "start", "rule": "sgd", "varies": ["alpha_dom", "beta_bulk"]},
        "after": {"settings": ["mlp"], "parent": "grid", "rule": "gd"},
        "by-rate": {"settings": ["mlp"], "rule": "sgd", "varies": ["learning_rate"]},
        "bulk-by-rate": {"settings": ["mlp"], "parent": "by-rate", "rule": "sgd", "alpha_dom": 0},
        "by-holdout": {"settings": ["mlp"], "rule": "sgd", "varies": ["holdout"]},
        "bulk-by-holdout": {"settings": ["mlp"], "parent": "by-holdout", "rule": "sgd", "alpha_dom": 0},
        "by-batch": {"settings": ["mlp"], "rule": "sgd", "varies": ["batch_size"]},
        "bulk-by-batch": {"settings": ["mlp"], "parent": "by-batch", "rule": "sgd", "alpha_dom": 0},
        "gd-by-batch": {"settings": ["mlp"], "parent": "by-batch", "rule": "gd"},
        "by-step": {"settings": ["mlp"], "rule": "sgd", "varies": ["step"]},
        "bulk-by-step": {"settings": ["mlp"], "parent": "by-step", "rule": "sgd", "alpha_dom": 0},
        "alone": {"settings": ["mlp"], "rule": "sgd"},
        "by-k": {"settings": ["mlp"], "parent": "alone", "rule": "sgd", "alpha_dom": 0, "varies": ["k"]},
    },
    "figures": {
        "loss": {
            "module": "training-loss",
            "caption": "a",
            "settings": ["mlp"],
            "runs": {"SGD": "alone", "Dom": "grid"},
        }
    },
}
NUMBERS: dict[str, Any] = PROFILE["settings"]["mlp"] | {
    "segments": {
        "start": {"step": 10, "values": {"seed": [0, 1]}},
        "grid": {"step": 20, "values": {"alpha_dom": [0, 0.5, 1], "beta_bulk": [0, 1]}},
        "after": {"step": 30},
        "by-rate": {"step": 10, "values": {"learning_rate": [0.01, 0.02]}},
        "bulk-by-rate": {"step": 20},
        "by-holdout": {"step": 10, "values": {"holdout": [5, 10]}},
        "bulk-by-holdout": {"step": 20},
        "by-batch": {"step": 10, "values": {"batch_size": [4, 30]}},
        "bulk-by-batch": {"step": 20},
        "gd-by-batch": {"step": 20},
        "by-step": {"values": {"step": [0, 5]}},
        "bulk-by-step": {"step": 20},
        "alone": {"step": 10},
        "by-k": {"step": 20, "values": {"k": [2, 7]}},
    }
}
FAMILIES: dict[str, Any] = {"title": "families", "settings": {"mlp": NUMBERS}}


def plan_of(folder: Path, experiments: Any = EXPERIMENTS, profile: Any = FAMILIES) -> Plan:
    write(folder, experiments, profile)
    return load_plan("small", folder)


def varied(plan: Plan, segment: str) -> list[dict[str, float]]:
    return [member.varied for member in plan.families["mlp", segment]]


def with_values(segment: str, **values: list[Any]) -> dict[str, Any]:
    changed = copy.deepcopy(FAMILIES)
    changed["settings"]["mlp"]["segments"][segment]["values"] = values
    return changed


def test_a_family_has_a_member_for_each_combination_but_the_one_that_does_not_move(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    cells = [(0.0, 1.0), (0.5, 0.0), (0.5, 1.0), (1.0, 0.0), (1.0, 1.0)]
    expected = [{"seed": s, "alpha_dom": a, "beta_bulk": b} for s in (0, 1) for a, b in cells]
    assert varied(plan, "grid") == varied(plan, "after") == expected
    for member in plan.families["mlp", "grid"]:
        start, cell = (plan.segments[i].spec for i in member.path)
        assert (start.seed, cell.seed, start.filter) == (member.varied["seed"], member.varied["seed"], None)
        weights = (member.varied["alpha_dom"], member.varied["beta_bulk"])
        if weights == (1, 1):
            assert cell.filter is None
        else:
            assert cell.filter is not None
            assert (cell.filter.alpha_dom, cell.filter.beta_bulk) == weights
        after = [m for m in plan.families["mlp", "after"] if m.varied == member.varied]
        assert [m.path[:-1] for m in after] == [member.path]
        assert plan.segments[after[0].path[-1]].spec.filter is None


def test_what_a_run_begins_with_goes_on_in_its_descendants(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    for rate, member in zip((0.01, 0.02), plan.families["mlp", "bulk-by-rate"], strict=True):
        assert member.varied == {"learning_rate": rate}
        assert [plan.segments[i].spec.rule.learning_rate for i in member.path] == [rate, rate]
    for size, member in zip((4, 30), plan.families["mlp", "bulk-by-batch"], strict=True):
        assert member.varied == {"batch_size": size}
        assert [plan.segments[i].spec.rule.batch_size for i in member.path] == [size, size]
    for member in plan.families["mlp", "gd-by-batch"]:
        assert plan.segments[member.path[-1]].spec.rule.batch_size is None
    for holdout, member in zip((5, 10), plan.families["mlp", "bulk-by-holdout"], strict=True):
        assert [plan.segments[i].spec.problem.data.holdout for i in member.path] == [holdout, holdout]


def test_steps_and_dimensions_are_a_segments_own(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    for step, member in zip((0, 5), plan.families["mlp", "bulk-by-step"], strict=True):
        assert [plan.segments[i].spec.stop.step for i in member.path] == [step, 20]
    for k, member in zip((2, 7), plan.families["mlp", "by-k"], strict=True):
        spec = plan.segments[member.path[-1]].spec
        assert spec.filter is not None
        assert (spec.filter.k, spec.problem.k) == (k, PROFILE["settings"]["mlp"].get("k", 10))
        assert member.path[0] == plan.runs["mlp", "alone"][0]


def test_equal_work_in_and_out_of_a_family_has_one_id(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    assert plan.runs["mlp", "alone"] == plan.families["mlp", "start"][0].path
    assert len(plan.segments) == 2 + 10 + 10 + 10 * 2  # alone is start's first


def test_a_changed_value_is_one_cells_work_a_line(tmp_path: Path) -> None:
    before = plan_of(tmp_path)
    after = plan_of(tmp_path, profile=with_values("grid", alpha_dom=[0, 0.25, 1], beta_bulk=[0, 1]))
    new = set(after.segments) - set(before.segments)
    cells = [m for m in after.families["mlp", "grid"] if m.varied["alpha_dom"] == 0.25]
    children = [m for m in after.families["mlp", "after"] if m.varied["alpha_dom"] == 0.25]
    assert new == {m.path[-1] for m in (*cells, *children)}
    assert len(new) == 8


def test_figures_tell_families_from_runs(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    (panel,) = plan.figures["loss"].panels
    assert panel.runs == (("SGD", plan.runs["mlp", "alone"]),)
    ((label, members),) = panel.families
    assert label == "Dom"
    assert members == tuple((m.varied, m.path) for m in plan.families["mlp", "grid"])
    wanted = {i for m in plan.families["mlp", "grid"] for i in m.path} | set(plan.runs["mlp", "alone"])
    assert set(plan.figures["loss"].inputs) == {f"segments/{i}/trajectory.nc" for i in wanted}


def test_a_profile_that_gives_no_seeds_has_the_settings(tmp_path: Path) -> None:
    """One run, not a family of one: a figure is drawn as if nothing varied."""
    one = copy.deepcopy(FAMILIES)
    one["settings"]["mlp"] |= {"seed": 7}
    del one["settings"]["mlp"]["segments"]["start"]["values"]
    plan = plan_of(tmp_path, profile=one)
    assert ("mlp", "start") not in plan.families
    (start,) = plan.runs["mlp", "start"]
    assert plan.segments[start].spec.seed == 7
    cells = plan.families["mlp", "grid"]
    assert [sorted(member.varied) for member in cells] == [["alpha_dom", "beta_bulk"]] * 5
    assert {member.path[0] for member in cells} == {start}


FIRST = {"settings": ["mlp"], "parent": "grid", "seeds": "first", "rule": "gd"}


def test_what_takes_the_first_seed_shares_its_segments(tmp_path: Path) -> None:
    experiments = copy.deepcopy(EXPERIMENTS)
    experiments["segments"]["of-first"] = FIRST
    experiments["figures"]["loss"] |= {"runs": {"SGD": "start", "Dom": "grid"}, "seeds": "first"}
    experiments["claims"] = {"song-1": {"settings": ["mlp"], "runs": {"SGD": "start"}, "seeds": "first"}}
    profile = copy.deepcopy(FAMILIES)
    profile["settings"]["mlp"]["segments"]["of-first"] = {"step": 30}  # as `after`
    plan = plan_of(tmp_path, experiments, profile)
    assert list(plan.segments) == list(plan_of(tmp_path).segments)  # nothing is trained for it

    after = [member for member in plan.families["mlp", "after"] if member.varied["seed"] == 0]
    found = plan.families["mlp", "of-first"]
    assert [member.path for member in found] == [member.path for member in after]
    assert [sorted(member.varied) for member in found] == [["alpha_dom", "beta_bulk"]] * 5

    (panel,) = plan.figures["loss"].panels
    assert panel.runs == (("SGD", plan.families["mlp", "start"][0].path),)
    ((_, cells),) = panel.families
    assert [path for _, path in cells] == [member.path[:-1] for member in found]
    (judged,) = (claim for claim in plan.claims.claims if claim.name == "song-1")
    assert (judged.panels[0].runs, judged.panels[0].families) == (panel.runs, ())


def test_a_spectrum_that_is_not_wanted(tmp_path: Path) -> None:
    experiments = copy.deepcopy(EXPERIMENTS)
    experiments["segments"]["grid"]["without"] = ["spectrum"]
    plan = plan_of(tmp_path, experiments)
    assert all("spectrum" not in plan.segments[m.path[-1]].spec.probes for m in plan.families["mlp", "grid"])


@pytest.mark.parametrize(
    ("segment", "change", "message"),
    [
        ("grid", {"varies": ["alpha_dom", "alpha_dom"]}, "segments.grid.varies: names something twice"),
        ("grid", {"varies": ["holdout"]}, "segments.grid.varies: only a segment without a parent can vary in holdout"),
        (
            "bulk-by-rate",
            {"varies": ["learning_rate"]},
            "segments.bulk-by-rate.varies: a segment that it descends from varies in learning_rate already",
        ),
        (
            "by-batch",
            {"batch": "full"},
            "segments.by-batch.varies: names batch_size; the segment is on the full batch",
        ),
        ("start", {"seeds": "first"}, "segments.start.seeds: not allowed; the segment has no parent"),
        (
            "start",
            {"stop": "aligned", "without": ["spectrum"]},
            "segments.start.without: must not name spectrum: the segment stops by the alignment",
        ),
        (
            "grid",
            {"varies": ["width"]},
            "segments.grid.varies.0: found 'width'; input should be 'seed', 'learning_rate'",
        ),
    ],
)
def test_mistakes_in_experiments(tmp_path: Path, segment: str, change: dict[str, Any], message: str) -> None:
    experiments = copy.deepcopy(EXPERIMENTS)
    experiments["segments"][segment] |= change
    with pytest.raises(InputError) as error:
        plan_of(tmp_path, experiments)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("segment", "numbers", "message"),
    [
        ("by-rate", {"step": 10}, "segments.by-rate.values.learning_rate: missing; the segment varies in it"),
        (
            "after",
            {"step": 30, "values": {"k": [3]}},
            "segments.after.values.k: not allowed; experiments.yaml does not have it varied here",
        ),
        ("start", {"step": 10, "values": {"seed": [3, 3]}}, "segments.start.values.seed: a value is given twice"),
        ("start", {"step": 10, "values": {"seed": []}}, "segments.start.values.seed: found []"),
        (
            "grid",
            {"step": 20, "values": {"alpha_dom": [0], "beta_bulk": [0]}},
            "segments.grid.values: alpha_dom and beta_bulk are 0 alone, which does not move",
        ),
        ("by-step", {"step": 5, "values": {"step": [1]}}, "segments.by-step: steps and step are not allowed"),
        (
            "bulk-by-rate",
            {"step": 20, "learning_rate": 0.2},
            "segments.bulk-by-rate.learning_rate: not allowed; the segment varies in it",
        ),
        (
            "by-holdout",
            {"step": 5, "values": {"holdout": [100]}},
            "segments.by-holdout.values.holdout: found 100; fewer than",
        ),
        (
            "by-holdout",
            {"step": 5, "values": {"holdout": [85]}},
            "batch_size: found 20; at most the number of training",
        ),
        (
            "by-batch",
            {"step": 10, "values": {"batch_size": [4, 101]}},
            "segments.by-batch.values.batch_size: found 101; at most the number of training examples, 100",
        ),
        (
            "by-k",
            {"step": 20, "values": {"k": [10**6]}},
            "segments.by-k.values.k: found 1000000; at most the number of",
        ),
    ],
)
def test_mistakes_in_a_profile(tmp_path: Path, segment: str, numbers: dict[str, Any], message: str) -> None:
    profile = copy.deepcopy(FAMILIES)
    profile["settings"]["mlp"]["segments"][segment] = numbers
    with pytest.raises(InputError) as error:
        plan_of(tmp_path, profile=profile)
    assert f"small.yaml: settings.mlp.{message}" in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_energies_are_of_snapshots_and_leave_training_alone(tmp_path: Path) -> None:
    experiments, profile = copy.deepcopy(EXPERIMENTS), copy.deepcopy(FAMILIES)
    experiments["segments"] = {
        "start": EXPERIMENTS["segments"]["start"] | {"measures": {"snapshots": ["mlp"]}},
        "on": {"settings": ["mlp"], "parent": "start", "rule": "sgd", "measures": {"snapshots": ["mlp"]}},
    }
    experiments["figures"]["loss"] |= {"runs": {"SGD": "on"}, "reads": "energies"}
    numbers = profile["settings"]["mlp"]
    numbers["segments"] = {"start": NUMBERS["segments"]["start"], "on": {"step": 20}}
    numbers["probes"] = numbers["probes"] | {"snapshots": 5}
    before = plan_of(tmp_path, experiments, profile)
    assert len(before.energies) == len(before.segments) == 4
    for energies in before.energies.values():
        segment = before.segments[energies.spec.segment]
        assert (energies.input, energies.subsets) == (segment.snapshots, segment.subsets)
        assert (energies.spec.problem, energies.spec.seed) == (segment.spec.problem, segment.spec.seed)
    assert {e.file for e in before.energies.values()} < set(before.figures["loss"].inputs)
    (together,) = energies_missing(before, lambda file: False)
    assert len(together) == 4
    assert energies_missing(before, lambda file: True) == ()
    assert untrained(before, lambda file: not file.endswith("snapshots.nc")) == set()
    assert untrained(before, lambda file: not file.endswith("snapshots.nc") and file != energies.file) == {segment.id}

    numbers["energies"] = {"probes": 77}
    after = plan_of(tmp_path, experiments, profile)
    assert after.segments == before.segments
    assert set(after.energies).isdisjoint(before.energies)
    assert after.figures["loss"].record != before.figures["loss"].record

    del experiments["segments"]["on"]["measures"]
    with pytest.raises(
        InputError, match=r"figures\.loss\.reads: reads energies, but the snapshots of SGD are not measured"
    ):
        plan_of(tmp_path, experiments, profile)
