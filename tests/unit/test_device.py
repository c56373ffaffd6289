"""The device of a segment affects only torch's settings, what is moved, and how rarely the host reads from the
device."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import xarray as xr
from torch.utils._python_dispatch import TorchDispatchMode

from analysis.rules.adam import Numbers as AdamNumbers
from analysis.rules.sam import Numbers as SAMNumbers
from analysis.rules.sgd import Numbers as SGDNumbers
from analysis.specs import FilterSpec, SegmentSpec, StopSpec
from analysis.store.tensors import read_tensors
from analysis.training import segment as segment_module
from analysis.training.problem import make_problem
from analysis.training.segment import Interrupted, Result, train_segment
from analysis.training.state import Checkpoint, State, write_state
from analysis.training.torch_setup import prepare
from sharpflat.errors import InputError
from tests.specs import probes
from tests.unit.test_segment import TEST, TRAIN, spec

RARE = probes(loss=100, test=100)
RULES: dict[str, Any] = {
    "sgd": SGDNumbers(learning_rate=0.1, batch_size=5),
    "gd": SGDNumbers(learning_rate=0.1, batch_size=None),
    "momentum": SGDNumbers(learning_rate=0.1, batch_size=5, momentum=0.9),
    "adam": AdamNumbers(learning_rate=0.05, batch_size=5),
    "sam": SAMNumbers(learning_rate=0.1, batch_size=5, rho=0.2),
}


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restores what `prepare` sets for its process."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    threads, tf32 = torch.get_num_threads(), torch.backends.cudnn.allow_tf32
    yield
    torch.set_num_threads(threads)
    torch.backends.cudnn.allow_tf32 = tf32
    torch.set_deterministic_debug_mode("default")


# ---------------------------------------------------------------- the device
def test_numbers_repeat_and_float32_is_float32() -> None:
    torch.backends.cudnn.allow_tf32 = True
    assert prepare("cpu", 1) == torch.device("cpu")
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert torch.get_deterministic_debug_mode() == 2
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "mps", "", "cpu:x"])
def test_a_device_that_is_not_there_is_told(device: str) -> None:
    with pytest.raises(InputError, match=f"device: found {device!r}; torch finds here: cpu"):
        prepare(device, 1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without CUDA")
def test_no_gpu_is_no_silent_cpu() -> None:
    with pytest.raises(InputError, match=r"^device: found 'cuda'; torch finds here: cpu$"):
        prepare("cuda", 1)


def test_a_gpu_is_found_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    current: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    assert (
        [prepare(name, 1) for name in ("cuda", "cuda:1")] == current == [torch.device("cuda:0"), torch.device("cuda:1")]
    )
    with pytest.raises(InputError, match="device: found 'cuda:2'; torch finds here: cpu, cuda:0, cuda:1"):
        prepare("cuda:2", 1)


def test_a_state_moves_as_a_whole() -> None:
    """To a device that holds no numbers: all that is computed with is there, and counts are still the host's."""
    block = torch.ones(4, 2)
    moments = {"first_moment": torch.ones(4), "updates": torch.tensor(3)}
    state = State(torch.ones(4), 5, moments, {"filter": {"start": block}, "spectrum": {"start": block, "mean": 0.5}})
    moved = Checkpoint(state, torch.ones(4), 2, dominant=block).on(torch.device("meta"))
    kept = {f"{of} {name}": value for of, own in moved.state.kept.items() for name, value in own.items()}
    tensors = {**vars(moved), **vars(moved.state), **moved.state.optimizer, **kept}
    found = {name: value.device.type for name, value in tensors.items() if isinstance(value, torch.Tensor)}
    there = ("start", "dominant", "theta", "filter start", "spectrum start", "first_moment")
    assert found == {**dict.fromkeys(there, "meta"), "updates": "cpu"}
    assert (moved.state.step, kept["spectrum mean"], moved.first_step) == (5, 0.5, 2)
    assert state.theta.device.type == "cpu"


