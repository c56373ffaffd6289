"""Training segments against an independent transcription of the definitions, and their promises: a resumed
segment, a branch and a divergence."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn
from torch.func import functional_call

from analysis.models import build
from analysis.models.mlp import Numbers as MLPNumbers
from analysis.rules import build as build_rule
from analysis.rules.adam import Numbers as AdamNumbers
from analysis.rules.sam import Numbers as SAMNumbers
from analysis.rules.sam import sam_edge
from analysis.rules.sgd import Numbers as SGDNumbers
from analysis.specs import DataSpec, FilterSpec, ProblemSpec, SegmentSpec, StopSpec
from analysis.training.sampler import Sampler
from analysis.training.segment import Interrupted, train_segment
from sharpflat.curvature.objective import Objective
from sharpflat.errors import InputError
from tests.covering import some
from tests.specs import probes

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
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    lr: float = 0.5,
    batch: int | None = 5,
    parent: str | None = None,
    holdout: int = 0,
    every: int | dict[str, float] = 1,
    k: int | None = None,
    **other,
) -> SegmentSpec:
    weights = None
    if not alpha == beta == 1:
        refreshes = every if isinstance(every, dict) else {"refresh_every": every}
        weights = FilterSpec(alpha_dom=alpha, beta_bulk=beta, k=k, tolerance=1e-10, **refreshes)
    given = {
        "stop": StopSpec(steps=10),
        "probes": probes(loss=2, test=5, spectrum={"every": 3, "tolerance": 1e-9, "next_tolerance": 1e-9}),
        "filter": weights,
        "rule": SGDNumbers(learning_rate=lr, batch_size=batch),
        **other,
    }
    return SegmentSpec(
        problem=ProblemSpec(
            data=DataSpec(
                train="noise",
                train_sha256="0",
                examples=N,
                test="noise",
                test_sha256="0",
                test_examples=11,
                holdout=holdout,
            ),
            model=MLPNumbers(width=4, hidden_layers=1),
            loss="mse",
            k=K,
            dtype="float64",
        ),
        seed=7,
        parent=parent,
        **given,
    )


class Reference:
    """The same problem by other means: torch.func on the model, a dense Hessian, numpy's eigenvectors."""

    def __init__(self, holdout: int = 0) -> None:
        self.trained = slice(None, N - holdout)
        self.curved = slice(N - holdout, None) if holdout else slice(None)
        generator = torch.Generator().manual_seed(7)
        self.model: nn.Module = build(MLPNumbers(width=4, hidden_layers=1), (1, 3, 3), K, generator, torch.float64)
        self.theta = torch.cat([p.detach().flatten() for p in self.model.parameters()])
        self.x = torch.from_numpy(TRAIN.inputs.values[:, None]).double() / 255
        self.y = nn.functional.one_hot(torch.from_numpy(TRAIN.labels.values.astype(np.int64)), K).double()

    def loss(self, theta, indices=slice(None)):
        named, start = {}, 0
        for name, p in self.model.named_parameters():
            named[name] = theta[start : start + p.numel()].view(p.shape)
            start += p.numel()
        indices = self.trained if indices == slice(None) else indices
        error = functional_call(self.model, named, (self.x[indices],)) - self.y[indices]
        return 0.5 * error.square().sum() / len(error)

    def gradient(self, theta, indices=slice(None)):
        return torch.func.grad(self.loss)(theta, indices)

    def top(self, theta, k):
        values, vectors = np.linalg.eigh(torch.func.hessian(self.loss)(theta, self.curved).numpy())
        return values[::-1][:k].copy(), torch.from_numpy(vectors[:, ::-1][:, :k].copy())

    def run(self, alpha, beta, lr, batch, steps, every=1, k=K):
        theta, path = self.theta, [self.theta]
        sampler = Sampler(self.trained.stop, batch, 7)
        for step in range(steps):
            indices = sampler.indices(step)
            g = self.gradient(theta, slice(None) if indices is None else indices)
            if step % every == 0:
                u = self.top(theta, k)[1]
            dominant = u @ (u.T @ g)
            theta = theta - lr * (alpha * dominant + beta * (g - dominant))
            path.append(theta)
        return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("alpha", "beta", "batch", "others"),
    [
        (1, 1, 5, {}),
        (1, 1, None, {}),
        (1, 0, 5, {}),
        (0, 1, 5, {}),
        (0, 1, None, {}),
        (0.5, 1.5, 5, {}),
        (2, 2, 5, {}),
        (1, 1, 5, {"holdout": 9}),
        (0, 1, 5, {"holdout": 9}),
        (0, 1, None, {"holdout": 9}),
        (0.5, 1.5, 5, {"holdout": 9, "every": 3, "k": 2}),
        (0, 1, 5, {"every": 4, "k": 5}),
    ],
)
def test_updates_and_probes_equal_the_definitions(alpha, beta, batch, others):
    reference = Reference(others.get("holdout", 0))
    path = reference.run(alpha, beta, 0.5, batch, 10, others.get("every", 1), others.get("k", K))
    result = train_segment(spec(alpha=alpha, beta=beta, batch=batch, **others), "x", TRAIN, TEST, None)
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


