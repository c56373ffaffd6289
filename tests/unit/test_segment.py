"""Training segments against an independent transcription of the definitions, and their promises: a resumed
segment, a branch and a divergence."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn
from torch.func import functional_call

from analysis.curvature import Objective
from analysis.errors import InputError
from analysis.models import build
from analysis.specs import (
    DataSpec,
    FilterSpec,
    MLPSpec,
    ProbeSpec,
    ProblemSpec,
    SGDSpec,
    SegmentSpec,
    StopSpec,
)
from analysis.training.sampler import Sampler
from analysis.training.segment import Interrupted, train_segment

N, K = 23, 3


def dataset(n: int, seed: int) -> xr.Dataset:
    random = np.random.default_rng(seed)
    return xr.Dataset(
        {
            "inputs": (("example", "row", "column"), random.integers(0, 256, (n, 3, 3), dtype=np.uint8)),
            "labels": ("example", random.integers(0, K, n).astype(np.uint8)),
        },
        attrs={"name": "noise", "title": "noise", "sha256": "0", "classes": K, "synthetic": 1, "source": "test"},
    )


TRAIN, TEST = dataset(N, 0), dataset(11, 1)


def spec(
    *, alpha: float = 1.0, beta: float = 1.0, lr: float = 0.5, batch: int | None = 5, parent: str | None = None, **other
) -> SegmentSpec:
    weights = None if alpha == beta == 1 else FilterSpec(alpha_dom=alpha, beta_bulk=beta, tolerance=1e-10)
    given = {
        "stop": StopSpec(steps=10),
        "probes": ProbeSpec(loss=2, test=5, spectrum=3, tolerance=1e-9),
        "filter": weights,
        **other,
    }
    return SegmentSpec(
        problem=ProblemSpec(
            data=DataSpec(train="noise", train_sha256="0", examples=N, test="noise", test_sha256="0", test_examples=11),
            model=MLPSpec(width=4, hidden_layers=1),
            loss="mse",
            k=K,
            dtype="float64",
        ),
        seed=7,
        rule=SGDSpec(learning_rate=lr, batch_size=batch),
        parent=parent,
        **given,
    )


class Reference:
    """The same problem by other means: torch.func on the model, a dense Hessian, numpy's eigenvectors."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(7)
        self.model: nn.Module = build(MLPSpec(width=4, hidden_layers=1), (1, 3, 3), K, generator, torch.float64)
        self.theta = torch.cat([p.detach().flatten() for p in self.model.parameters()])
        self.x = torch.from_numpy(TRAIN.inputs.values[:, None]).double() / 255
        self.y = nn.functional.one_hot(torch.from_numpy(TRAIN.labels.values.astype(np.int64)), K).double()

    def loss(self, theta, indices=slice(None)):
        named, start = {}, 0
        for name, p in self.model.named_parameters():
            named[name] = theta[start : start + p.numel()].view(p.shape)
            start += p.numel()
        error = functional_call(self.model, named, (self.x[indices],)) - self.y[indices]
        return 0.5 * error.square().sum() / len(error)

    def gradient(self, theta, indices=slice(None)):
        return torch.func.grad(self.loss)(theta, indices)

    def top(self, theta, k):
        values, vectors = np.linalg.eigh(torch.func.hessian(self.loss)(theta).numpy())
        return values[::-1][:k].copy(), torch.from_numpy(vectors[:, ::-1][:, :k].copy())

    def run(self, alpha, beta, lr, batch, steps):
        theta, path = self.theta, [self.theta]
        sampler = Sampler(N, batch, 7)
        for step in range(steps):
            indices = sampler.indices(step)
            g = self.gradient(theta, slice(None) if indices is None else indices)
            u = self.top(theta, K)[1]
            dominant = u @ (u.T @ g)
            theta = theta - lr * (alpha * dominant + beta * (g - dominant))
            path.append(theta)
        return path