def test_the_problem_is_where_it_is_asked_to_be() -> None:
    problem = make_problem(spec(holdout=5).problem, TRAIN, TEST, 7, "meta")
    for objective in (problem.training, problem.curvature, problem.test):
        assert {objective.theta.device.type, objective.inputs.device.type, objective.targets.device.type} == {"meta"}
    assert problem.test_labels.device.type == "meta"


# ---------------------------------------------------------------- how often the host waits for the device
class Asked(TorchDispatchMode):
    """Counts the numbers that the host reads out of tensors; integers are counts that are the host's own."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default and args[0].dtype != torch.int64
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("filtered", [False, True], ids=["plain", "filtered"])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.slow
def test_between_probes_and_refreshes_the_host_reads_one_number_a_step(
    rule: str, filtered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the update is finite. With cross-entropy: of one-hot targets torch reads the largest, on a CPU alone."""
    made = spec(rule=RULES[rule], probes=RARE, stop=StopSpec(steps=12))
    problem = made.problem.model_copy(update={"loss": "cross_entropy"})
    weights = FilterSpec(alpha_dom=0.0, beta_bulk=1.0, refresh_every=6) if filtered else None
    asked: dict[int, int] = {}
    advance = segment_module._Run.advance

    def watched(run: Any) -> None:
        step = run.state.step
        with Asked() as mode:
            advance(run)
        asked[step] = mode.count

    monkeypatch.setattr(segment_module._Run, "advance", watched)
    train_segment(made.model_copy(update={"problem": problem, "filter": weights}), "x", TRAIN, TEST, None)
    looked = {0, 12, *({6} if filtered else {})}
    assert {step for step, count in asked.items() if count != 1} == looked
    assert set(asked) == set(range(13))


def diverging(rule: str, steps: int = 120) -> SegmentSpec:
    rates = {"sgd": 4e2, "gd": 4e2, "momentum": 4e2, "adam": 1e37, "sam": 4e2}
    made = RULES[rule].model_copy(update={"learning_rate": rates[rule]})
    problem = spec().problem
    problem = problem.model_copy(
        update={"dtype": "float32", "model": problem.model.model_copy(update={"activation": "relu"})}
    )
    return spec(rule=made, probes=RARE, stop=StopSpec(steps=steps)).model_copy(update={"problem": problem})


def same(found: Result, expected: Result, folder: Path) -> None:
    xr.testing.assert_identical(found.trajectory, expected.trajectory)
    for name, result in {"found": found, "expected": expected}.items():
        write_state(result.state, folder / f"{name}.safetensors", "x")
    assert (folder / "found.safetensors").read_bytes() == (folder / "expected.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
def test_divergence_between_probes_is_seen_at_its_step(
    rule: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Also if it is interrupted anywhere; the results are bit-identical."""
    made = diverging(rule)
    expected = train_segment(made, "x", TRAIN, TEST, None)
    at = expected.trajectory.attrs["diverged_at"]
    assert 1 <= at < 50, "between probes"
    assert bool(torch.isfinite(expected.state.theta).all())
    message = caplog.messages[-1]
    assert re.fullmatch(f"x: diverged at step {at}: the update is not finite", message)
    checkpoint = tmp_path / "checkpoint.safetensors"
    for stop_after in range(at + 1):
        asked = iter([False] * stop_after + [True])
        with pytest.raises(Interrupted):
            train_segment(made, "x", TRAIN, TEST, None, checkpoint=checkpoint, interrupted=lambda a=asked: next(a))
        tensors, _ = read_tensors(checkpoint)
        assert bool(torch.isfinite(tensors["theta"]).all()), "a checkpoint holds what is finite"
        same(train_segment(made, "x", TRAIN, TEST, None, checkpoint=checkpoint), expected, tmp_path)
        checkpoint.unlink()