@pytest.mark.parametrize("refreshes", [{"refresh_error": 0.05}, {"refresh_overlap": 0.99}, {"refresh_every": 3}])
def test_what_refreshes_found_is_in_the_trajectory(refreshes):
    made = train_segment(spec(alpha=0, every=refreshes, lr=0.05), "x", TRAIN, TEST, None).trajectory
    steps = made.refresh_step.values
    assert made.attrs["refreshes"] == len(steps)
    assert made.refresh_interval.values.tolist() == [0, *np.diff(steps)]
    assert bool(np.isnan(made.refresh_error[0]))
    assert (made.refresh_error[1:] > 0).all()
    assert made.attrs["missed_refreshes"] == int((made.refresh_kept == 0).sum())
    if "refresh_every" in refreshes:
        assert steps.tolist() == [0, 3, 6, 9]
    else:
        assert 2 < len(steps) < 10
        assert steps[:2].tolist() == [0, 1]


SOME_STOPS = some((0, 4, 9), range(10))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("weights", "every", "stops"),
    [
        ((1, 1), 1, SOME_STOPS),
        ((0, 1), 1, SOME_STOPS),
        ((0, 1), 3, range(10)),
        ((1, 0), {"refresh_error": 0.3}, range(10)),
        ((0, 1), {"refresh_overlap": 0.9}, SOME_STOPS),
    ],
)
def test_interrupted_anywhere_it_ends_with_identical_arrays(tmp_path, weights, every, stops):
    wanted = spec(alpha=weights[0], beta=weights[1], every=every)
    undisturbed = train_segment(wanted, "x", TRAIN, TEST, None)
    checkpoint = tmp_path / "x.safetensors"
    for stop_after in stops:
        asked = iter([False] * stop_after + [True])
        with pytest.raises(Interrupted, match=f"x: interrupted at step {stop_after}; the same command continues"):
            train_segment(wanted, "x", TRAIN, TEST, None, checkpoint=checkpoint, interrupted=lambda a=asked: next(a))
        resumed = train_segment(wanted, "x", TRAIN, TEST, None, checkpoint=checkpoint)
        xr.testing.assert_identical(resumed.trajectory, undisturbed.trajectory)
        assert torch.equal(resumed.state.theta, undisturbed.state.theta)
        if stop_after == 9:  # finished: comes back as it was
            again = train_segment(wanted, "x", TRAIN, TEST, None, checkpoint=checkpoint)
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
    assert "the segment starts again from the beginning" in caplog.text
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
    t = train_segment(spec(alpha=0, every=4), "x", TRAIN, TEST, None).trajectory
    assert t.attrs["refreshes"] == 3
    assert t.refresh_step.values.tolist() == [0, 4, 8]
    assert int(t.refresh_products.sum()) == t.attrs["filter_products"]
    reference = Reference()
    path = reference.run(0, 1, 0.5, 5, 10, every=4)
    before, after = (reference.top(path[step], K)[1] for step in (0, 4))
    assert np.isnan(t.overlap[0])
    np.testing.assert_allclose(t.overlap[1], (before.T @ after).square().sum() / K, rtol=1e-6)


