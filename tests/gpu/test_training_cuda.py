"""Training and measuring on a GPU equal those on the CPU up to rounding, and a run can move from one to the other.

The first case of each test also runs with the CPU as the device, where the results must be bit-identical.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from analysis.measurement.energies import energies_along
from analysis.models.cnn import Numbers as CNNNumbers
from analysis.models.mlp import Numbers as MLPNumbers
from analysis.models.resnet8 import Numbers as ResNetNumbers
from analysis.models.transformer import Numbers as TransformerNumbers
from analysis.models.vgg11 import Numbers as VGGNumbers
from analysis.rules.adam import Numbers as AdamNumbers
from analysis.rules.sam import Numbers as SAMNumbers
from analysis.rules.sgd import Numbers as SGDNumbers
from analysis.specs import EnergiesSpec, FilterSpec, SegmentSpec, StopSpec
from analysis.store.netcdf import PROVENANCE, read_dataset
from analysis.training import segment as segment_module
from analysis.training.problem import make_problem
from analysis.training.segment import Interrupted, Result, train_segment
from analysis.training.torch_setup import prepare
from tests.gpu.conftest import NEEDS_CUDA, devices
from tests.specs import probes
from tests.unit.test_segment import spec
from tests.workflow.project import Project

N, CLASSES = 30, 3
ATTRIBUTES = {"title": "noise", "sha256": "0", "classes": CLASSES, "synthetic": 1, "source": "test"}
MODELS: dict[str, Any] = {
    "mlp": MLPNumbers(width=8),
    "cnn": CNNNumbers(channels=4),
    "vgg11": VGGNumbers(width=4),
    "resnet8": ResNetNumbers(width=4),
    "transformer": TransformerNumbers(width=8, heads=2, feed_forward=8),
}
RULES: dict[str, Any] = {
    "sgd": SGDNumbers(learning_rate=0.05, batch_size=1),
    "momentum": SGDNumbers(learning_rate=0.02, batch_size=1, momentum=0.9),
    "adam": AdamNumbers(learning_rate=0.01, batch_size=1),
    "sam": SAMNumbers(learning_rate=0.05, batch_size=1, rho=0.1),
}
PROBES = probes(
    loss=4, test=10, spectrum={"every": 10, "tolerance": 1e-4}, rates={"every": 10, "tolerance": 1e-4}, snapshots=10
)
PLAIN = probes(loss=4, test=10, snapshots=10)
RARE = probes(loss=100, test=100)
FILTER = FilterSpec(alpha_dom=0.5, beta_bulk=1.5, refresh_every=8, tolerance=1e-4)


def dataset(kind: str, seed: int) -> xr.Dataset:
    random = np.random.default_rng(seed)
    labels = {"labels": ("example", random.integers(0, CLASSES, N).astype(np.uint8))}
    if kind == "transformer":
        sentences = [" ".join(f"w{i}" for i in random.integers(0, 20, random.integers(1, 7))) for _ in range(N)]
        return xr.Dataset({"sentences": ("example", sentences), **labels}, attrs={"name": "text", **ATTRIBUTES})
    pixels = random.integers(0, 256, (N, 3, 8, 8), dtype=np.uint8)
    inputs = (("example", "channel", "row", "column"), pixels)
    return xr.Dataset({"inputs": inputs, **labels}, attrs={"name": "noise", **ATTRIBUTES})


def wanted(model: str = "mlp", rule: str = "sgd", *, dtype: str = "float64", **other: Any) -> SegmentSpec:
    made = spec(rule=RULES[rule], **{"stop": StopSpec(steps=20), "probes": PROBES, **other})
    data = made.problem.data.model_copy(update={"examples": N, "test_examples": N, "max_length": 8})
    changes = {"model": MODELS[model], "data": data, "dtype": dtype, "k": CLASSES}
    return made.model_copy(update={"problem": made.problem.model_copy(update=changes)})


def trained(made: SegmentSpec, device: str, **options: Any) -> Result:
    kind = made.problem.model.kind
    return train_segment(made, "x", dataset(kind, 0), dataset(kind, 1), None, device=prepare(device, 1), **options)


def close(found: Result, expected: Result, device: str, tolerance: float) -> None:
    """Bit-identical if both are on the CPU."""
    assert found.state.theta.device.type == device
    if device == "cpu":
        xr.testing.assert_identical(found.trajectory, expected.trajectory)
        assert torch.equal(found.state.theta, expected.state.theta)
    else:
        near(found, expected, tolerance)


def near(found: Result, expected: Result, tolerance: float) -> None:
    """θ and all that was measured; the products that a solver needed may differ with the device."""
    torch.testing.assert_close(found.state.theta.cpu(), expected.state.theta.cpu(), rtol=tolerance, atol=tolerance)
    for name, variable in expected.trajectory.data_vars.items():
        if not str(name).endswith(("products", "residual")):
            given: dict[str, Any] = {"rtol": tolerance, "atol": tolerance, "err_msg": str(name)}
            np.testing.assert_allclose(found.trajectory[name], variable, **given)


@pytest.mark.parametrize(("model", "device"), devices(MODELS), indirect=["device"])
def test_twenty_steps_are_those_of_the_cpu(model: str, device: str) -> None:
    made = wanted(model, probes=PLAIN)
    close(trained(made, device), trained(made, "cpu"), device, 1e-8)


@pytest.mark.parametrize(("rule", "device"), devices(RULES), indirect=["device"])
def test_every_rules_steps_are_those_of_the_cpu(rule: str, device: str) -> None:
    made = wanted(rule=rule, probes=PLAIN)
    close(trained(made, device), trained(made, "cpu"), device, 1e-6)


@pytest.mark.parametrize(("model", "device"), devices(["mlp", "cnn"]), indirect=["device"])
def test_what_is_measured_and_filtered_is_that_of_the_cpu(model: str, device: str) -> None:
    """To the eigensolver's tolerance: where it stops may hang on the last digit."""
    made = wanted(model, filter=FILTER)
    close(trained(made, device), trained(made, "cpu"), device, 1e-3)


