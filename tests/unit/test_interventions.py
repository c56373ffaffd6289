"""Cards that act along a segment: weights that change, a model linearised at the switch, tracks; and interruptions."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
import xarray as xr

from analysis.models.linearised import Numbers as Linearised
from analysis.models.mlp import Numbers as MLPNumbers
from analysis.plan.names import segment_fingerprint
from analysis.rules.muon import Numbers as Muon
from analysis.rules.regularised import Numbers as Regularised
from analysis.rules.sgd import Numbers as SGDNumbers
from analysis.rules.shampoo import Numbers as Shampoo
from analysis.rules.weighed import Numbers as Weighed
from analysis.specs import SegmentSpec, StopSpec
from analysis.training.sampler import Sampler
from analysis.training.segment import Interrupted, train_segment
from analysis.training.state import State
from sharpflat.errors import InputError
from tests.specs import probes
from tests.unit.test_segment import TEST, TRAIN, Reference, spec

COMMON = {"learning_rate": 0.5, "batch_size": 5}
USUAL = {"loss": 2, "test": 5, "spectrum": {"every": 3, "tolerance": 1e-9, "next_tolerance": 1e-9}}


@cache
def start() -> State:
    return train_segment(spec(), "x", TRAIN, TEST, None).state


def run(wanted: SegmentSpec, **options):
    return train_segment(wanted, "y", TRAIN, TEST, start(), **options)


def weighed(first, last, schedule: str = "linear", every: int = 1) -> SegmentSpec:
    rule = Weighed(**COMMON, schedule=schedule, first=first, last=last, length=10, refresh_every=every, tolerance=1e-10)
    return spec(parent="x", rule=rule, probes=probes(**USUAL, steering=1))


def linearised(scale: float | None, kind: bool = True) -> SegmentSpec:
    wanted = spec(
        parent="x", probes=probes(**USUAL, **({} if scale is None else {"linearisation": {"scale": scale, "every": 1}}))
    )
    if not kind:
        return wanted
    model = Linearised(of=MLPNumbers(width=4, hidden_layers=1).model_dump())
    return wanted.model_copy(update={"problem": wanted.problem.model_copy(update={"model": model})})


@pytest.mark.slow
@pytest.mark.parametrize(("weights", "every"), [((0, 1), 1), ((1, 0), 3), ((0.5, 2), 3)])
def test_constant_weights_are_the_filters(weights, every):
    own = run(weighed(weights, weights, every=every))
    filtered = run(spec(parent="x", alpha=weights[0], beta=weights[1], every=every))
    # Their first eigensolves begin with other random vectors.
    torch.testing.assert_close(own.state.theta, filtered.state.theta, rtol=1e-6, atol=1e-7)
    assert np.array_equal(own.trajectory.steered_beta, np.full(11, float(weights[1])))


@pytest.mark.slow
def test_changing_weights_are_those_of_a_transcription():
    reference, theta, sampler = Reference(), start().theta, Sampler(23, 5, 7)
    for done in range(10):
        U = reference.top(theta, 3)[1]
        g = reference.gradient(theta, sampler.indices(10 + done))
        share = done / 10
        dominant = U @ (U.T @ g)
        theta = theta - 0.5 * (share * dominant + (2 - share) * (g - dominant))
    found = run(weighed((0, 2), (1, 1)))
    torch.testing.assert_close(found.state.theta, theta, rtol=1e-7, atol=1e-8)
    assert found.trajectory.steered_alpha.values == pytest.approx(np.arange(11) / 10)


@pytest.mark.slow
def test_c_of_one_is_the_model_and_another_begins_like_it():
    plain, one, half = run(linearised(None, kind=False)), run(linearised(1.0)), run(linearised(0.5))
    assert torch.equal(plain.state.theta, one.state.theta)
    assert torch.equal(run(linearised(None)).state.theta, plain.state.theta)
    assert not torch.allclose(plain.state.theta, half.state.theta, atol=1e-4)
    assert float(half.trajectory.loss[0]) == pytest.approx(float(plain.trajectory.loss[0]), rel=1e-12)
    assert float(half.trajectory.gradient_norm[0]) == pytest.approx(float(plain.trajectory.gradient_norm[0]), rel=1e-12)
    assert abs(float(half.trajectory.eigenvalues[0, 0] / plain.trajectory.eigenvalues[0, 0]) - 1) > 1e-6


def test_of_the_linearised_model_the_hessian_stays():
    eigenvalues = run(linearised(0.0)).trajectory.eigenvalues
    assert np.allclose(eigenvalues, eigenvalues[0], rtol=1e-9)


@pytest.mark.slow
def test_tracks_are_dense_eigenpairs_and_overlaps_with_the_last_ones():
    numbers = {"every": 5, "pairs": 4, "tolerance": 1e-10}
    found = run(spec(parent="x", probes=probes(**USUAL, tracks=numbers, snapshots=5)))
    reference, before = Reference(), None
    for place, theta in enumerate(found.snapshots.theta.values):
        values, vectors = reference.top(torch.from_numpy(theta), 4)
        vectors = vectors.numpy()
        row = found.trajectory.isel(track_step=place)
        assert row.track_eigenvalues.values == pytest.approx(values, rel=1e-8)
        if before is None:
            assert np.isnan(row.track_overlaps).all()
        else:
            assert row.track_overlaps.values == pytest.approx((vectors.T @ before) ** 2, abs=1e-6)
        before = vectors
    assert found.trajectory.track_step.values.tolist() == [10, 15, 20]


RESUMED = {
    "weighed": weighed((0, 2), (1, 1), "cosine", every=3),
    "linearised": linearised(2.0),
    "capped": spec(parent="x", rule=Regularised(**COMMON, capped=True), probes=probes(**USUAL, steering=3)),
    "cosine": spec(parent="x", rule=Regularised(**COMMON, decay_steps=10, weight_decay=0.1)),
    "muon": spec(parent="x", rule=Muon(**COMMON), probes=probes(**USUAL, steering=1)),
    "shampoo": spec(parent="x", rule=Shampoo(**COMMON, refresh=4), probes=probes(**USUAL, steering=1)),
    "tracks": spec(parent="x", probes=probes(**USUAL, tracks={"every": 3, "pairs": 4})),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RESUMED)
def test_interrupted_they_end_with_identical_arrays(tmp_path, name):
    undisturbed, checkpoint = run(RESUMED[name]), tmp_path / "y.safetensors"
    for stop_after in (1, 4, 8):
        asked = iter([False] * stop_after + [True])
        with pytest.raises(Interrupted):
            run(RESUMED[name], checkpoint=checkpoint, interrupted=lambda a=asked: next(a))
        resumed = run(RESUMED[name], checkpoint=checkpoint)
        xr.testing.assert_identical(resumed.trajectory, undisturbed.trajectory)
        assert torch.equal(resumed.state.theta, undisturbed.state.theta)
        checkpoint.unlink()


@pytest.mark.slow
def test_what_goes_on_from_them_begins_afresh():
    """A child's schedule counts from its own start, and the model of a child without the probe is the plain one."""
    after = run(weighed((0, 2), (1, 1)))
    child = train_segment(weighed((0, 2), (1, 1)), "z", TRAIN, TEST, after.state)
    assert float(child.trajectory.steered_beta[0]) == 2.0
    bent = run(linearised(0.0)).state
    plain = train_segment(linearised(None), "z", TRAIN, TEST, bent).trajectory
    assert float(plain.loss[0]) == pytest.approx(float(Reference().loss(bent.theta)), rel=1e-12)


def test_a_probe_says_what_it_needs():
    with pytest.raises(InputError, match="the probe steering is only for rules with a method `steer`; sgd has none"):
        run(spec(parent="x", probes=probes(**USUAL, steering=1)))
    with pytest.raises(InputError, match="the probe linearisation needs a model of kind linearised"):
        run(linearised(0.5, kind=False))


def test_the_code_of_the_model_within_counts(monkeypatch):
    import analysis.plan.names as names

    entries: list[tuple[str, ...]] = []
    monkeypatch.setattr(names, "fingerprint", lambda *roots: entries.append(roots) or "0")
    segment_fingerprint(linearised(0.5).model_copy(update={"rule": SGDNumbers(**COMMON), "stop": StopSpec(steps=1)}))
    assert {"analysis.models.linearised:build", "analysis.models.mlp:build"} <= set(entries[0])
