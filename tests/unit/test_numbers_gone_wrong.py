"""Numbers that go wrong: divergence wherever it first shows, eigensolvers that do not converge, degenerate problems.

Elsewhere: what figures make of diverged runs and gaps (test_figures_style, test_figures_ablations), what each claim
makes of them (test_claims, test_claims_zakarin), products that are NaN and spectra of every kind (oracle tests of the
eigensolver), memory that runs out (test_curvature_objective, test_segment), batches larger than the data (test_config).
"""

from __future__ import annotations

import json
import math
import re
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from analysis import claims
from analysis.figures import energies as energies_figure
from analysis.figures import training_loss
from analysis.measurement import energies as energies_module
from analysis.measurement.distances import measure_distances
from analysis.measurement.energies import energies_along, measure_energies
from analysis.plan.plan import PlannedEnergies, PlannedSegment
from analysis.rules.adam import Numbers as AdamNumbers
from analysis.rules.sam import Numbers as SAMNumbers
from analysis.rules.sgd import Numbers as SGDNumbers
from analysis.runs.panels import Member, Panel, concatenate
from analysis.specs import EnergiesSpec, FilterSpec, SegmentSpec, StoppedBy, StopSpec
from analysis.store.netcdf import PROVENANCE, read_dataset, write_dataset
from analysis.training import segment as segment_module
from analysis.training.batch import train_batch
from analysis.training.problem import device_name, make_problem
from analysis.training.segment import Result, train_segment
from analysis.training.state import read_checkpoint, write_checkpoint
from sharpflat.curvature import eigensolver
from sharpflat.curvature.eigensolver import top_eigenspace
from sharpflat.curvature.energy import energy_decomposition
from sharpflat.curvature.objective import Objective
from sharpflat.curvature.operators import CurvatureOperator, Hessian
from sharpflat.curvature.subspace import DominantSubspace
from sharpflat.errors import InputError
from sharpflat.optim import subspace_filter as filter_module
from sharpflat.optim.subspace_sgd import SubspaceSGD
from tests.covering import pairs
from tests.specs import probes
from tests.unit.test_segment import TEST, TRAIN, K, N, spec

STEPS = 4
RULES: dict[str, Any] = {
    "sgd": SGDNumbers(learning_rate=0.1, batch_size=5),
    "gd": SGDNumbers(learning_rate=0.1, batch_size=None),
    "momentum": SGDNumbers(learning_rate=0.1, batch_size=5, momentum=0.9),
    "adam": AdamNumbers(learning_rate=0.05, batch_size=5),
    "sam": SAMNumbers(learning_rate=0.1, batch_size=None, rho=0.2),
}
PROBES = probes(
    loss=1, test=2, spectrum={"every": 1, "tolerance": 1e-2}, rates={"every": 2, "tolerance": 1e-2}, snapshots=1
)
FILTER = FilterSpec(alpha_dom=0.0, beta_bulk=1.0, tolerance=1e-2)


def wanted(rule: str = "sgd", *, filtered: bool = False, dtype: str = "float64", **changes: Any) -> SegmentSpec:
    made = spec(rule=RULES[rule], probes=changes.pop("probes", PROBES), stop=StopSpec(steps=STEPS))
    problem = made.problem.model_copy(update={"dtype": dtype, **changes.pop("problem", {})})
    return made.model_copy(update={"filter": FILTER if filtered else None, "problem": problem, **changes})


def trained(made: SegmentSpec, data: xr.Dataset = TRAIN, name: str = "x", parent: Result | None = None) -> Result:
    return train_segment(made, name, data, TEST, None if parent is None else parent.state)


# ---------------------------------------------------------------- divergence
PLACES = ("loss", "gradient", "product", "overflowing product")
MESSAGES = {
    "loss": "the training loss is not finite",
    "gradient": "the gradient's norm is not finite",
    "product": r"product \d+ with the operator is not finite",
    "overflowing product": r"product \d+ with the operator overflows",  # finite, but not for the eigensolver
}