def test_twenty_steps_in_float32(device: str) -> None:
    """With TF32, products would agree to 1e-3 only."""
    made = wanted(dtype="float32", probes=RARE)
    close(trained(made, device), trained(made, "cpu"), device, 1e-5)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.slow
def test_the_same_run_twice_is_the_same_to_the_bit(model: str, device: str) -> None:
    loose = FilterSpec(alpha_dom=0.5, beta_bulk=1.5, refresh_every=8)
    measured = probes(loss=4, test=10, spectrum=10, snapshots=10)
    made = wanted(model, "momentum", dtype="float32", filter=loose, probes=measured)
    one, two = trained(made, device), trained(made, device)
    xr.testing.assert_identical(one.trajectory, two.trajectory)
    xr.testing.assert_identical(one.snapshots, two.snapshots)
    assert torch.equal(one.state.theta, two.state.theta)


@pytest.mark.parametrize("rule", ["momentum", "adam"])
def test_begun_on_one_device_it_continues_on_another(rule: str, device: str, tmp_path: Path) -> None:
    made = wanted(rule=rule, filter=FILTER)
    expected = trained(made, "cpu")
    for number, (first, second) in enumerate([("cpu", device), (device, "cpu")]):
        checkpoint, asked = tmp_path / f"{number}.safetensors", iter([False] * 13 + [True])
        with pytest.raises(Interrupted):
            trained(made, first, checkpoint=checkpoint, interrupted=lambda a=asked: next(a))
        assert checkpoint.exists()
        found = trained(made, second, checkpoint=checkpoint)
        assert found.state.theta.device.type == second
        near(found, expected, 0.0 if device == "cpu" else 1e-3)