@pytest.mark.parametrize(
    ("alpha", "beta", "batch"),
    [(1, 1, 5), (1, 1, None), (1, 0, 5), (0, 1, 5), (0, 1, None), (0.5, 1.5, 5), (2, 2, 5)],
)
def test_updates_and_probes_equal_the_definitions(alpha, beta, batch):
    reference = Reference()
    path = reference.run(alpha, beta, 0.5, batch, 10)
    result = train_segment(spec(alpha=alpha, beta=beta, batch=batch), "x", TRAIN, TEST, None)
    torch.testing.assert_close(result.state.theta, path[10], rtol=1e-8, atol=1e-9)
    t = result.trajectory
    assert t.step.values.tolist() == [0, 2, 4, 6, 8, 10]
    assert t.test_step.values.tolist() == [0, 5, 10]
    assert t.spectrum_step.values.tolist() == [0, 3, 6, 9, 10]
    for i, step in enumerate(t.step.values):
        theta = path[step]
        np.testing.assert_allclose(t.loss[i], reference.loss(theta), rtol=1e-8)
        np.testing.assert_allclose(t.gradient_norm[i], reference.gradient(theta).norm(), rtol=1e-7)
        np.testing.assert_allclose(t.distance[i], (theta - path[0]).norm(), rtol=1e-7, atol=1e-12)
    ema = 0.0
    for i, step in enumerate(t.spectrum_step.values):
        values, u = reference.top(path[step], 2 * K)
        u = u[:, :K]
        np.testing.assert_allclose(t.eigenvalues[i], values, rtol=1e-6, atol=1e-8)
        g = reference.gradient(path[step])
        chi = float((u.T @ g).norm() / g.norm())
        ema = 0.9 * ema + 0.1 * chi
        np.testing.assert_allclose(t.alignment[i], chi, rtol=1e-6)
        np.testing.assert_allclose(t.alignment_ema[i], ema, rtol=1e-6)
        if step < 10:
            update = path[step + 1] - path[step]
            expected = float((u.T @ update).norm() / update.norm())
            np.testing.assert_allclose(t.update_alignment[i], expected, rtol=1e-5, atol=1e-6)
        else:
            assert np.isnan(t.update_alignment[i])
    assert t.attrs["status"] == "completed"
    assert t.attrs["stopped_by"] == "steps"
    assert bool(t.converged.all())


def test_a_branch_continues_its_parent_as_if_nothing_were_between():
    whole = train_segment(spec(), "x", TRAIN, TEST, None)
    first = train_segment(spec(stop=StopSpec(step=4)), "a", TRAIN, TEST, None)
    second = train_segment(spec(stop=StopSpec(step=10), parent="a"), "b", TRAIN, TEST, first.state)
    assert torch.equal(second.state.theta, whole.state.theta)
    assert second.trajectory.attrs["first_step"] == 4
    # The parent's last measurement is the child's first, and enters the moving average once.
    ema = first.trajectory.alignment_ema.values[-1]
    assert second.trajectory.alignment_ema.values[0] == ema
    later = second.trajectory.alignment.values[1]
    np.testing.assert_allclose(second.trajectory.alignment_ema.values[1], 0.9 * ema + 0.1 * later)
    assert second.trajectory.distance.values[0] == 0


def test_a_segment_stops_when_the_average_alignment_passes_the_threshold():
    free = train_segment(spec(stop=StopSpec(steps=30)), "x", TRAIN, TEST, None).trajectory
    threshold = float(free.alignment_ema[4]) - 1e-9
    assert (free.alignment_ema[:4] < threshold).all()
    stopped = train_segment(spec(stop=StopSpec(steps=30, alignment_ema=threshold)), "x", TRAIN, TEST, None)
    assert stopped.state.step == int(free.spectrum_step[4])
    assert stopped.trajectory.attrs["stopped_by"] == "alignment_ema"
    assert stopped.trajectory.step.values[-1] == stopped.state.step


@pytest.mark.parametrize("weights", [(1, 1), (0, 1)])
def test_interrupted_anywhere_it_ends_with_identical_arrays(tmp_path, weights):
    wanted = spec(alpha=weights[0], beta=weights[1])
    undisturbed = train_segment(wanted, "x", TRAIN, TEST, None)
    checkpoint = tmp_path / "x.safetensors"
    for stop_after in range(10):
        asked = iter([False] * stop_after + [True])
        with pytest.raises(Interrupted, match=f"x: interrupted at step {stop_after}; the same command continues"):
            train_segment(wanted, "x", TRAIN, TEST, None, checkpoint=checkpoint, interrupted=lambda a=asked: next(a))
        resumed = train_segment(wanted, "x", TRAIN, TEST, None, checkpoint=checkpoint)
        xr.testing.assert_identical(resumed.trajectory, undisturbed.trajectory)
        assert torch.equal(resumed.state.theta, undisturbed.state.theta)
        again = train_segment(wanted, "x", TRAIN, TEST, None, checkpoint=checkpoint)  # finished: comes back as it was
        xr.testing.assert_identical(again.trajectory, undisturbed.trajectory)
        checkpoint.unlink()