def poison(patch: pytest.MonkeyPatch, place: str, bad: float, at: int) -> None:
    """From the step `at` on, one number is `bad`."""
    now = {"step": -1}
    advance, evaluate, matmat = segment_module._Run.advance, Objective._evaluate, CurvatureOperator.matmat

    def watched(run: Any) -> None:
        now["step"] = run.state.step
        advance(run)

    def evaluated(self: Objective, *given: Any, gradient: bool) -> tuple[torch.Tensor, torch.Tensor]:
        value, slope = evaluate(self, *given, gradient=gradient)
        if now["step"] >= at and gradient and place == "loss":
            value = value + bad
        if now["step"] >= at and gradient and place == "gradient":
            slope = slope.clone()
            slope[1] = bad
        return value, slope

    def multiplied(self: CurvatureOperator, V: torch.Tensor) -> torch.Tensor:
        images = matmat(self, V)
        if now["step"] >= at and place.endswith("product"):
            images = images.clone()
            images[1] = bad if place == "product" else torch.finfo(images.dtype).max / 2
        return images

    patch.setattr(segment_module._Run, "advance", watched)
    patch.setattr(Objective, "_evaluate", evaluated)
    patch.setattr(CurvatureOperator, "matmat", multiplied)


@cache
def undisturbed(rule: str, filtered: bool) -> Result:
    return trained(wanted(rule, filtered=filtered))


@pytest.mark.parametrize(
    ("rule", "place", "filtered", "at", "bad"),
    pairs(RULES, PLACES, (False, True), (0, 2, STEPS), (math.inf, math.nan)),
)
def test_a_segment_diverges_where_the_first_number_does(rule, place, filtered, at, bad, monkeypatch, caplog):
    whole = undisturbed(rule, filtered)
    caplog.clear()
    with monkeypatch.context() as patch:
        poison(patch, place, bad, at)
        found = trained(wanted(rule, filtered=filtered))
        child = trained(wanted(rule, filtered=filtered, parent="x"), name="y", parent=found)
    check_diverged(found, whole, at)
    assert re.fullmatch(f"x: diverged at step {at}: {MESSAGES[place]}", caplog.messages[0])
    t = child.trajectory
    assert (t.attrs["status"], t.attrs["stopped_by"]) == ("diverged", StoppedBy.EARLIER_DIVERGENCE)
    assert (t.attrs["first_step"], t.attrs["last_step"], t.attrs["diverged_at"]) == (at, at, at)
    assert {d: n for d, n in t.sizes.items() if d != "index" and n} == {}


# Where there was no update, no subspace before, no threshold that is known (Adam).
MAY_BE_NAN = ("update_alignment", "overlap", "refresh_error", "stability_threshold")


def check_diverged(found: Result, whole: Result, at: int) -> None:
    """It ends at the step `at`, and what it measured before is what the undisturbed segment measured."""
    t = found.trajectory
    assert (t.attrs["status"], t.attrs["stopped_by"], t.attrs["diverged_at"]) == ("diverged", "divergence", at)
    assert t.attrs["last_step"] == found.state.step == found.state.diverged_at == at
    assert bool(torch.isfinite(found.state.theta).all())
    for name, variable in t.data_vars.items():
        if name not in MAY_BE_NAN:
            assert bool(np.isfinite(variable).all()), name
        along = variable.dims[0]
        before = variable.sel({along: variable[along] < at})
        xr.testing.assert_equal(before, whole.trajectory[name].sel({along: whole.trajectory[along] < at}))
    xr.testing.assert_equal(
        found.snapshots.theta.sel(snapshot_step=found.snapshots.snapshot_step < at),
        whole.snapshots.theta.sel(snapshot_step=whole.snapshots.snapshot_step < at),
    )


