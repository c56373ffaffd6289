"""What `Objective` accepts and refuses, its chunks, and that it leaves the model alone."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor, nn

from sharpflat.curvature.chunks import Chunks
from sharpflat.curvature.energy import energy_decomposition
from sharpflat.curvature.objective import Objective
from sharpflat.curvature.operators import Hessian, joint_products
from sharpflat.curvature.subspace import DominantSubspace
from sharpflat.errors import InputError


def data(count: int = 10) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 4, generator=generator), torch.randint(3, (count,), generator=generator)


def small(*layers: nn.Module) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 6), *layers, nn.Linear(6, 3))


REFUSED = {
    "train-mode batch norm": (
        nn.BatchNorm1d(6),
        "BatchNorm1d",
        "it normalises with the statistics of the batch",
    ),
    "batch norm without running statistics": (
        nn.BatchNorm1d(6, track_running_stats=False).eval(),
        "BatchNorm1d",
        "it normalises with the statistics of the batch",
    ),
    "dropout": (nn.Dropout(0.1), "Dropout", "its dropout is active"),
    "alpha dropout": (nn.AlphaDropout(0.1), "AlphaDropout", "its dropout is active"),
    "random slopes": (nn.RReLU(), "RReLU", "it draws random slopes"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_batch_dependent_layers_are_refused_by_name(case: str) -> None:
    module, kind, reason = REFUSED[case]
    message = (
        f"module '1.0' ({kind}): {reason}, so the loss is no function of θ alone; call model.eval() or remove the layer"
    ) + ("; or set coupled=, for fixed batches" if "batch" in reason else "")
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        Objective(small(nn.Sequential(module)), "mse", *data())


def test_attention_and_recurrent_dropout_are_refused() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attend = nn.MultiheadAttention(4, 2, dropout=0.1)

    with pytest.raises(InputError, match=r"module 'attend' \(MultiheadAttention\): its dropout is active"):
        Objective(Attention(), "mse", *data())
    with pytest.raises(InputError, match=r"module \(the model\) \(LSTM\)|module '\(the model\)' \(LSTM\)"):
        Objective(nn.LSTM(4, 3, num_layers=2, dropout=0.1), "mse", *data())


@pytest.mark.parametrize("module", [nn.BatchNorm1d(6).eval(), nn.Dropout(0.1).eval(), nn.Dropout(0.0)])
def test_the_same_layers_are_welcome_where_they_are_functions(module: nn.Module) -> None:
    objective = Objective(small(module), "mse", *data())
    assert objective.value(objective.theta).isfinite()


def test_a_layer_switched_to_training_later_is_noticed() -> None:
    model = small(nn.Dropout(0.5).eval())
    objective = Objective(model, "mse", *data())
    operator = Hessian(objective, objective.theta)
    model.train()
    for use in (objective.value, objective.gradient, operator.matvec):
        with pytest.raises(InputError, match="its dropout is active"):
            use(objective.theta)


def test_frozen_and_shared_parameters() -> None:
    shared = nn.Linear(4, 4, bias=False)
    model = nn.Sequential(shared, nn.Tanh(), shared, nn.Linear(4, 3))
    model[3].weight.requires_grad_(False)
    objective = Objective(model, "mse", *data())
    assert objective.size == 16 + 3
    assert torch.equal(objective.theta, torch.cat([shared.weight.detach().flatten(), model[3].bias.detach()]))


def test_theta_is_a_copy_and_the_model_is_left_alone() -> None:
    model = small(nn.Tanh())
    before = [p.detach().clone() for p in model.parameters()]
    identities = [id(p) for p in model.parameters()]
    objective = Objective(model, "mse", *data())
    theta = objective.theta
    theta += 1
    objective.value_and_gradient(theta)
    joint_products(objective, theta, torch.ones(objective.size, 2))
    Hessian(objective, theta).matvec(theta)
    assert [id(p) for p in model.parameters()] == identities
    for p, b in zip(model.parameters(), before, strict=True):
        assert torch.equal(p, b)
        assert p.grad is None
    with torch.no_grad():
        next(model.parameters()).add_(1)
    assert not torch.equal(objective.theta[:24], before[0].flatten())  # the current ones, each time


def test_the_model_is_put_back_after_an_error() -> None:
    class Fragile(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            raise KeyError("no")

    model = Fragile(4, 3)
    weight = model.weight
    objective = Objective(model, "mse", *data())
    with pytest.raises(KeyError):
        objective.value(objective.theta)
    assert model.weight is weight


def test_recurrent_layers_compute_with_theta() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.RNN(2, 3, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.rnn(x.view(-1, 2, 2))[0][:, -1]

    model = Recurrent()
    objective = Objective(model, "mse", *data())
    inputs, targets = data()
    expected = torch.nn.functional.one_hot(targets, 3).square().sum(1).float().mean() / 2
    torch.testing.assert_close(objective.value(torch.zeros(objective.size)), expected)
    assert not torch.equal(model(inputs), torch.zeros(10, 3))


def test_an_operator_keeps_its_theta() -> None:
    objective = Objective(small(nn.Tanh()), "mse", *data())
    theta = objective.theta
    v = torch.ones(objective.size)
    operator = Hessian(objective, theta)
    first = operator.matvec(v)
    theta += 1
    assert torch.equal(operator.matvec(v), first)
    assert not torch.allclose(Hessian(objective, theta).matvec(v), first)


def test_results_repeat_bit_by_bit() -> None:
    def run() -> list[Tensor]:
        objective = Objective(small(nn.Tanh()), "mse", *data(), chunk_size=3)
        V = torch.ones(objective.size, 3).cumsum(0)
        return [objective.gradient(objective.theta), *joint_products(objective, objective.theta, V)]

    for a, b in zip(run(), run(), strict=True):
        assert torch.equal(a, b)


class Hungry(nn.Module):
    """Runs out of memory with more than `limit` examples at once."""

    def __init__(self, limit: int, error: type[Exception] = torch.OutOfMemoryError) -> None:
        super().__init__()
        self.inner = small(nn.Tanh())
        self.limit, self.error = limit, error

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.limit:
            raise self.error("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
        return self.inner(x)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError, MemoryError])
def test_out_of_memory_halves_the_chunk_and_says_so(error: type[Exception]) -> None:
    whole = Objective(Hungry(10), "mse", *data())
    tight = Objective(Hungry(3, error), "mse", *data(), chunk_size=10)
    theta, V = whole.theta, torch.eye(whole.size)
    torch.testing.assert_close(tight.gradient(theta), whole.gradient(theta))
    assert tight.halvings == [(10, 5), (5, 3)]
    assert tight.chunk_size == 3
    for a, b in zip(joint_products(tight, theta, V), joint_products(whole, theta, V), strict=True):
        torch.testing.assert_close(a, b)
    torch.testing.assert_close(tight.outputs(theta), whole.outputs(theta))
    assert tight.halvings == [(10, 5), (5, 3)]  # once per size


def test_a_kept_graph_of_the_old_chunk_size_is_not_used() -> None:
    model = Hungry(10)
    objective = Objective(model, "mse", *data(), chunk_size=10)
    operator = Hessian(objective, objective.theta)
    v = torch.ones(objective.size)
    first = operator.matvec(v)
    model.limit = 5
    objective.gradient(objective.theta)
    assert objective.chunk_size == 5
    torch.testing.assert_close(operator.matvec(v), first)


def test_energies_survive_running_out_of_memory() -> None:
    objective = Objective(Hungry(4), "mse", *data(), chunk_size=10)
    S = DominantSubspace(torch.eye(objective.size, 2))
    ds = energy_decomposition(objective, objective.theta, S, probes=2)
    assert bool((ds.energy_total > 0).all())
    assert objective.halvings == [(10, 5), (5, 3)]


def test_one_example_that_does_not_fit_is_an_error() -> None:
    objective = Objective(Hungry(0), "mse", *data(), chunk_size=2)
    with pytest.raises(torch.OutOfMemoryError):
        objective.gradient(objective.theta)
    assert objective.halvings == [(2, 1)]


def test_other_errors_are_not_taken_for_memory() -> None:
    class Broken(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            raise RuntimeError("something else")

    objective = Objective(Broken(4, 3), "mse", *data(), chunk_size=10)
    with pytest.raises(RuntimeError, match="something else"):
        objective.gradient(objective.theta)
    assert objective.halvings == []


def test_chunks_fit_the_memory_budget() -> None:
    inputs, targets = data(100)
    sizes = []
    for budget in (1 << 30, 10_000, 3_000, 1):
        objective = Objective(small(nn.Tanh()), "mse", inputs, targets, memory_budget=budget)
        sizes.append(objective.chunk_size)
        assert 1 <= objective.chunk_size <= 100
        needed = 4 * objective.chunks.bytes_per_example * objective.chunk_size
        assert needed <= budget or objective.chunk_size == 1
        assert objective.chunks.graph_fits == (objective.chunk_size == 100)
    assert sizes[0] == 100
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == 1
    assert 1 < sizes[1] < 100
    # 6 hidden numbers saved for tanh, and again by the next layer or not; 3 outputs for the loss
    assert 6 * 4 <= objective.chunks.bytes_per_example <= 25 * 4


def test_a_chunk_fits_the_caches_by_a_fixed_rule() -> None:
    """64 MiB, or eight times the bytes of theta; on a GPU and below the memory budget, that budget."""

    def chunks(device: str = "cpu", **options: int) -> Chunks:
        return Chunks(10_000, lambda n: n << 20, device=torch.device(device), **options)  # type: ignore[arg-type]

    assert [chunks().size, chunks(theta_bytes=100 << 20).size, chunks(memory_budget=8 << 20).size] == [16, 200, 2]
    assert chunks(chunk_size=300).size == 300
    assert chunks().memory_budget == 1 << 30
    assert chunks().chunk_budget == 64 << 20
    few = Chunks(100, lambda n: n << 20, device=torch.device("cpu"))
    assert few.size == 15  # seven chunks of 15 at most, rather than six of 16 and one of 4
    assert few.graph_fits  # all together in 1 GiB
    assert not Chunks(300, lambda n: n << 20, device=torch.device("cpu")).graph_fits


def test_padded_data_that_are_tiny_are_one_chunk() -> None:
    def size(mebibytes: float, **options: int) -> int:
        each = int(mebibytes * 2**20) // 4 // 150  # the graph of an example has four times what its forward pass saves
        return Chunks(89, lambda n: n * each, device=torch.device("cpu"), examples=150, **options).size

    assert [size(23), size(25), size(23, memory_budget=20 << 20)] == [150, 89, 89]


def test_a_minibatch_stays_whole_until_memory_runs_out() -> None:
    chunks = Chunks(10_000, lambda n: n << 20, device=torch.device("cpu"))
    assert (chunks.size, chunks.size_for(50), chunks.size_for(65)) == (16, 50, 16)
    calls = []

    def evaluate() -> str:
        calls.append(chunks.size_for(50))
        if calls[-1] > 20:
            raise MemoryError
        return "done"

    assert chunks.with_halving(evaluate, examples=50) == "done"
    assert calls == [50, 25, 13]
    assert chunks.halvings == [(50, 25), (25, 13)]
    assert chunks.size == 13


def test_graphs_of_several_chunks_are_kept_within_their_budget() -> None:
    inputs, targets = data(100)
    each = Objective(small(nn.Tanh()), "mse", inputs, targets).chunks.bytes_per_example
    v = torch.ones(51)
    for budget, kept in ((4 * each * 100, 10), (4 * each * 100 - 1, 0)):
        objective = Objective(small(nn.Tanh()), "mse", inputs, targets, chunk_size=10, memory_budget=budget)
        operator = Hessian(objective, objective.theta)
        first = operator.matvec(v)
        assert len(operator._products._kept) == kept
        assert torch.equal(operator.matvec(v), first)


def test_a_small_budget_keeps_no_graph() -> None:
    for budget, kept in ((1 << 30, 1), (500, 0)):
        objective = Objective(small(nn.Tanh()), "mse", *data(), memory_budget=budget)
        operator = Hessian(objective, objective.theta)
        operator.matvec(objective.theta)
        assert len(operator._products._kept) == kept


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": "hinge"}, "unknown loss 'hinge'; allowed: cross_entropy, mse, value, or a function"),
        ({"chunk_size": 0}, "chunk_size must be an integer of at least 1, not 0"),
        ({"targets": torch.zeros(9)}, "need as many targets as inputs, and at least one: 10, 9"),
        ({"inputs": torch.zeros(0, 4), "targets": torch.zeros(0)}, "at least one: 0, 0"),
        ({"model": nn.Tanh()}, "the model has no trainable parameter"),
        (
            {"model": nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3).double())},
            "trainable parameters must share dtype and device",
        ),
    ],
)
def test_wrong_arguments(change: dict, message: str) -> None:
    inputs, targets = data()
    arguments = {"model": small(nn.Tanh()), "loss": "mse", "inputs": inputs, "targets": targets} | change
    with pytest.raises(InputError, match=re.escape(message)):
        Objective(**arguments)


def test_wrong_shapes_are_refused_rather_than_broadcast() -> None:
    inputs, targets = data()
    model = small(nn.Tanh())
    theta = Objective(model, "mse", inputs, targets).theta
    cases = {
        "loss 'mse': outputs have shape [10, 3], targets [10, 1]": ("mse", torch.zeros(10, 1)),
        "loss 'cross_entropy': outputs have shape [10, 3], targets [10, 1]": (
            "cross_entropy",
            torch.zeros(10, 1),
        ),
        "loss 'value': outputs have shape [10, 3]; they must have shape [N, 1]": ("value", targets),
        "the loss must return one value per example, shape [10], not []": (lambda f, y: f.mean(), targets),
    }
    for message, (loss, y) in cases.items():
        with pytest.raises(InputError, match=re.escape(message)):
            Objective(model, loss, inputs, y).value(theta)
    objective = Objective(model, "mse", inputs, targets)
    operator = Hessian(objective, theta)
    for use in (objective.value, lambda t: Hessian(objective, t)):
        with pytest.raises(InputError, match=r"theta must be a vector \[51\] of torch.float32 on cpu, not \[50\]"):
            use(theta[:50])
    with pytest.raises(InputError, match=r"expected a tensor \[51\] of torch.float32 on cpu, not \[51, 1\]"):
        operator.matvec(theta[:, None])
    with pytest.raises(InputError, match=r"expected a tensor \[51, 'K'\] of torch.float32 on cpu, not \[51\]"):
        operator.matmat(theta)
    with pytest.raises(InputError, match=r"of torch.float64 on cpu"):
        joint_products(objective, theta, torch.eye(51).double())


def test_inputs_are_cast_and_token_ids_are_not() -> None:
    inputs, targets = data()
    objective = Objective(small(nn.Tanh()).double(), "mse", inputs, targets)
    assert objective.inputs.dtype == objective.value(objective.theta).dtype == torch.float64
    tokens = Objective(nn.Sequential(nn.Embedding(5, 2), nn.Flatten()), "mse", targets[:, None], inputs[:, :2])
    assert tokens.inputs.dtype == torch.int64
    assert tokens.gradient(tokens.theta).shape == (10,)
