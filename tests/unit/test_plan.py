"""The plan: names that hash what decides, and batches of what is missing."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest

from analysis.plan.join import Plan, PlannedSegment, load_plan
from analysis.plan.missing import batches as batches_of
from analysis.plan.missing import expected_refreshes, untrained
from sharpflat.errors import InputError
from tests.unit.test_config import EXPERIMENTS, PROFILE, changed, write

TREE: dict[str, Any] = {
    "settings": {"mlp": {"title": "MLP", "model": "mlp"}, "twin": {"title": "Twin", "model": "mlp"}},
    "segments": {
        "root": {"settings": ["mlp", "twin"], "rule": "sgd"},
        "left": {"settings": ["mlp"], "parent": "root", "rule": "sgd", "alpha_dom": 0},
        "right": {"settings": ["mlp", "twin"], "parent": "root", "rule": "sgd"},
        "leaf": {"settings": ["mlp"], "parent": "left", "rule": "gd"},
        "other-leaf": {"settings": ["mlp"], "parent": "left", "rule": "gd", "beta_bulk": 0.5},
    },
    "figures": {
        "leaves": {"module": "training-loss", "caption": "a", "settings": ["mlp"], "runs": {"SGD": "leaf"}},
        "right": {"module": "distance", "caption": "b", "settings": ["mlp", "twin"], "runs": {"SGD": "right"}},
    },
}
NUMBERS = PROFILE["settings"]["mlp"] | {
    "segments": {name: {"steps": 10 * (i + 1)} for i, name in enumerate(TREE["segments"])},
}
TREE_PROFILE: dict[str, Any] = {
    "title": "tree",
    "settings": {
        "mlp": NUMBERS,
        "twin": copy.deepcopy(NUMBERS) | {"seed": 1, "segments": {"root": {"steps": 10}, "right": {"steps": 30}}},
    },
}


def plan_of(folder: Path, experiments: Any = TREE, profile: Any = TREE_PROFILE) -> Plan:
    write(folder, experiments, profile)
    return load_plan("small", folder)


def ids(plan: Plan) -> dict[tuple[str, str], str]:
    return {run: path[-1] for run, path in plan.runs.items()}


def renamed(before: Plan, after: Plan) -> set[tuple[str, str]]:
    return {run for run, name in ids(after).items() if ids(before)[run] != name}


def figure_params(plan: Plan) -> dict[str, str]:
    return {name: figure.params for name, figure in plan.figures.items()}


def test_two_loads_are_equal(tmp_path: Path) -> None:
    assert plan_of(tmp_path) == plan_of(tmp_path)


def test_ids_are_readable_and_stable(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    stems = {run: name.rpartition("-")[0] for run, name in ids(plan).items()}
    assert stems == {
        ("mlp", "root"): "mlp-mlxtend4k-n100.sgd",
        ("twin", "root"): "twin-mlxtend4k-n100.sgd",
        ("mlp", "left"): "mlp-mlxtend4k-n100.bulk-sgd",
        ("mlp", "right"): "mlp-mlxtend4k-n100.sgd",
        ("twin", "right"): "twin-mlxtend4k-n100.sgd",
        ("mlp", "leaf"): "mlp-mlxtend4k-n100.gd",
        ("mlp", "other-leaf"): "mlp-mlxtend4k-n100.gd-a1-b0.5",
    }
    assert all(len(name.rpartition("-")[2]) == 8 for name in plan.segments)
    assert plan.runs["mlp", "leaf"] == tuple(ids(plan)["mlp", n] for n in ("root", "left", "leaf"))
    assert next(iter(plan.segments)) == ids(plan)["mlp", "root"], "parents come before children"


def test_equal_work_has_one_id_under_any_name(tmp_path: Path) -> None:
    twice = changed(TREE, "segments/again", TREE["segments"]["left"])
    numbers = changed(TREE_PROFILE, "settings/mlp/segments/again", {"steps": 20})
    plan = plan_of(tmp_path, twice, numbers)
    assert ids(plan)["mlp", "again"] == ids(plan)["mlp", "left"]
    assert set(plan.segments) == set(plan_of(tmp_path).segments)


def test_names_and_titles_of_settings_decide_no_arrays(tmp_path: Path) -> None:
    before = plan_of(tmp_path)
    after = plan_of(tmp_path, changed(TREE, "settings/mlp/title", "Perceptron"))
    assert after.segments == before.segments
    assert figure_params(after) != figure_params(before)


ALL_OF_MLP = {("mlp", n) for n in TREE["segments"]}
BELOW_LEFT = {("mlp", n) for n in ("left", "leaf", "other-leaf")}


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("segments/leaf/steps", 41, {("mlp", "leaf")}),
        ("segments/leaf/learning_rate", 0.2, {("mlp", "leaf")}),
        ("segments/left/steps", 21, BELOW_LEFT),
        ("segments/root/steps", 11, ALL_OF_MLP),
        ("learning_rate", 0.2, ALL_OF_MLP),
        ("seed", 5, ALL_OF_MLP),
        ("k", 3, ALL_OF_MLP),
        ("dtype", "float64", ALL_OF_MLP),
        ("data/pooling", 2, ALL_OF_MLP),
        ("data/test_examples", 50, ALL_OF_MLP),
        ("probes/spectrum", 7, ALL_OF_MLP),
        ("probes/spectrum", {"every": 10, "ema_factor": 0.5}, ALL_OF_MLP),
        ("model/activation", "relu", ALL_OF_MLP),
        # Only what is filtered depends on the filter's numbers, or what descends from it.
        ("refresh_every", 2, BELOW_LEFT),
        ("refresh_error", 0.05, BELOW_LEFT),
        ("refresh_overlap", 0.999, BELOW_LEFT),
        ("segments/left/refresh_error", 0.05, BELOW_LEFT),
        ("segments/left/refresh_every", 1, set()),
        ("tolerance", 0.001, BELOW_LEFT),
        # Defaults written out are no change.
        ("seed", 0, set()),
        ("refresh_every", 1, set()),
        ("model/activation", "tanh", set()),
        ("segments/leaf/learning_rate", 0.1, set()),
        ("learning_rate", "1e-1", set()),
        ("probes/spectrum", {"every": 10, "tolerance": 0.05, "next_tolerance": 0.01}, set()),
        # What nothing measures here
        ("probes/rates", {"every": 3, "tolerance": 0.1}, set()),
        ("k", 10, set()),
    ],
)
def test_a_number_renames_its_segment_and_its_descendants(
    tmp_path: Path, key: str, value: Any, expected: set[tuple[str, str]]
) -> None:
    before = plan_of(tmp_path)
    after = plan_of(tmp_path, TREE, changed(TREE_PROFILE, f"settings/mlp/{key}", value))
    assert renamed(before, after) == expected
    redrawn = {name for name, params in figure_params(after).items() if figure_params(before)[name] != params}
    assert redrawn == {
        figure
        for figure, path in (("leaves", ("root", "left", "leaf")), ("right", ("root", "right")))
        if expected & {("mlp", segment) for segment in path}
    }


def test_the_weights_of_a_rule_rename_it_and_its_descendants(tmp_path: Path) -> None:
    before = plan_of(tmp_path)
    after = plan_of(tmp_path, changed(TREE, "segments/left/alpha_dom", 0.1))
    assert renamed(before, after) == BELOW_LEFT


def test_figures_decide_no_segments(tmp_path: Path) -> None:
    before = plan_of(tmp_path)
    for key, value in (
        ("figures/leaves/caption", "other"),
        ("figures/leaves/module", "alignment"),
        ("figures/leaves/runs", {"GD": "leaf"}),
        ("figures/leaves/runs", {"SGD": "left"}),
    ):
        after = plan_of(tmp_path, changed(TREE, key, value))
        assert after.segments == before.segments
        assert figure_params(after)["right"] == figure_params(before)["right"]
        assert figure_params(after)["leaves"] != figure_params(before)["leaves"]


def shuffled(value: Any, source: random.Random) -> Any:
    if not isinstance(value, dict):
        return value
    items = [(key, shuffled(child, source)) for key, child in value.items()]
    source.shuffle(items)
    return dict(items)


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_keys_changes_nothing(tmp_path: Path, seed: int) -> None:
    """Except that the runs of a figure are drawn in their order."""
    source = random.Random(seed)
    before = plan_of(tmp_path, EXPERIMENTS, PROFILE)
    experiments = shuffled(EXPERIMENTS, source)
    for name, figure in EXPERIMENTS["figures"].items():
        experiments["figures"][name]["runs"] = figure["runs"]
    after = plan_of(tmp_path, experiments, shuffled(PROFILE, source))
    assert after.segments == before.segments
    assert {n: s.params for n, s in after.segments.items()} == {n: s.params for n, s in before.segments.items()}
    assert after.runs == before.runs
    assert figure_params(after) == figure_params(before)
    assert after.claims.params == before.claims.params


def test_a_profile_may_leave_settings_out(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, TREE, {"title": "half", "settings": {"twin": TREE_PROFILE["settings"]["twin"]}})
    assert set(plan.runs) == {("twin", "root"), ("twin", "right")}
    assert list(plan.figures) == ["right"]
    assert [panel.setting for panel in plan.figures["right"].panels] == ["twin"]


# ---------------------------------------------------------------- batches
@pytest.mark.slow
def test_a_model_with_slow_products_counts_for_more() -> None:
    plan = load_plan("quick")
    (mlp, *_), (encoder, *_) = (
        [s.spec for s in plan.segments.values() if s.spec.problem.model.kind == kind and s.spec.filter is None]
        for kind in ("mlp", "encoder")
    )
    as_encoder = mlp.model_copy(update={"problem": mlp.problem.model_copy(update={"model": encoder.problem.model})})
    assert expected_refreshes(as_encoder) == 10 * expected_refreshes(mlp)


def batches(plan: Plan, done: set[str] | None = None) -> list[list[str]]:
    return [[s.id for s in batch.segments] for batch in batches_of(plan, set(plan.segments) - (done or set()))]


def small_batches(folder: Path, limit: int) -> Plan:
    return plan_of(folder, TREE, TREE_PROFILE | {"batch_steps": limit})


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        # Everything on the same data in one process
        (10**6, [{"mlp root", "mlp left", "mlp right", "mlp leaf", "mlp other-leaf", "twin root", "twin right"}]),
        # A family that is too large: its first segment alone, siblings together, with their own families
        (
            100,
            [
                {"mlp root"},
                {"mlp left", "mlp leaf", "mlp other-leaf", "mlp right"},
                {"twin root", "twin right"},
            ],
        ),
        (
            1,
            [
                {n}
                for n in ("mlp root", "mlp left", "mlp right", "mlp leaf", "mlp other-leaf", "twin root", "twin right")
            ],
        ),
    ],
)
def test_families_share_a_batch_as_far_as_they_are_small(tmp_path: Path, limit: int, expected: list[set[str]]) -> None:
    plan = small_batches(tmp_path, limit)
    name = {segment_id: " ".join(run) for run, segment_id in ids(plan).items()}
    found = batches_of(plan, plan.segments)
    assert sorted(sorted(name[s.id] for s in batch.segments) for batch in found) == sorted(map(sorted, expected))
    for batch in found:
        assert len({s.subsets for s in batch.segments}) == 1
        assert batch.name == batch.segments[0].id
        assert batch.refreshes == round(sum(expected_refreshes(s.spec) for s in batch.segments))
        trained = set(batch.parents)
        assert not trained & {s.id for s in batch.segments}
        for segment in batch.segments:
            assert segment.spec.parent is None or segment.spec.parent in trained, "parents come before children"
            trained.add(segment.id)


def test_what_more_waits_for_goes_first(tmp_path: Path) -> None:
    plan = small_batches(tmp_path, 1)
    priority = {batch.name: batch.priority for batch in batches_of(plan, plan.segments)}
    name = ids(plan)
    assert priority[name["mlp", "root"]] > priority[name["mlp", "left"]] > priority[name["mlp", "leaf"]] > 0


def test_a_state_is_missed_only_by_what_begins_from_it(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    named = {name: plan.segments[path[-1]] for (setting, name), path in plan.runs.items() if setting == "mlp"}
    root, left, leaf = (named[name] for name in ("root", "left", "leaf"))
    for lost, expected in (
        ([leaf.trajectory], [leaf]),
        ([left.state], []),
        ([root.state, left.state, leaf.state], []),
        ([left.state, leaf.trajectory], [left, leaf]),
        ([root.state, leaf.trajectory], [leaf]),  # its parent's state is there
        ([root.state, left.state, leaf.trajectory], [root, left, leaf]),
    ):
        assert untrained(plan, lambda file, lost=lost: file not in lost) == {segment.id for segment in expected}


def test_batches_hold_only_what_is_missing(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    everything = set(plan.segments)
    assert batches(plan, everything) == []
    for segment in plan.segments:
        assert batches(plan, everything - {segment}) == [[segment]]


def test_a_batch_is_full_once_its_work_reaches_the_limit(tmp_path: Path) -> None:
    names = [f"cell-{i}" for i in range(7)]
    segments: dict[str, Any] = {"root": TREE["segments"]["root"] | {"settings": ["mlp"]}}
    cells = {
        n: {"settings": ["mlp"], "parent": "root", "rule": "sgd", "alpha_dom": i / 10} for i, n in enumerate(names)
    }
    experiments = {"settings": TREE["settings"], "segments": segments | cells, "figures": {}}
    lengths = {"root": {"steps": 5}} | {n: {"steps": 100} for n in names}

    def sizes(limit: int, **numbers: Any) -> list[int]:
        settings = {"mlp": NUMBERS | numbers | {"segments": lengths}}
        plan = plan_of(tmp_path, experiments, {"title": "a", "batch_steps": limit, "settings": settings})
        found = batches(plan)
        assert sorted(s for batch in found for s in batch) == sorted(plan.segments), "each segment in one batch"
        return [len(batch) for batch in found if batch != [ids(plan)["mlp", "root"]]]

    assert sizes(300) == [3, 3, 1]
    assert sizes(1) == [1] * 7
    assert sizes(10**6) == [8]  # the root with them
    assert sizes(300, refresh_every=100) == [8]


def test_params_say_all_that_a_job_needs(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    for name, segment in plan.segments.items():
        assert isinstance(segment, PlannedSegment)
        params = json.loads(segment.params)
        assert params["id"] == name
        assert type(segment.spec).model_validate(params["spec"]) == segment.spec
        assert segment.params == json.dumps(params, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


# ---------------------------------------------------------------- what else is measured
def test_probes_are_the_settings_with_the_segments_own(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, EXPERIMENTS, PROFILE)
    probes = {n: plan.segments[plan.runs["mlp", n][-1]].spec.probes for n in ("dom", "sam", "adam")}
    intervals = [{kind: numbers.every for kind, numbers in of.items()} for of in probes.values()]
    usual = {"loss": 5, "spectrum": 10, "test": 10}
    assert intervals == [usual, {**usual, "spectrum": 4, "snapshots": 5}, {**usual, "rates": 2, "snapshots": 5}]


def test_a_segment_overrides_single_numbers_of_a_probe(tmp_path: Path) -> None:
    profile = changed(PROFILE, "settings/mlp/probes/spectrum", {"every": 10, "ema_factor": 0.5})
    own = {"spectrum": {"tolerance": 0.1}, "loss": 7}
    plan = plan_of(tmp_path, EXPERIMENTS, changed(profile, "settings/mlp/segments/gd/probes", own))
    probes = plan.segments[plan.runs["mlp", "gd"][-1]].spec.probes
    assert probes["spectrum"].model_dump() == {
        "every": 10,
        "ema_factor": 0.5,
        "tolerance": 0.1,
        "next_tolerance": 0.01,
    }
    assert probes["loss"].every == 7


def test_a_usual_probe_can_be_left_out(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, changed(EXPERIMENTS, "segments/gd/without", ["spectrum", "test"]), PROFILE)
    assert set(plan.segments[plan.runs["mlp", "gd"][-1]].spec.probes) == {"loss"}


def test_rules_have_their_own_numbers(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, EXPERIMENTS, PROFILE)
    rules = {n: plan.segments[plan.runs["mlp", n][-1]].spec.rule for n in ("warm-up", "gd", "sam", "adam")}
    assert [(r.kind, r.learning_rate, r.batch_size) for r in rules.values()] == [
        ("sgd", 0.1, 20),
        ("sgd", 0.2, None),
        ("sam", 0.1, None),
        ("adam", 0.1, 20),
    ]
    assert (rules["sam"].rho, rules["adam"].momentum, rules["gd"].momentum) == (0.1, 0.5, 0.0)
    names = [plan.runs["mlp", n][-1].partition(".")[2].rpartition("-")[0] for n in ("sam", "adam")]
    assert names == ["sam", "adam-b20-m0.5"]


def test_minibatches_may_be_drawn_with_replacement(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, changed(EXPERIMENTS, "segments/warm-up/batch", "uniform"), PROFILE)
    assert plan.segments[plan.runs["mlp", "warm-up"][0]].spec.rule.replacement


def test_distances_are_named_by_what_they_are_between(tmp_path: Path) -> None:
    before = plan_of(tmp_path, EXPERIMENTS, PROFILE)
    (planned,) = before.distances.values()
    assert planned.spec.runs == (before.runs["mlp", "sam"], before.runs["mlp", "adam"])
    assert planned.id.startswith("mlp-mlxtend4k-n100.sam-adam-b20-m0.5-")
    assert planned.file in before.figures["apart"].inputs
    assert len(planned.inputs) == 2
    after = plan_of(tmp_path, EXPERIMENTS, changed(PROFILE, "settings/mlp/segments/adam/steps", 11))
    assert not set(after.distances) & set(before.distances)
    segment = before.segments[planned.spec.runs[0][-1]]
    assert segment.snapshots == planned.inputs[0]
    assert segment.snapshots in segment.files
    snapshots = set(planned.inputs)
    assert untrained(before, lambda file: file not in snapshots) == set()
    both = {id_ for run in planned.spec.runs for id_ in run}
    assert untrained(before, lambda file: file not in {*snapshots, planned.file}) == both
    assert untrained(before, lambda file: file not in snapshots, [segment.snapshots]) == {segment.id}


def test_a_record_is_named_by_what_the_figure_is_made_from(tmp_path: Path) -> None:
    before = plan_of(tmp_path).figures["leaves"]
    after = plan_of(tmp_path, changed(TREE, "figures/leaves/caption", "b")).figures["leaves"]
    assert before.record != after.record
    assert before.record.startswith("made-from/leaves-")


def test_sharing_counts_each_beginning_once(tmp_path: Path) -> None:
    """Runs of the figures: mlp leaf (10 + 20 + 40 steps), mlp right (10 + 30), twin right (10 + 30)."""
    shared = plan_of(tmp_path).sharing()
    assert (shared.segments, shared.runs) == (7, 3)
    assert shared.steps == 10 + 20 + 30 + 40 + 50 + 10 + 30
    assert shared.steps_alone == (10 + 20 + 40) + (10 + 30) + (10 + 30)


def test_sharing_counts_steps_up_to_a_global_step(tmp_path: Path) -> None:
    profile = changed(TREE_PROFILE, "settings/mlp/segments/leaf", {"step": 100})
    assert plan_of(tmp_path, TREE, profile).sharing().steps_alone == 100 + 40 + 40


@pytest.mark.parametrize("name", ["reference", "redrawn"])
def test_names_of_the_folders_of_archives_are_no_profiles(tmp_path, name):
    (tmp_path / f"{name}.yaml").write_text("title: x\nsettings: {}\n", encoding="utf-8")
    with pytest.raises(InputError, match=f"profile: found '{name}'; the results have a folder of that name"):
        load_plan(name, tmp_path)