@pytest.mark.parametrize("place", ["gradient", "product"])
@pytest.mark.parametrize("rule", RULES)
def test_it_diverges_by_its_update_where_nothing_is_measured(rule, place, monkeypatch, caplog):
    """Probes are due at the first and last step alone; a product is then the filter's."""
    rare = probes(loss=100, test=100)
    poison(monkeypatch, place, math.nan, 2)
    t = trained(wanted(rule, filtered=place == "product", probes=rare)).trajectory
    assert (t.attrs["status"], t.attrs["diverged_at"], t.attrs["last_step"]) == ("diverged", 2, 2)
    assert t.step.values.tolist() == [0]
    assert ("the update is not finite" if place == "gradient" else "product 1 with the operator") in caplog.text


@pytest.mark.parametrize(
    ("rule", "weights", "loss"),
    pairs(["sgd", "momentum", "adam", "sam"], [(1.0, 1.0), (1.0, 0.0), (0.0, 1.0)], ["mse", "cross_entropy"]),
)
def test_runs_that_blow_up_by_themselves_hold_finite_numbers(rule, weights, loss):
    """Also those that cross-entropy keeps alive, its gradient being 0 or rounding where the network is certain."""
    made = wanted(rule, dtype="float32", problem={"loss": loss})
    weighed = FilterSpec(alpha_dom=weights[0], beta_bulk=weights[1], tolerance=1e-2)
    statuses = []
    for rate in (1e3, 1e5, 1e13, 1e38):
        faster = made.rule.model_copy(update={"learning_rate": rate})
        t = trained(made.model_copy(update={"rule": faster, "filter": weighed})).trajectory
        statuses.append(t.attrs["status"])
        for name in ("loss", "gradient_norm", "distance", "eigenvalues", "residual", "alignment", "alignment_ema"):
            assert bool(np.isfinite(t[name]).all()), name
    assert statuses[-1] == "diverged"


# ---------------------------------------------------------------- what comes after a divergence
@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> tuple[Result, Result]:
    """A segment that diverges at step 2, at its Hessian alone, and its child."""
    with monkeypatch.context() as patch:
        poison(patch, "product", math.nan, 2)
        first = trained(wanted())
        return first, trained(wanted(parent="x"), name="y", parent=first)


def test_figures_and_claims_of_a_diverged_run_say_so(broken):
    whole, (first, second) = concatenate([trained(wanted()).trajectory]), broken
    run = concatenate([first.trajectory, second.trajectory])
    panel = Panel("s", "S", {"SGD": whole, "Dom-SGD": run}, {"SGD": ["x"], "Dom-SGD": ["x", "y"]})
    figure = training_loss.draw([panel])
    assert "diverged" in [text.get_text() for text in figure.legends[0].get_texts()]
    verdict = claims._judge("song-2-dom", panel)
    assert (verdict.verdict, verdict.measured) == ("not measured", "Dom-SGD diverged")


def test_distances_and_energies_of_a_diverged_run(broken, tmp_path: Path):
    whole, (first, second) = trained(wanted()), broken
    for name, result in {"whole": whole, "first": first, "second": second}.items():
        write_dataset(result.snapshots, tmp_path / f"{name}.nc")
    apart = measure_distances([tmp_path / "whole.nc"], [tmp_path / "first.nc", tmp_path / "second.nc"])
    assert apart.step.values.tolist() == [0, 1]
    assert bool((apart.between == 0).all())
    measured = [along(result.snapshots) for result in (first, second)]
    assert [m.sizes["snapshot_step"] for m in measured] == [2, 0]
    run = concatenate([first.trajectory, second.trajectory]).merge(xr.concat(measured, "snapshot_step"))
    panel = Panel("s", "S", {}, {}, families={"SGD": [Member({"seed": 0}, run, ["x", "y"])]})
    assert energies_figure.draw([panel]).axes
    verdict = claims._judge("zs-energy-ggn", panel)
    assert (verdict.verdict, verdict.measured) == ("not measured", "seed 0: SGD diverged at step 2")