def test_the_checkpoint_is_as_young_as_promised(tmp_path):
    checkpoint = tmp_path / "x.safetensors"
    with pytest.raises(RuntimeError, match="killed"):
        train_segment(
            spec(), "x", TRAIN, TEST, None, checkpoint=checkpoint, checkpoint_seconds=0, interrupted=_killed_after(6)
        )
    from analysis.training.state import read_checkpoint

    assert read_checkpoint(checkpoint).state.step == 5


def _killed_after(calls: int):
    count = iter(range(calls))

    def interrupted() -> bool:
        if next(count, None) is None:
            raise RuntimeError("killed")
        return False

    return interrupted


def test_a_damaged_checkpoint_is_started_anew(tmp_path, caplog):
    checkpoint = tmp_path / "x.safetensors"
    checkpoint.write_bytes(b"not a checkpoint")
    result = train_segment(spec(), "x", TRAIN, TEST, None, checkpoint=checkpoint)
    assert "starting the segment anew" in caplog.text
    assert torch.equal(result.state.theta, train_segment(spec(), "x", TRAIN, TEST, None).state.theta)


@pytest.mark.parametrize("weights", [(1, 1), (1, 0), (0, 1)])
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_divergence_is_a_result(weights):
    diverged = train_segment(
        spec(alpha=weights[0], beta=weights[1], lr=1e30, stop=StopSpec(steps=50)), "x", TRAIN, TEST, None
    )
    t = diverged.trajectory
    assert t.attrs["status"] == "diverged"
    assert t.attrs["stopped_by"] == "divergence"
    assert 0 < t.attrs["diverged_at"] < 50
    assert t.loss.notnull().all()
    child = train_segment(spec(parent="x"), "y", TRAIN, TEST, diverged.state)
    assert child.trajectory.attrs["status"] == "diverged"
    assert child.trajectory.attrs["stopped_by"] == "divergence of an earlier segment"
    assert child.trajectory.sizes["step"] == 0
    assert child.trajectory.eigenvalues.shape == (0, 2 * K)


def test_running_out_of_memory_is_recorded_and_changes_nothing(monkeypatch):
    calm = train_segment(spec(), "x", TRAIN, TEST, None)
    assert calm.halvings == ()
    forward, failed = Objective.forward, []

    def scarce(self, leaves, inputs):
        if len(inputs) == N and not failed:
            failed.append(1)
            raise torch.OutOfMemoryError
        return forward(self, leaves, inputs)

    monkeypatch.setattr(Objective, "forward", scarce)
    hungry = train_segment(spec(), "x", TRAIN, TEST, None)
    assert hungry.halvings == ((N, 12),)
    np.testing.assert_allclose(hungry.trajectory.loss, calm.trajectory.loss, rtol=1e-9)


def test_products_are_counted():
    t = train_segment(spec(alpha=0), "x", TRAIN, TEST, None).trajectory
    assert t.attrs["refreshes"] == 10
    assert t.attrs["filter_products"] >= 10 * K
    assert t.attrs["probe_products"] == t.probe_products.values[-1] >= 5 * 2 * K
    assert train_segment(spec(), "x", TRAIN, TEST, None).trajectory.attrs["filter_products"] == 0


def test_the_subspace_is_kept_between_refreshes():
    rare = spec(alpha=0, filter=FilterSpec(alpha_dom=0, beta_bulk=1, refresh_every=4, tolerance=1e-10))
    assert train_segment(rare, "x", TRAIN, TEST, None).trajectory.attrs["refreshes"] == 3


def test_a_parent_that_does_not_fit_is_refused():
    first = train_segment(spec(stop=StopSpec(step=1)), "a", TRAIN, TEST, None).state
    with pytest.raises(InputError, match="y: its parent is a; the state given is none"):
        train_segment(spec(parent="a"), "y", TRAIN, TEST, None)
    first.theta = first.theta[:-1]
    with pytest.raises(InputError, match="y: its parent a holds 54 parameters, the model has 55"):
        train_segment(spec(parent="a"), "y", TRAIN, TEST, first)