def test_equal_weights_ask_for_no_curvature():
    t = train_segment(spec(alpha=0.5, beta=0.5), "x", TRAIN, TEST, None).trajectory
    assert (t.attrs["refreshes"], t.attrs["filter_products"]) == (0, 0)


def test_a_spectrum_that_is_not_wanted_is_not_measured():
    quiet = spec(alpha=0, probes=probes(loss=2, test=5))
    t = train_segment(quiet, "x", TRAIN, TEST, None)
    assert t.trajectory.attrs["probe_products"] == 0
    assert set(t.trajectory.dims) == {"step", "test_step", "refresh_step"}
    assert torch.equal(t.state.theta, train_segment(spec(alpha=0), "x", TRAIN, TEST, None).state.theta)


def test_holding_out_everything_is_refused():
    with pytest.raises(InputError, match="23 of 23 examples held out leave none to train on"):
        train_segment(spec(holdout=N), "x", TRAIN, TEST, None)


def test_a_parent_that_does_not_fit_is_refused():
    first = train_segment(spec(stop=StopSpec(step=1)), "a", TRAIN, TEST, None).state
    with pytest.raises(InputError, match="y: its parent is a, but the given state is none"):
        train_segment(spec(parent="a"), "y", TRAIN, TEST, None)
    first.theta = first.theta[:-1]
    with pytest.raises(InputError, match="y: its parent a holds 54 parameters, the model has 55"):
        train_segment(spec(parent="a"), "y", TRAIN, TEST, first)


# ---------------------------------------------------------------- other rules, and what else is measured
RULES = {
    "gd": SGDNumbers(learning_rate=0.5, batch_size=None),
    "momentum": SGDNumbers(learning_rate=0.1, batch_size=5, momentum=0.9),
    "sam": SAMNumbers(learning_rate=0.5, batch_size=None, rho=0.2),
    "adam": AdamNumbers(learning_rate=0.05, batch_size=None),
    "adam-plain": AdamNumbers(learning_rate=0.05, batch_size=5, momentum=0.0),
}
ALL_PROBES = probes(
    loss=2, test=5, spectrum={"every": 3, "tolerance": 1e-9}, rates={"every": 2, "tolerance": 1e-9}, snapshots=4
)


@pytest.mark.parametrize("name", RULES)
def test_effective_learning_rates_equal_their_definition(name):
    """Along each rule's path, with dense eigenvectors."""
    reference, wanted = Reference(), spec(rule=RULES[name], probes=ALL_PROBES)
    rule, sampler = build_rule(wanted.rule), Sampler(N, wanted.rule.batch_size, 7)
    theta, path = reference.theta, [reference.theta]
    state = rule.initial_state(theta)
    for step in range(10):
        indices = sampler.indices(step)
        everything = slice(None) if indices is None else indices
        update, state = rule.update(theta, lambda at, i=everything: reference.gradient(at, i), state)
        theta = theta + update
        path.append(theta)
    t = train_segment(wanted, "x", TRAIN, TEST, None).trajectory
    assert t.rate_step.values.tolist() == [0, 2, 4, 6, 8]
    for i, step in enumerate(t.rate_step.values):
        u = reference.top(path[step], K)[1]
        g, moved = reference.gradient(path[step]), path[step + 1] - path[step]
        dominant = u @ (u.T @ g)
        bulk = g - dominant
        np.testing.assert_allclose(t.dom_lr[i], -(moved @ dominant) / (dominant @ dominant), rtol=1e-5)
        np.testing.assert_allclose(t.bulk_lr[i], -(moved @ bulk) / (bulk @ bulk), rtol=1e-4)
        if name == "gd":
            np.testing.assert_allclose([t.dom_lr[i], t.bulk_lr[i]], 0.5, rtol=1e-6)