ENERGIES = EnergiesSpec(problem=wanted().problem, segment="x", probes=4, density_probes=2, density_steps=5)


def along(snapshots: xr.Dataset | None, made: EnergiesSpec = ENERGIES, data: xr.Dataset = TRAIN) -> xr.Dataset:
    assert snapshots is not None
    return energies_along(made, make_problem(made.problem, data, TEST, 7), snapshots)


def test_a_snapshot_at_which_the_hessian_is_not_finite_is_left_out(monkeypatch, caplog):
    """Such as the last one before a divergence: θ is finite still."""
    snapshots = trained(wanted()).snapshots
    expected = along(snapshots.isel(snapshot_step=[0, 1, 3]))
    matmat = Hessian.matmat

    def multiplied(self: Hessian, V: torch.Tensor) -> torch.Tensor:
        here = self._products.theta.numpy()
        return matmat(self, V) * (math.inf if np.array_equal(here, snapshots.theta[2]) else 1.0)

    monkeypatch.setattr(Hessian, "matmat", multiplied)
    found = along(snapshots.isel(snapshot_step=slice(4)))
    xr.testing.assert_identical(found, expected)
    assert "x: snapshot at step 2 left out: product 1 with the operator is not finite" in caplog.text


@pytest.mark.parametrize("scale", [1e-100, 1e100])
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_energies_far_from_one(scale):
    """Their squares under- or overflow."""
    x = torch.linspace(0, 1, 20, dtype=torch.float64).reshape(5, 4) * math.sqrt(scale)
    model = torch.nn.Linear(4, 2, bias=False, dtype=torch.float64)
    objective = Objective(model, "mse", x, torch.zeros(5, dtype=torch.int64))
    subspace = DominantSubspace(torch.eye(objective.size, 2, dtype=torch.float64))
    found = energy_decomposition(objective, objective.theta, subspace, probes=4).sel(operator="H_o")
    assert 0 < found.fraction_dominant < 1
    assert not bool(found.fraction_dominant_se > 1)


# ---------------------------------------------------------------- eigensolvers that do not converge
@pytest.mark.slow
def test_an_unconverged_eigensolver_is_told_everywhere(monkeypatch):
    """Measurements, refreshes, effective rates, energies, figures and claims."""
    made = wanted("gd", filtered=True)
    calm = trained(made)
    assert calm.trajectory.attrs["unconverged_refreshes"] == calm.trajectory.attrs["unconverged_rates"] == 0
    assert bool((calm.trajectory.converged == 1).all())
    assert bool((calm.trajectory.refresh_converged == 1).all())

    def hasty_solver(operator, k, *, start, tolerance, beyond=0, beyond_tolerance=0.0, block=None, enough=None):
        allowed = {"beyond": beyond, "max_products": k + beyond}
        return top_eigenspace(operator, k, start=start, tolerance=1e-15, beyond_tolerance=1e-15, **allowed)

    for module in (eigensolver, filter_module, energies_module):
        monkeypatch.setattr(module, "top_eigenspace", hasty_solver)
    hasty = trained(made)
    t = hasty.trajectory
    assert t.attrs["status"] == "completed"
    assert bool((t.converged == 0).all())
    assert t.sizes["spectrum_step"] == STEPS + 1
    assert t.refresh_converged.values.tolist() == [0] * STEPS
    assert t.attrs["unconverged_refreshes"] == t.attrs["refreshes"] == STEPS
    assert t.attrs["unconverged_rates"] == t.sizes["rate_step"] == 2
    assert bool((t.residual > 10 * calm.trajectory.residual).all())
    assert along(hasty.snapshots).dominant_converged.values.tolist() == [0] * (STEPS + 1)
    assert "eigenspaces not converged" not in claims._judge("song-1", panel_of(calm)).measured
    verdict = claims._judge("song-1", panel_of(hasty))
    assert verdict.measured.endswith(f"; SGD: {2 * STEPS + 3} of {2 * STEPS + 3} eigenspaces not converged")


