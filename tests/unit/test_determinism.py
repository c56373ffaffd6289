"""Equal runs give equal arrays. Elsewhere: interrupted at every step (test_segment), each rule resumed (test_segment),
a family in one process or one by one, stopped or not (tests/workflow/test_batch)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from analysis.execution.tasks import Task
from analysis.measurement.energies import energies_along
from analysis.plan.plan import PlannedSegment
from analysis.specs import EnergiesSpec, FilterSpec, SegmentSpec, StopSpec
from analysis.store.netcdf import PROVENANCE, read_dataset, write_dataset
from analysis.training.batch import train_batch
from analysis.training.problem import make_problem
from analysis.training.segment import Result, train_segment
from tests.covering import some
from tests.specs import probes
from tests.unit.test_segment import RULES, TEST, TRAIN, spec

ROOT = Path(__file__).resolve().parents[2]
PROBES = probes(loss=1, test=5, spectrum=2, rates=3, snapshots=2)


def wanted(rule: str = "momentum", seed: int = 7, parent: str | None = None) -> SegmentSpec:
    """In float32, as what is trained; filtered, so that the eigensolver has a part in θ."""
    made = spec(rule=RULES[rule], probes=PROBES, stop=StopSpec(steps=8), parent=parent)
    problem = made.problem.model_copy(update={"dtype": "float32"})
    weighed = FilterSpec(alpha_dom=0.3, beta_bulk=1.2, refresh_every=3)
    return made.model_copy(update={"problem": problem, "filter": weighed, "seed": seed})


def energies(made: SegmentSpec, result: Result) -> xr.Dataset:
    asked = EnergiesSpec(problem=made.problem, segment="x", probes=4, density_probes=2, density_steps=5)
    assert result.snapshots is not None
    return energies_along(asked, make_problem(made.problem, TRAIN, TEST, made.seed), result.snapshots)


@pytest.fixture(autouse=True)
def torch_settings() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode("default")


# ---------------------------------------------------------------- in one process
def draw_from_global_generators() -> None:
    torch.manual_seed(1)
    torch.rand(100)
    np.random.seed(1)  # noqa: NPY002


def another_run() -> None:
    made = wanted("adam", seed=3)
    energies(made, train_segment(made, "other", TRAIN, TEST, None))


def fragmented_memory() -> None:
    """Blocks of odd sizes, some of them given back."""
    kept = [torch.ones(n) for n in range(1, 3000, 7)]
    del kept[::2]


BEFORE: dict[str, Callable[[], None]] = {
    "nothing": lambda: None,
    "draws": draw_from_global_generators,
    "another run": another_run,
    "memory": fragmented_memory,
    "more threads for a while": lambda: (torch.set_num_threads(2), another_run(), torch.set_num_threads(1))[0],
}


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["momentum", "adam"])
def test_whatever_the_process_did_before_arrays_are_identical(rule: str) -> None:
    made = wanted(rule)
    first = train_segment(made, "x", TRAIN, TEST, None)
    measured = energies(made, first)
    for together in some([BEFORE.values()], [[before] for before in BEFORE.values()]):
        for before in together:
            before()
        again = train_segment(made, "x", TRAIN, TEST, None)
        xr.testing.assert_identical(again.trajectory, first.trajectory)
        xr.testing.assert_identical(again.snapshots, first.snapshots)
        assert torch.equal(again.state.theta, first.state.theta)
        xr.testing.assert_identical(energies(made, again), measured)
    assert not torch.equal(train_segment(wanted(rule, seed=8), "x", TRAIN, TEST, None).state.theta, first.state.theta)


# ---------------------------------------------------------------- alone or in a batch, in a process of its own
SPECS = {"a": wanted("momentum"), "b": wanted("sam", seed=3), "c": wanted("momentum", parent="a")}


def batch(folder: Path, names: str, parents: str = "", **options: Any) -> None:
    places = [folder / "segments" / name for name in names]
    train_batch(
        [PlannedSegment(id=n, spec=SPECS[n], fingerprint="f") for n in names],
        data=[str(folder / "train.nc"), str(folder / "test.nc")],
        parents=[str(folder / "segments" / p / "state.safetensors") for p in parents],
        trajectories=[str(place / "trajectory.nc") for place in places],
        states=[str(place / "state.safetensors") for place in places],
        snapshots=[str(place / "snapshots.nc") for place in places],
        threads=1,
        **options,
    )


def data_in(folder: Path) -> Path:
    for name, dataset in {"train": TRAIN, "test": TEST}.items():
        write_dataset(dataset, folder / f"{name}.nc")
    return folder


def assert_same_files(one: Path, other: Path) -> None:
    for name in SPECS:
        for file in ("trajectory.nc", "snapshots.nc"):
            pair = [read_dataset(folder / "segments" / name / file) for folder in (one, other)]
            for dataset in pair:
                assert dataset.attrs.pop(PROVENANCE)
            xr.testing.assert_identical(*pair)
        states = [(folder / "segments" / name / "state.safetensors").read_bytes() for folder in (one, other)]
        assert states[0] == states[1]


@pytest.mark.slow
def test_alone_together_interrupted_or_in_a_new_process(tmp_path: Path) -> None:
    together = data_in(tmp_path / "together")
    batch(together, "abc")
    alone = data_in(tmp_path / "alone")
    for name in "bac":
        batch(alone, name, "a" if name == "c" else "")
    assert_same_files(alone, together)
    stopped = data_in(tmp_path / "stopped")
    asked = iter([False] * 20 + [True])  # in the third segment
    with pytest.raises(SystemExit):
        batch(stopped, "abc", interrupted=lambda: next(asked))
    batch(stopped, "abc")
    assert_same_files(stopped, together)
    new = data_in(tmp_path / "new")
    code = (
        "import sys, torch; from pathlib import Path\n"
        "torch.set_num_interop_threads(2); torch.rand(999) @ torch.rand(999)\n"
        "from tests.unit.test_determinism import batch; batch(Path(sys.argv[1]), 'bac')"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "12"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(new)], cwd=ROOT, env=environment, text=True, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert_same_files(new, together)


def test_the_workflow_fixes_the_number_of_threads() -> None:
    """Another number rounds otherwise (docs/determinism.md)."""
    assert Task.__dataclass_fields__["threads"].default == 1
    assert not Task.__dataclass_fields__["threads"].init
    for rules in ("segments", "energies"):
        text = (ROOT / "workflow" / "rules" / f"{rules}.smk").read_text(encoding="utf-8")
        assert text.count("threads: task.threads\n") == text.count("threads:") == 1