@pytest.mark.slow
def test_rates_have_a_tolerance_of_their_own():
    """A subspace as loose as the spectrum's may be would count some of the bulk's gradient as dominant."""
    runs = [
        train_segment(
            spec(
                rule=RULES["momentum"],
                stop=StopSpec(steps=40),
                probes=probes(loss=100, test=100, spectrum={"every": 1, "tolerance": tolerance}, rates=1),
            ),
            "x",
            TRAIN,
            TEST,
            None,
        ).trajectory
        for tolerance in (0.5, 1e-9)
    ]
    assert float(abs(runs[0].alignment - runs[1].alignment).max()) > 1e-3, "the spectrum's is loose"
    np.testing.assert_allclose(runs[0].dom_lr, runs[1].dom_lr, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(runs[0].bulk_lr, runs[1].bulk_lr, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("name", "weights", "expected"), [("gd", (1, 0), (0.5, 0.0)), ("gd", (0, 1), (0.0, 0.5))])
def test_the_filter_takes_one_effective_learning_rate_away(name, weights, expected):
    filtered = FilterSpec(alpha_dom=weights[0], beta_bulk=weights[1], tolerance=1e-10)
    t = train_segment(spec(rule=RULES[name], filter=filtered, probes=ALL_PROBES), "x", TRAIN, TEST, None).trajectory
    np.testing.assert_allclose(t.dom_lr, expected[0], atol=1e-6)
    np.testing.assert_allclose(t.bulk_lr, expected[1], atol=1e-6)


def test_snapshots_are_theta_and_come_only_where_asked_for():
    reference = Reference()
    path = reference.run(1, 1, 0.5, 5, 10)
    result = train_segment(spec(probes=ALL_PROBES), "x", TRAIN, TEST, None)
    assert result.snapshots.snapshot_step.values.tolist() == [0, 4, 8, 10]
    for step, theta in zip(result.snapshots.snapshot_step.values, result.snapshots.theta.values, strict=True):
        np.testing.assert_allclose(theta, path[step], rtol=1e-8, atol=1e-9)
    np.testing.assert_array_equal(result.snapshots.theta[-1], result.state.theta)
    assert train_segment(spec(), "x", TRAIN, TEST, None).snapshots is None


def test_the_stability_threshold_is_the_rules():
    t = train_segment(spec(rule=RULES["sam"]), "x", TRAIN, TEST, None).trajectory
    norms = t.gradient_norm.sel(step=[0, 6, 10]).values
    edges = [sam_edge(norm, learning_rate=0.5, rho=0.2) for norm in norms]
    np.testing.assert_allclose(t.stability_threshold.sel(spectrum_step=[0, 6, 10]), edges)
    gd = train_segment(spec(rule=RULES["gd"]), "x", TRAIN, TEST, None).trajectory
    np.testing.assert_allclose(gd.stability_threshold, 4.0)
    assert train_segment(spec(rule=RULES["adam"]), "x", TRAIN, TEST, None).trajectory.stability_threshold.isnull().all()


@pytest.mark.parametrize("name", ["momentum", "adam"])
def test_a_rule_that_goes_on_remembers_and_a_new_one_begins_afresh(name):
    rule = RULES[name]
    whole = train_segment(spec(rule=rule), "x", TRAIN, TEST, None)
    first = train_segment(spec(rule=rule, stop=StopSpec(step=4)), "a", TRAIN, TEST, None)
    on = train_segment(spec(rule=rule, stop=StopSpec(step=10), parent="a"), "b", TRAIN, TEST, first.state)
    assert torch.equal(on.state.theta, whole.state.theta)
    other = RULES["adam" if name == "momentum" else "momentum"]
    changed = train_segment(spec(rule=other, stop=StopSpec(steps=1), parent="a"), "c", TRAIN, TEST, first.state)
    assert changed.state.optimizer.keys() == build_rule(other).initial_state(first.state.theta).keys()
    if "updates" in changed.state.optimizer:
        assert int(changed.state.optimizer["updates"]) == 1


TORCHS = {
    "momentum": lambda p: torch.optim.SGD([p], lr=0.1, momentum=0.9),
    "adam": lambda p: torch.optim.Adam([p], lr=0.05),
    "adam-plain": lambda p: torch.optim.Adam([p], lr=0.05, betas=(0.0, 0.999)),
}


@pytest.mark.parametrize("name", TORCHS)
@pytest.mark.parametrize("weights", [(1, 0), (0, 1), (0.5, 1.5)])
def test_a_branch_filters_the_update_and_what_the_rule_remembers_goes_on(name, weights):
    """torch's optimizer sees the whole minibatch gradients throughout; from step 4 on what it does to θ is projected
    with eigenvectors of the dense Hessian."""
    alpha, beta = weights
    reference, rule = Reference(), RULES[name]
    parameter = nn.Parameter(reference.theta.clone())
    optimizer, sampler = TORCHS[name](parameter), Sampler(N, rule.batch_size, 7)
    for step in range(10):
        before, indices = parameter.detach().clone(), sampler.indices(step)
        parameter.grad = reference.gradient(before, slice(None) if indices is None else indices)
        optimizer.step()
        if step >= 4:
            update, u = parameter.detach() - before, reference.top(before, K)[1]
            dominant = u @ (u.T @ update)
            parameter.data = before + alpha * dominant + beta * (update - dominant)
    first = train_segment(spec(rule=rule, stop=StopSpec(step=4)), "a", TRAIN, TEST, None).state
    wanted = spec(alpha=alpha, beta=beta, rule=rule, stop=StopSpec(step=10), parent="a")
    branch = train_segment(wanted, "b", TRAIN, TEST, first).state
    torch.testing.assert_close(branch.theta, parameter.detach(), rtol=1e-8, atol=1e-9)
    remembered = optimizer.state[parameter]
    names = {"velocity": "momentum_buffer", "first_moment": "exp_avg", "second_moment": "exp_avg_sq"}
    for ours, theirs in names.items():
        if ours in branch.optimizer:
            torch.testing.assert_close(branch.optimizer[ours], remembered[theirs], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.slow
def test_every_rule_resumes_to_identical_arrays(tmp_path, name):
    wanted = spec(rule=RULES[name], probes=ALL_PROBES)
    undisturbed = train_segment(wanted, "x", TRAIN, TEST, None)
    checkpoint = tmp_path / "x.safetensors"
    for stop_after in range(1, 10, 2):
        asked = iter([False] * stop_after + [True])
        with pytest.raises(Interrupted):
            train_segment(wanted, "x", TRAIN, TEST, None, checkpoint=checkpoint, interrupted=lambda a=asked: next(a))
        resumed = train_segment(wanted, "x", TRAIN, TEST, None, checkpoint=checkpoint)
        xr.testing.assert_identical(resumed.trajectory, undisturbed.trajectory)
        xr.testing.assert_identical(resumed.snapshots, undisturbed.snapshots)
        assert torch.equal(resumed.state.theta, undisturbed.state.theta)
        checkpoint.unlink()


@pytest.mark.parametrize("name", RULES)
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_every_rule_may_diverge(name):
    rule = RULES[name].model_copy(update={"learning_rate": 1e200})
    diverged = train_segment(spec(rule=rule, probes=ALL_PROBES, stop=StopSpec(steps=50)), "x", TRAIN, TEST, None)
    t = diverged.trajectory
    assert (t.attrs["status"], t.attrs["stopped_by"]) == ("diverged", "divergence")
    assert len(t.rate_step) <= t.attrs["diverged_at"] // 2 + 1
    child = train_segment(spec(rule=rule, probes=ALL_PROBES, parent="x"), "y", TRAIN, TEST, diverged.state)
    assert child.trajectory.sizes["rate_step"] == 0
    assert child.snapshots.theta.shape == (0, len(diverged.state.theta))