def panel_of(result: Result) -> Panel:
    return Panel("s", "S", {"SGD": result.trajectory}, {"SGD": ["x"]})


def test_products_that_are_rounding_errors_are_unconverged_and_no_mistake():
    """Where a softmax is certain but for rounding, ⟨u, H v⟩ and ⟨v, H u⟩ have few digits in common, or none."""
    made = wanted("momentum", dtype="float32", problem={"loss": "cross_entropy"})
    fast = made.rule.model_copy(update={"learning_rate": 10.0})
    certain = trained(made.model_copy(update={"rule": fast, "stop": StopSpec(steps=12)}))
    t = certain.trajectory
    assert t.attrs["status"] == "completed"
    normal = t.eigenvalues[:, 0].values > np.finfo(np.float32).tiny ** 0.5
    step = int(t.spectrum_step[(t.converged == 0) & normal][0])
    objective = make_problem(made.problem, TRAIN, TEST, 7).training
    hessian = Hessian(objective, torch.from_numpy(certain.snapshots.theta.sel(snapshot_step=step).values))
    found = top_eigenspace(hessian, 2 * K)
    assert not found.converged
    assert found.products <= 20, "more of them would tell no more"
    DominantSubspace(found.eigenvectors)  # orthonormal all the same
    foreign = SimpleNamespace(size=hessian.size, dtype=hessian.dtype, device=hessian.device, matmat=hessian.matmat)
    with pytest.raises(InputError, match="the operator is not symmetric"):
        top_eigenspace(foreign, 2 * K)


@pytest.mark.parametrize("tolerance", [0.1, 1e-9], ids=["met", "not met"])
def test_rounding_errors_are_never_called_converged(tolerance):
    """Not even where the residuals are small enough; and they end the search at once."""
    matrix = torch.diag(torch.arange(30.0, 0.0, -1.0, dtype=torch.float64))
    matrix[0, 1] += 1e-4
    matrix[10, 1] += 1e-4  # which leads out of the start
    operator = SimpleNamespace(size=30, dtype=torch.float64, device=torch.device("cpu"), exact=True)
    operator.matmat = lambda V: matrix @ V
    found = top_eigenspace(operator, 3, start=torch.eye(30, 5, dtype=torch.float64), tolerance=tolerance)
    assert not found.converged
    assert found.products == 5
    assert bool((found.residuals < 1e-2).all())
    matrix = matrix.diag().diag()
    assert top_eigenspace(operator, 3, start=torch.eye(30, 5, dtype=torch.float64), tolerance=tolerance).converged


# ---------------------------------------------------------------- degenerate problems
@pytest.mark.parametrize("k", [20, 55, 80], ids=["more than positive eigenvalues", "P", "more than P"])
def test_a_dominant_subspace_larger_than_what_is_sharp(k):
    made = wanted("gd", filtered=True, problem={"k": k})
    made = made.model_copy(update={"filter": FILTER.model_copy(update={"alpha_dom": 1.0, "beta_bulk": 0.0})})
    result = trained(made)
    t = result.trajectory
    assert t.attrs["status"] == "completed"
    assert t.sizes["index"] == min(2 * k, 55)
    assert bool((t.eigenvalues[:, -1] < 0).all()), "there are that many"
    assert bool(t.converged.all())
    if k >= 55:  # everything is dominant
        np.testing.assert_allclose(t.alignment, 1, rtol=1e-12)
        plain = trained(wanted("gd"))
        torch.testing.assert_close(result.state.theta, plain.state.theta, rtol=1e-10, atol=1e-12)
        found = along(result.snapshots, ENERGIES.model_copy(update={"problem": made.problem}))
        assert bool((found.energy_bulk == 0).all())
        assert bool((found.fraction_dominant == 1).all())