def test_a_child_continues_its_parent_of_another_device(device: str) -> None:
    parent = trained(wanted(rule="adam", stop=StopSpec(step=8)), device).state
    child = wanted(rule="adam", stop=StopSpec(step=20), parent="p")
    whole = trained(wanted(rule="adam"), "cpu").state
    data = dataset("mlp", 0), dataset("mlp", 1)
    for second in ("cpu", device):
        found = train_segment(child, "x", *data, parent, device=prepare(second, 1)).state
        assert found.theta.device.type == second
        torch.testing.assert_close(found.theta.cpu(), whole.theta, rtol=1e-5, atol=1e-5)


@contextmanager
def no_waiting(device: str) -> Iterator[None]:
    """What would make the host wait for the GPU raises."""
    if device == "cpu":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(("rule", "filtered", "device"), devices(RULES, [False, True]), indirect=["device"])
def test_between_probes_the_host_does_not_wait(
    rule: str, filtered: bool, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within an epoch, whose permutation was moved at its beginning."""
    advance, steps = segment_module._Run.advance, []

    def watched(run: Any) -> None:
        step = run.state.step
        with no_waiting(device if 0 < step < 12 else "cpu"):
            advance(run)
        steps.append(step)

    monkeypatch.setattr(segment_module._Run, "advance", watched)
    weights = FilterSpec(alpha_dom=0.0, beta_bulk=1.0, refresh_every=50) if filtered else None
    trained(wanted(rule=rule, probes=RARE, stop=StopSpec(steps=12), filter=weights), device)
    assert steps == list(range(13))


@pytest.mark.parametrize(("model", "device"), devices(["mlp", "cnn", "transformer"]), indirect=["device"])
@pytest.mark.slow
def test_energies_are_those_of_the_cpu(model: str, device: str) -> None:
    made = wanted(model)
    snapshots = trained(made, "cpu").snapshots
    asked = EnergiesSpec(problem=made.problem, segment="x", probes=4, density_probes=2, density_steps=5, tolerance=1e-6)
    expected, found = (
        energies_along(
            asked,
            make_problem(made.problem, dataset(model, 0), dataset(model, 1), made.seed, prepare(where, 1)),
            snapshots,
        )
        for where in ("cpu", device)
    )
    for name in ("energy_dominant", "energy_bulk", "trace_dominant", "trace_bulk", "dominant_eigenvalues", "density"):
        scale = float(abs(expected[name]).max())
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-5 * scale, err_msg=name)


# ---------------------------------------------------------------- from the command line
def device_of(path: Path) -> str:
    return json.loads(read_dataset(path).attrs[PROVENANCE])["device"]


@pytest.mark.parametrize("jobs", [pytest.param(jobs, marks=NEEDS_CUDA) for jobs in "12"])  # on the CPU: test_run
@pytest.mark.slow
def test_the_run_command_on_a_gpu(jobs: str, tmp_path: Path) -> None:
    project = Project.of_sources(tmp_path)
    command = [sys.executable, "-m", "analysis", "run", "--profile", "families", "--only", "curvature"]
    done = subprocess.run(
        [*command, "--jobs", jobs, "--device", "cuda"],
        cwd=project.path,
        env=project.environment,
        text=True,
        capture_output=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results = project.results("families")
    made = [*results.glob("segments/*/trajectory.nc"), *results.glob("energies/*.nc")]
    assert len(made) > len(list(results.glob("energies/*.nc"))) > 0
    for path in made:
        assert device_of(path).partition(":")[0] == "cuda", path


@pytest.mark.parametrize("workflow", [pytest.param("gpu", marks=NEEDS_CUDA)])  # local: tests/workflow
def test_the_workflow_on_the_device(workflow: str, tmp_path: Path) -> None:
    pytest.importorskip("snakemake", reason="needs the workflow engine")
    project = Project.of_sources(tmp_path)
    done = project.run(profile="families", WORKFLOW=workflow)
    assert done.returncode == 0, done.stdout
    paths = [*project.results("families").glob("segments/*/trajectory.nc")]
    assert paths
    assert {device_of(path).partition(":")[0] for path in paths} == {"cuda"}