BLACK = TRAIN.assign(inputs=TRAIN.inputs * np.uint8(0))
COLUMN = TRAIN.assign(inputs=TRAIN.inputs.where(TRAIN.column != 1, 7).astype(np.uint8))
TWO_CLASSES = TRAIN.assign(labels=TRAIN.labels % np.uint8(2))


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
@pytest.mark.parametrize(
    ("data", "scaling"),
    [(BLACK, "unit"), (COLUMN, "unit"), (COLUMN, "pixel"), (BLACK, "pixel"), (TWO_CLASSES, "unit")],
    ids=["black images", "a constant column", "standardised", "black, standardised", "a class missing"],
)
def test_data_that_tell_little(data, scaling, loss):
    base = wanted().problem
    made = wanted(
        "gd", filtered=True, problem={"loss": loss, "data": base.data.model_copy(update={"scaling": scaling})}
    )
    result = trained(made, data)
    t = result.trajectory
    assert t.attrs["status"] == "completed"
    for name in ("loss", "gradient_norm", "eigenvalues", "alignment", "test_loss", "test_accuracy"):
        assert bool(np.isfinite(t[name]).all()), name
    assert float(t.loss[-1]) < float(t.loss[0])
    found = along(result.snapshots, ENERGIES.model_copy(update={"problem": made.problem}), data)
    assert all(bool(np.isfinite(v).all()) for v in found.data_vars.values())


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.filterwarnings("ignore:Data has no positive values:UserWarning")
def test_a_loss_of_zero_with_a_hessian_of_zero(rule, monkeypatch):
    """Nothing moves, nothing aligns, and claims know that 0 has no logarithm."""
    chunk_loss = Objective.chunk_loss
    monkeypatch.setattr(Objective, "chunk_loss", lambda self, *given: 0 * chunk_loss(self, *given))
    result = trained(wanted(rule, filtered=True))
    t = result.trajectory
    assert t.attrs["status"] == "completed"
    for name in ("loss", "gradient_norm", "distance", "eigenvalues", "residual", "alignment", "alignment_ema"):
        assert bool((t[name] == 0).all()), name
    assert bool((t.update_alignment[:-1] == 0).all())
    assert bool((t.converged == 1).all())
    assert bool(t.dom_lr.isnull().all() & t.bulk_lr.isnull().all())
    found = along(result.snapshots)
    assert bool((found.energy_total == 0).all() & (found.fraction_dominant == 0).all())
    assert all(bool(np.isfinite(v).all()) for v in found.data_vars.values())
    run = concatenate([t])
    switched = run.assign_attrs(switches=[0], specifications=2 * run.attrs["specifications"])
    panel = Panel("s", "S", {"SGD": switched, "Dom-SGD": switched}, {"SGD": ["x"], "Dom-SGD": ["x"]})
    assert claims._judge("song-2-dom", panel).measured == "Dom-SGD, SGD: a loss of 0 has no logarithm"
    said = claims._judge("song-lowrank", panel)
    assert (said.verdict, said.measured[:27]) == ("not measured", "SGD: λ_4 is not positive at")
    assert training_loss.draw([panel]).axes


@pytest.mark.parametrize("batch", [1, N - 1, N], ids=["one", "a ragged last one", "all, shuffled"])
def test_minibatches_of_extreme_sizes(batch):
    made = wanted()
    made = made.model_copy(update={"rule": SGDNumbers(learning_rate=0.1, batch_size=batch)})
    problem = make_problem(made.problem, TRAIN, TEST, 7)
    path = trained(made).snapshots.theta.values
    for step, (one, other) in enumerate(pairwise(path)):
        theta = torch.from_numpy(one)
        indices = segment_module.Sampler(N, batch, 7).indices(step)
        assert len(indices) == (1 if batch == N - 1 and step % 2 else batch)
        singly = [problem.training.gradient(theta, torch.tensor([i])) for i in indices]
        np.testing.assert_allclose(other - one, -0.1 * torch.stack(singly).mean(0), rtol=1e-9, atol=1e-14)


# ---------------------------------------------------------------- memory, device and damage
def files_of(folder: Path, made: SegmentSpec) -> tuple[dict[str, Any], dict[str, Any]]:
    """The provenance of a segment's trajectory and of its energies, through files."""
    for name, dataset in {"train": TRAIN, "test": TEST}.items():
        write_dataset(dataset, folder / f"{name}.nc")
    data = [str(folder / "train.nc"), str(folder / "test.nc")]
    place = folder / "segments" / "x"
    snapshots = [str(place / "snapshots.nc")]
    train_batch(
        [PlannedSegment(id="x", spec=made, fingerprint="f")],
        data=data,
        parents=[],
        trajectories=[str(place / "trajectory.nc")],
        states=[str(place / "state.safetensors")],
        snapshots=snapshots,
        threads=1,
    )
    planned = PlannedEnergies(id="e", spec=ENERGIES, fingerprint="f")
    measure_energies([planned], data=data, snapshots=snapshots, outputs=[str(folder / "e.nc")], threads=1)
    paths = (place / "trajectory.nc", folder / "e.nc")
    found = [json.loads(read_dataset(path).attrs[PROVENANCE]) for path in paths]
    return found[0], found[1]


@pytest.fixture(autouse=True)
def _torch_settings():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode("default")


@pytest.mark.slow
def test_memory_that_ran_out_and_the_device_are_in_the_provenance(tmp_path: Path, monkeypatch):
    for found in files_of(tmp_path / "calm", wanted()):
        assert (found["device"], found["chunk_halvings"]) == ("cpu", [])
    forward = Objective.forward

    def scarce(self: Objective, leaves: list[torch.Tensor], inputs: torch.Tensor) -> torch.Tensor:
        if len(inputs) > 12:
            raise torch.OutOfMemoryError
        return forward(self, leaves, inputs)

    monkeypatch.setattr(Objective, "forward", scarce)
    for found in files_of(tmp_path / "scarce", wanted()):
        assert found["chunk_halvings"] == [[N, 12]]


def test_a_gpu_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"number {device.index}")
    assert device_name(SimpleNamespace(device=torch.device("cuda", 1))) == "cuda: number 1"


def test_a_subspace_is_verified_where_it_enters_and_at_refreshes_alone(tmp_path: Path, monkeypatch):
    verified = []
    init = DominantSubspace.__init__

    def counted(self: DominantSubspace, basis: torch.Tensor, *, verify: bool = True) -> None:
        verified.append(verify)
        init(self, basis, verify=verify)

    quiet = wanted(filtered=True, probes=probes(loss=6, test=6))
    quiet = quiet.model_copy(update={"filter": FILTER.model_copy(update={"refresh_every": 4})})
    with monkeypatch.context() as patch:
        patch.setattr(DominantSubspace, "__init__", counted)
        trained(quiet)
    assert verified == [True, *[False] * 4]  # one refresh, four updates
    path = tmp_path / "x.safetensors"
    stop = partial(next, iter([False, False, True]))
    with pytest.raises(segment_module.Interrupted):
        train_segment(quiet, "x", TRAIN, TEST, None, checkpoint=path, interrupted=stop)
    damaged = read_checkpoint(path)
    damaged.dominant = 2 * damaged.dominant
    write_checkpoint(damaged, path)
    with pytest.raises(InputError, match="the basis is not orthonormal"):
        train_segment(quiet, "x", TRAIN, TEST, None, checkpoint=path)


def test_an_optimizers_loaded_subspace_is_verified():
    model = torch.nn.Linear(4, 2)

    def loss() -> torch.Tensor:
        return model(torch.eye(4)).square().sum()

    optimizer = SubspaceSGD(model.parameters(), 0.1, alpha_dom=0.0, k=2, curvature=loss)
    loss().backward()
    optimizer.step()
    state = optimizer.state_dict()
    optimizer._memory["dominant"] = 2 * optimizer._memory["dominant"]
    with pytest.raises(InputError, match="the basis is not orthonormal"):
        optimizer.load_state_dict(state)
