"""What other users' code looks like: data, models, losses, modes. Right to rounding, or one sentence of refusal."""

from __future__ import annotations

import copy
import functools
import io
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, SubsetRandomSampler, TensorDataset

from sharpflat import (
    FunctionalHessian,
    GaussNewton,
    Hessian,
    InputError,
    LossHessian,
    Objective,
    diagonal,
    energy_decomposition,
    joint_products,
    spectral_density,
    top_eigenspace,
    trace,
)
from sharpflat.curvature.subspace import DominantSubspace
from tests.oracle.test_robustness_silent import Wrapped, assert_right, data, dense, net, renorm

ELSEWHERE: Any = SimpleNamespace(device=torch.device("cuda"))  # a generator, as far as checks look


def eye(size: int) -> Tensor:
    return torch.eye(size, dtype=torch.float64)


def mean_loss(model: Callable[..., Any], *inputs: Any, **named: Any) -> Callable[[], Tensor]:
    y = data()[1]
    return lambda: F.cross_entropy(model(*inputs, **named), y)


# ---------------------------------------------------------------- 11: means that are not over all examples
def test_ignore_index_equals_torchs_mean() -> None:
    model, (x, y) = net(), data()
    for index in (-100, 1, 255):
        targets = y.clone()
        targets[::3] = index

        def loss(index: int = index, targets: Tensor = targets, part: Any = slice(None)) -> Tensor:
            return F.cross_entropy(model(x[part]), targets[part], ignore_index=index)

        objective = Objective(model, "cross_entropy", x, targets, ignore_index=index, chunk_size=5)
        assert_right(objective, dense(loss, model))
        torch.testing.assert_close(objective.value(objective.theta), loss().detach())
        part = torch.tensor([0, 1, 2, 4])
        torch.testing.assert_close(objective.value(objective.theta, part), loss(part=part).detach())
        assert len(GaussNewton(objective, objective.theta) @ objective.theta) == objective.size


def test_ignored_labels_without_a_word_are_refused() -> None:
    model, (x, y) = net(), data()
    y[3] = -100
    own = functools.partial(F.cross_entropy, reduction="none")
    for loss in ("cross_entropy", own, nn.CrossEntropyLoss(reduction="none")):
        with pytest.raises(InputError, match=r"targets hold -100, .*ignore_index"):
            Objective(model, loss, x, y)
        with pytest.raises(InputError, match="targets hold -100"):
            Objective(model, loss, DataLoader(TensorDataset(x, y), batch_size=5))
    objective = Objective(model, own, x, y, count=11)
    assert_right(objective, dense(lambda: F.cross_entropy(model(x), y), model))
    with pytest.raises(InputError, match="all targets are -100"):
        Objective(model, "cross_entropy", x, torch.full_like(y, -100), ignore_index=-100)
    with pytest.raises(InputError, match="works only with the loss"):
        Objective(model, own, x, y, ignore_index=-100)


def test_a_batch_of_a_stream_may_have_only_ignored_targets() -> None:
    model, (x, y) = net(), data()
    y[:5] = -100
    objective = Objective(model, "cross_entropy", list(zip(x.split(5), y.split(5), strict=True)), ignore_index=-100)
    torch.testing.assert_close(objective.value(objective.theta), F.cross_entropy(model(x), y).detach())
    assert_right(objective, dense(lambda: F.cross_entropy(model(x), y), model))
    with pytest.raises(InputError, match="all targets are -100"):
        Objective(model, "cross_entropy", [(x, torch.full_like(y, -100))], ignore_index=-100)


@pytest.mark.parametrize(
    "loss",
    [
        nn.CrossEntropyLoss(reduction="none", ignore_index=1),
        functools.partial(F.cross_entropy, reduction="none", ignore_index=1),
        functools.partial(nn.CrossEntropyLoss(reduction="none", ignore_index=1)),
    ],
)
def test_an_index_that_a_torch_loss_ignores_is_refused_among_the_targets(loss: Any) -> None:
    model, (x, y) = net(), data()
    for given in ((x, y), (TensorDataset(x, y),)):
        with pytest.raises(InputError, match=r"targets hold 1, which .*ignore_index=1 with the loss \"cross_entropy\""):
            Objective(model, loss, *given)
    objective = Objective(model, loss, x, y, count=int((y != 1).sum()))
    expected = F.cross_entropy(model(x), y, ignore_index=1).detach()
    torch.testing.assert_close(objective.value(objective.theta), expected)
    others = x[y != 1], y[y != 1]
    torch.testing.assert_close(Objective(model, loss, *others).value(objective.theta), expected)


def test_class_weights_need_a_denominator() -> None:
    model, (x, y) = net(), data()
    weight = torch.tensor([0.2, 3.0, 1.0], dtype=torch.float64)
    for loss in (
        nn.CrossEntropyLoss(weight, reduction="none"),
        functools.partial(F.cross_entropy, weight=weight, reduction="none"),
    ):
        with pytest.raises(InputError, match=r"class weights.*count="):
            Objective(model, loss, x, y)
        objective = Objective(model, loss, x, y, count=float(weight[y].sum()), chunk_size=5)
        assert_right(objective, dense(lambda: F.cross_entropy(model(x), y, weight), model))


@pytest.mark.parametrize("count", [0, -1, float("nan"), float("inf"), "N", True])
def test_a_count_must_be_a_positive_number(count: Any) -> None:
    with pytest.raises(InputError, match="count must be a positive, finite number"):
        Objective(net(), "cross_entropy", *data(), count=count)


# ---------------------------------------------------------------- 12, 23: arguments
def test_arguments_are_checked() -> None:
    objective = Objective(net(), "cross_entropy", *data())
    theta = objective.theta
    H = Hessian(objective, theta)
    wrong: list[Callable[[], Any]] = [
        *(lambda t=t: top_eigenspace(H, 2, tolerance=t) for t in (float("nan"), -1, float("inf"), "small", None, 1j)),
        *(lambda k=k: top_eigenspace(H, k) for k in (1.0, 0, "2")),
        lambda: top_eigenspace(H, 2, which="LM"),
        lambda: top_eigenspace(H, 2, start=[1.0]),
        lambda: top_eigenspace(H, 2, start=torch.ones(objective.size, 2, dtype=torch.complex128)),
        lambda: H.matvec([0.0] * objective.size),
        lambda: H @ theta.to_sparse(),
        lambda: H @ eye(objective.size).to_sparse(),
        lambda: objective.value(theta.to_sparse()),
        lambda: Objective(net(), "cross_entropy", data()[0].to_sparse(), data()[1]),
        lambda: Objective(net(), "cross_entropy", [(data()[0].to_sparse(), data()[1])]),
        lambda: Objective(net(), "mse", data()[0], torch.zeros(12, 3).to_sparse()),
        lambda: LossHessian(lambda: theta.sum(), net()),  # type: ignore[arg-type]
        lambda: LossHessian(lambda: theta.sum(), ["0.weight"]),
        lambda: LossHessian(lambda: theta.sum(), [{"params": [theta]}]),
        lambda: LossHessian(3, [theta]),
        lambda: H.matvec(theta.to(torch.complex128)),
        lambda: objective.value(list(theta)),
        lambda: objective.value(theta, torch.tensor([99])),
        lambda: objective.value(theta, torch.tensor([], dtype=torch.long)),
        lambda: objective.value(theta, torch.tensor([0.5])),
        lambda: top_eigenspace(H, 2, generator=ELSEWHERE),
        lambda: trace(H, generator=ELSEWHERE),
        lambda: spectral_density(H, generator=ELSEWHERE),
        lambda: energy_decomposition(objective, theta, DominantSubspace(theta[:, None][:, :0]), generator=ELSEWHERE),
        lambda: spectral_density(H, width=1e-9),
        lambda: trace(H, probes=1),
        lambda: diagonal(H, probes=2.0),
        lambda: Objective(net(), 3, *data()),
        lambda: Objective(net(), "cross_entropy", *data(), output=3),
        lambda: Objective(net(), "cross_entropy", *data(), weight_decay=-1.0),
        lambda: Objective(net(), "cross_entropy", *data(), weight_decay=float("nan")),
        lambda: Objective(net(), "cross_entropy", *data(), parameters=["no"]),
        lambda: Objective(net(), "cross_entropy", *data(), parameters=[nn.Parameter(theta)]),
        lambda: Objective(nn.LazyLinear(3), "cross_entropy", *data()),
        lambda: LossHessian(lambda: theta.sum(), nn.LazyLinear(3).parameters()),
        lambda: Objective(nn.Linear(6, 1).double(), "mse", *data()).gradient(torch.zeros(7).double()),
        lambda: Objective(net(), "mse", data()[0], 5 + data()[1]).gradient(theta),
        lambda: Objective(net(), "cross_entropy", data()[0], 5 + data()[1]).gradient(theta),
        lambda: Objective(net(), "cross_entropy", data()[0].numpy(), data()[1].numpy()),
        lambda: Objective(net(), "cross_entropy", data()[0]),
        lambda: Objective(net(), lambda o, t: o.sum(1) + 1j, *data()).value(theta),
        lambda: Objective(net(), lambda o, t: [1.0] * len(t), *data()).value(theta),
    ]
    for number, use in enumerate(wrong):
        try:
            use()
        except InputError:
            continue
        except Exception as error:
            raise AssertionError(f"case {number}") from error
        raise AssertionError(f"case {number} was accepted")
    with pytest.raises(InputError, match="beyond_tolerance must be"):
        top_eigenspace(H, 2, beyond=1, beyond_tolerance=-1.0)
    assert H.matmat(theta[:, None][:, :0]).shape == (objective.size, 0)


@pytest.mark.parametrize("indices", [torch.tensor(3), 3, (3, 1), ..., torch.tensor([[3, 1]]), [[3, 1]], np.int64(3)])
@pytest.mark.parametrize("padded", [False, True])
def test_indices_that_would_select_features_are_refused(indices: Any, padded: bool) -> None:
    x = data()[0][:6, None]
    lengths = torch.ones(6, dtype=torch.int64) if padded else None
    objective = Objective(nn.Linear(6, 6).double(), "mse", x, x, lengths=lengths)
    with pytest.raises(InputError, match=r"indices must be one-dimensional.*torch.tensor\(\[i\]\)"):
        objective.value(objective.theta, indices)


@pytest.mark.parametrize(
    "indices",
    [slice(1, 4), [1, 2, 3], range(1, 4), np.array([1, 2, 3]), torch.arange(12) % 4 > 0, list(torch.arange(1, 4))],
)
def test_one_dimensional_indices_select_examples(indices: Any) -> None:
    x, y = (t[:4] for t in data())
    if isinstance(indices, Tensor):
        indices = indices[:4]
    objective = Objective(net(), "cross_entropy", x, y)
    expected = Objective(objective.model, "cross_entropy", x[1:], y[1:]).value(objective.theta)
    assert torch.equal(objective.value(objective.theta, indices), expected)


def test_a_loss_hessian_accepts_named_parameters() -> None:
    model = net()
    H = LossHessian(mean_loss(model, data()[0]), model.named_parameters())
    torch.testing.assert_close(H @ eye(H.size), dense(mean_loss(model, data()[0]), model))


def test_a_loss_hessian_after_a_step_says_to_make_a_new_one() -> None:
    model, (x, y) = net(), data()
    H = LossHessian(lambda: F.cross_entropy(model(x), y), model.parameters())
    torch.optim.SGD(model.parameters(), 0.1, weight_decay=0.1).zero_grad()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(0.9)
    with pytest.raises(InputError, match=r"changed in place.*make a new operator"):
        H @ torch.ones(H.size, dtype=torch.float64)


# ---------------------------------------------------------------- 13: parameters without a dimension
def test_parameters_without_a_dimension() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.scale = net(), nn.Parameter(torch.tensor(1.5, dtype=torch.float64))

        def forward(self, x: Tensor) -> Tensor:
            return self.scale.exp() * self.inner(x)

    model = Scaled()
    expected = dense(mean_loss(model, data()[0]), model)
    objective = Objective(model, "cross_entropy", *data(), chunk_size=5)
    assert_right(objective, expected)
    H, outer, functional = joint_products(objective, objective.theta, eye(objective.size))
    torch.testing.assert_close(H, expected)
    torch.testing.assert_close(GaussNewton(objective, objective.theta) @ eye(objective.size), outer)
    torch.testing.assert_close(FunctionalHessian(objective, objective.theta) @ eye(objective.size), functional)
    assert spectral_density(Hessian(objective, objective.theta), probes=2, steps=5).density.notnull().all()


# ---------------------------------------------------------------- 15: trees of tensors
@dataclass
class Out:
    logits: Tensor


class Many(nn.Module):
    """Several inputs, in any form, and an object as output."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.inner, self.form = net(), form

    def run(self, x: Tensor, mask: Tensor) -> Out:
        return Out(self.inner(x * mask[:, None]))


class Named(Many):
    def forward(self, x: Tensor, mask: Tensor | None = None) -> Any:
        assert mask is not None
        return self.run(x, mask)


class Whole(Many):
    def forward(self, batch: Any) -> Any:
        return self.run(batch["x"], batch["mask"]) if isinstance(batch, dict) else self.run(*batch)


@pytest.mark.parametrize("chunk_size", [None, 5])
@pytest.mark.parametrize("form", ["dict", "tuple", "list", "nested", "stream"])
@pytest.mark.parametrize("kind", [Named, Whole])
def test_any_tree_of_inputs_and_outputs(kind: Any, form: str, chunk_size: int | None) -> None:
    x, y = data()
    mask = (torch.arange(12) % 3).double()
    model = kind(form)
    inputs: Any = {"dict": {"x": x, "mask": mask}, "tuple": (x, mask)}.get(form, [x, mask])
    expected = dense(lambda: F.cross_entropy(model.run(x, mask).logits, y), model)
    options: dict[str, Any] = {"output": lambda out: out.logits, "chunk_size": chunk_size}
    if form == "stream":
        batches = [([x[:7], mask[:7]], y[:7]), ([x[7:], mask[7:]], y[7:])]
        objective = Objective(model, "cross_entropy", batches, **options)
    elif form == "nested":

        def loss(o: Tensor, t: Any) -> Tensor:
            return F.cross_entropy(o, t["class"], reduction="none") * t["weights"][0]

        targets = {"class": y, "weights": (mask,)}
        objective = Objective(model, loss, inputs, targets, **options)
        expected = dense(lambda: (F.cross_entropy(model.run(x, mask).logits, y, reduction="none") * mask).mean(), model)
    else:
        objective = Objective(model, "cross_entropy", inputs, y, **options)
    assert_right(objective, expected)
    _, outer, functional = joint_products(objective, objective.theta, eye(objective.size))
    torch.testing.assert_close(outer + functional, expected, rtol=1e-9, atol=1e-11)
    assert objective.outputs(objective.theta).shape == (12, 3)
    if form != "stream":
        part = torch.tensor([3, 1])
        assert objective.gradient(objective.theta, part).isfinite().all()


def test_trees_that_do_not_fit_are_refused() -> None:
    x, y = data()
    for inputs in ({"x": x, "mask": x[:3]}, (), {"x": "text"}, [x, torch.tensor(1.0)], {}):
        with pytest.raises(InputError):
            Objective(Named("dict"), "cross_entropy", inputs, y)


# ---------------------------------------------------------------- 16: streams
class Squares(Dataset):  # type: ignore[type-arg]
    def __len__(self) -> int:
        return 12

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        x, y = data()
        if i >= 12:
            raise IndexError
        return x[i], y[i]


class Batches:
    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        x, y = data()
        yield from zip(x.split(5), y.split(5), strict=True)


class Endless(IterableDataset):  # type: ignore[type-arg]
    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield from zip(*data(), strict=True)


@pytest.mark.parametrize(
    "stream",
    [
        Squares,
        Batches,
        lambda: TensorDataset(*data()),
        lambda: list(Batches()),
        lambda: tuple(Batches()),
        lambda: DataLoader(TensorDataset(*data()), batch_size=5),
        lambda: DataLoader(Endless(), batch_size=4),
    ],
)
@pytest.mark.parametrize("budget", [None, 1])
def test_streams_equal_tensors(stream: Any, budget: int | None) -> None:
    model = net()
    state = torch.get_rng_state()
    objective = Objective(model, "cross_entropy", stream(), memory_budget=budget)
    expected = dense(mean_loss(model, data()[0]), model)
    assert_right(objective, expected)
    torch.testing.assert_close(objective.value(objective.theta), mean_loss(model, data()[0])().detach())
    assert objective.count == 12
    assert torch.equal(torch.get_rng_state(), state), "a DataLoader draws a seed, which is put back"
    S = DominantSubspace(eye(objective.size)[:, :2])
    assert float(energy_decomposition(objective, objective.theta, S, probes=2).energy_total[0]) > 0
    with pytest.raises(InputError, match="indices need data in memory"):
        objective.value(objective.theta, torch.tensor([0]))


class Refilled(Batches):
    """Each batch in the same memory, as a tensor of its own or as NumPy's."""

    def __init__(self, numpy: bool) -> None:
        self.numpy, self.x, self.y = numpy, torch.zeros(4, 6).double(), torch.zeros(4, dtype=torch.int64)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        x, y = data()
        for part in torch.arange(12).split(4):
            if self.numpy:
                self.x.numpy()[:], self.y.numpy()[:] = x[part].numpy(), y[part].numpy()
            else:
                self.x.copy_(x[part]), self.y.copy_(y[part])
            yield self.x, self.y


@pytest.mark.parametrize("numpy", [True, False])
@pytest.mark.parametrize("kind", [Hessian, GaussNewton, FunctionalHessian])
def test_batches_that_are_refilled_in_place(kind: Any, numpy: bool) -> None:
    model = net()
    plain, stream = Objective(model, "cross_entropy", *data()), Objective(model, "cross_entropy", Refilled(numpy))
    operator, v = kind(stream, plain.theta), torch.ones(plain.size, dtype=torch.float64)
    for _ in range(3):
        torch.testing.assert_close(operator @ v, kind(plain, plain.theta) @ v, rtol=1e-12, atol=1e-14)


class Augmented(Batches):
    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for x, y in super().__iter__():
            yield x + 0.01 * torch.randn_like(x), y


class Dwindling(Batches):
    left = 3

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        self.left -= 1
        yield from list(super().__iter__())[: 3 if self.left == 2 else 2]


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (lambda: DataLoader(TensorDataset(*data()), batch_size=5, shuffle=True), "shuffles"),
        (lambda: DataLoader(TensorDataset(*data()), batch_size=12, sampler=SubsetRandomSampler(range(12))), "changed"),
        (Augmented, "changed between two passes"),
        (Dwindling, "ended early"),
        (lambda: iter(Batches()), "can be read only once"),
        (lambda: (b for b in Batches()), "can be read only once"),
        (Endless, "wrap the IterableDataset"),
        (lambda: DataLoader(data()[0], batch_size=5), "must be a pair"),
        (lambda: [{"x": 1}], "must be a pair"),
        (list, "need at least one example"),
        (lambda: [(data()[0], data()[1][:5])], "as many targets as inputs"),
    ],
)
def test_streams_that_are_no_fixed_data_are_refused(stream: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Objective(net(), "cross_entropy", stream()).value(torch.cat([p.detach().flatten() for p in net().parameters()]))


# ---------------------------------------------------------------- 17: outputs
def test_one_number_an_example() -> None:
    model = nn.Sequential(nn.Linear(6, 1), nn.Flatten(0)).double()
    x, y = data()[0], torch.arange(12) / 12
    assert_right(Objective(model, "mse", x, y), dense(lambda: 0.5 * (model(x) - y).square().mean(), model))


def test_objects_and_tuples_need_output() -> None:
    class Pair(nn.Sequential):
        def forward(self, input: Tensor) -> Any:
            return super().forward(input), None

    model, (x, y) = Pair(*net()), data()
    expected = dense(lambda: F.cross_entropy(model(x)[0], y), model)
    assert_right(Objective(model, "cross_entropy", x, y, output=lambda out: out[0]), expected)
    own = Objective(model, lambda out, t: F.cross_entropy(out[0], t, reduction="none"), x, y)
    assert_right(own, expected)
    bare = Objective(model, "cross_entropy", x, y)
    uses: list[Any] = [lambda: bare.gradient(bare.theta), lambda: GaussNewton(own, own.theta) @ own.theta]
    for use in [*uses, lambda: own.outputs(own.theta)]:
        with pytest.raises(InputError, match=r"returns a tuple, not a tensor: .*output=lambda out: out.logits"):
            use()


# ---------------------------------------------------------------- 18: attention
class Attending(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.lift = nn.Linear(2, 4)
        if kind == "encoder":
            layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
            self.attend: Any = nn.TransformerEncoder(layer, 1)
        elif kind == "layer":
            self.attend = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
        elif kind == "multihead":
            self.attend = nn.MultiheadAttention(4, 2, batch_first=True)
        self.out = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.lift(x.view(-1, 3, 2))
        padding = torch.zeros(len(h), 3, dtype=torch.bool)
        padding[:, 2] = True
        if self.kind == "multihead":
            h = self.attend(h, h, h, need_weights=False)[0]
        elif self.kind == "function":
            h = F.scaled_dot_product_attention(h[:, None], h[:, None], h[:, None])[:, 0]
        else:
            h = self.attend(h, src_key_padding_mask=padding)
        return self.out(h.mean(1))


@pytest.mark.filterwarnings("ignore:.*nested.*:UserWarning")
@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("kind", ["encoder", "layer", "multihead", "function"])
def test_torchs_attention_equals_its_math_kernel(kind: str, check: bool) -> None:
    torch.manual_seed(0)
    model, (x, y) = Attending(kind).double().eval(), data()
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        expected = dense(mean_loss(model, x), model)
        value = mean_loss(model, x)().detach()
    objective = Objective(model, "cross_entropy", x, y, chunk_size=5, check=check)
    torch.testing.assert_close(objective.value(objective.theta), value)
    torch.testing.assert_close(objective.value_and_gradient(objective.theta)[0], value)
    assert_right(objective, expected)
    parts = joint_products(objective, objective.theta, eye(objective.size)[:, :3])
    torch.testing.assert_close(parts[0], expected[:, :3])
    assert torch.backends.cuda.flash_sdp_enabled()


# ---------------------------------------------------------------- 19, 22: compiled and scripted modules
@pytest.mark.parametrize("form", ["wrapper", "in place", "part"])
def test_compiled_models_equal_plain_ones(form: str) -> None:
    model, (x, y) = net(), data()
    expected = dense(mean_loss(model, x), model)
    made: Any = model
    if form == "wrapper":
        made = torch.compile(model, backend="aot_eager")
    elif form == "in place":
        model.compile(backend="aot_eager")
    else:
        model[0] = torch.compile(model[0], backend="aot_eager")  # type: ignore[assignment]
    assert_right(Objective(made, "cross_entropy", x, y), expected)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("form", ["script", "trace", "part", "group norm"])
def test_scripted_models_equal_plain_ones(form: str) -> None:
    x, y = data()
    model = net(nn.GroupNorm(2, 8)) if form == "group norm" else net()
    expected = dense(mean_loss(model, x), model)
    made: Any = model
    if form == "trace":
        made = torch.jit.trace(model, x)
    elif form == "part":
        model[0] = torch.jit.script(model[0])
    else:
        made = torch.jit.script(model)
    objective = Objective(made, "cross_entropy", x, y, chunk_size=5)
    for p, q in zip(made.parameters(), objective.parameters, strict=True):
        assert p is q
    assert_right(objective, expected)


# ---------------------------------------------------------------- 20, 21: modes of torch
def test_autocast_regions_change_nothing() -> None:
    model, (x, y) = net(dtype=torch.float32), data(dtype=torch.float32)
    objective = Objective(model, "cross_entropy", x, y)
    theta = objective.theta

    def everything() -> list[Any]:
        H = Hessian(objective, theta)
        top = top_eigenspace(H, 2)
        closure = LossHessian(lambda: objective.loss(x @ model[0].weight.T, y % 8).sum(), [model[0].weight])
        S = DominantSubspace(top.eigenvectors)
        energies = energy_decomposition(objective, theta, S, probes=2)
        found = [top.eigenvalues, top.eigenvectors, objective.gradient(theta), objective.value(theta), H @ theta]
        found += [S.project(theta), S.alignment(theta), trace(H, probes=2).value, diagonal(H, probes=2).value]
        found += [torch.tensor(spectral_density(H, probes=1, steps=3).density.values), closure.size]
        return [*found, torch.tensor(energies.energy_total.values), joint_products(objective, theta, theta[:, None])[0]]

    plain = everything()
    with torch.autocast("cpu", torch.bfloat16):
        inside = everything()
    for a, b in zip(plain, inside, strict=True):
        assert a == b if isinstance(a, int) else torch.equal(a, b)


def test_another_default_device_changes_nothing() -> None:
    objective = Objective(net(), "cross_entropy", *data())
    theta = objective.theta
    H = Hessian(objective, theta)

    def everything() -> list[Tensor]:
        fresh = Objective(objective.model, "cross_entropy", objective.inputs, objective.targets)
        top = top_eigenspace(Hessian(fresh, theta), 2, max_basis=5, max_products=40, tolerance=1e-9)
        S = DominantSubspace(top.eigenvectors)
        energies = energy_decomposition(fresh, theta, S, probes=2)
        density = spectral_density(H, probes=2, steps=3)
        found = [top.eigenvectors, trace(H).value, diagonal(H).value, fresh.value_and_gradient(theta)[1]]
        return [*found, *(torch.from_numpy(d.values) for d in (energies.energy_total, density.density))]

    plain = everything()
    torch.set_default_device("meta")
    try:
        inside = everything()
    finally:
        torch.set_default_device(None)
    for a, b in zip(plain, inside, strict=True):
        assert torch.equal(a, b)


# ---------------------------------------------------------------- 25: pickle
def named_loss(o: Tensor, t: Tensor) -> Tensor:
    return F.cross_entropy(o, t, reduction="none")


def test_what_cannot_be_pickled_is_said_and_copies_work() -> None:
    good = Objective(net(), named_loss, *data())
    again = pickle.loads(pickle.dumps(good))
    assert torch.equal(again.gradient(again.theta), good.gradient(good.theta))
    for options in ({"loss": lambda o, t: named_loss(o, t)}, {"loss": named_loss, "output": lambda o: o}):
        loss: Any = options.pop("loss")
        objective = Objective(net(), loss, *data(), **options)
        with pytest.raises(InputError, match="cannot be pickled: it is a lambda"):
            pickle.dumps(objective)
        for made in (copy.deepcopy(objective), copy.copy(objective)):
            assert torch.equal(made.gradient(made.theta), good.gradient(good.theta))


@pytest.mark.parametrize("kind", [Hessian, GaussNewton, FunctionalHessian])
def test_copies_of_a_used_operator_multiply_as_it_does(kind: Any) -> None:
    """Its kept graph would come back as leaves that depend on nothing, and all products would be zero."""
    objective = Objective(net(), "cross_entropy", *data(), chunk_size=5)
    operator, v = kind(objective, objective.theta), torch.ones(objective.size, dtype=torch.float64)
    expected, stored = operator @ v, io.BytesIO()
    torch.save(operator, stored)
    stored.seek(0)
    made = pickle.loads(pickle.dumps(operator)), torch.load(stored, weights_only=False), copy.deepcopy(operator)
    for again in (*made, copy.copy(operator), operator):
        assert torch.equal(again @ v, expected)


@pytest.mark.parametrize("use", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_loss_hessian_cannot_be_copied(use: Any) -> None:
    model = net()
    H = LossHessian(mean_loss(model, data()[0]), model.parameters())
    with pytest.raises(InputError, match=r"cannot be copied or pickled.*make a new LossHessian"):
        use(H)


# ---------------------------------------------------------------- doors
def test_integer_images() -> None:
    """Cast by the model: right. Not cast: refused with the cast to make."""
    images, y = torch.randint(256, (9, 6), dtype=torch.uint8), torch.randint(3, (9,))
    model = Wrapped(first=lambda self, x: x.double() / 255)
    assert_right(Objective(model, "cross_entropy", images, y), dense(lambda: F.cross_entropy(model(images), y), model))
    for dtype in (torch.uint8, torch.int64):
        plain = Objective(net(), "cross_entropy", images.to(dtype), y)
        with pytest.raises(InputError, match=r"does not accept inputs of torch.u?int.*inputs.float\(\) / 255"):
            plain.gradient(plain.theta)


@pytest.mark.parametrize("which", ["largest", "smallest", "magnitude"])
def test_which_end_of_the_spectrum(which: str) -> None:
    generator = torch.Generator().manual_seed(3)
    Q, _ = torch.linalg.qr(torch.randn(60, 60, dtype=torch.float64, generator=generator))
    values = torch.cat(
        [torch.linspace(-1, 1, 54, dtype=torch.float64), torch.tensor([9.0, -12, 7, -6, 5, -4]).double()]
    )

    class Matrix:
        size, dtype, device = 60, torch.float64, torch.device("cpu")
        A = Q @ torch.diag(values) @ Q.T

        def matmat(self, V: Tensor) -> Tensor:
            return self.A @ V

    expected = {"largest": [9, 7, 5, 1], "smallest": [-12, -6, -4, -1], "magnitude": [-12, 9, 7, -6]}[which]
    found = top_eigenspace(Matrix(), 4, which=which, tolerance=1e-8, max_products=2000, max_basis=20)
    assert found.converged
    torch.testing.assert_close(found.eigenvalues, torch.tensor(expected, dtype=torch.float64))
    image = Matrix.A @ found.eigenvectors
    torch.testing.assert_close(image, found.eigenvectors * found.eigenvalues, rtol=0, atol=1e-6)
    warm = top_eigenspace(Matrix(), 4, which=which, start=found.start, tolerance=1e-3)
    assert warm.converged
    assert warm.products <= 6
    short = top_eigenspace(Matrix(), 4, which=which, tolerance=1e-8, max_products=20)
    assert f"λ_k = {float(short.eigenvalues[-1]):.1e}" in (short.reason or "")


def test_trace_and_diagonal_within_their_errors() -> None:
    model, (x, y) = net(), data()
    objective = Objective(model, "cross_entropy", x, y)
    H, matrix = Hessian(objective, objective.theta), dense(mean_loss(model, x), model)
    found, exact = trace(H, probes=200), matrix.diagonal().sum()
    assert float((found.value - exact).abs()) < 4 * float(found.standard_error)
    expected = (2 * (matrix.square().sum() - matrix.diagonal().square().sum()) / 200).sqrt()
    assert 0.8 < float(found.standard_error / expected) < 1.25
    entries = diagonal(H, probes=200)
    off = ((matrix.square().sum(1) - matrix.diagonal().square()) / 200).sqrt()
    assert float(((entries.value - matrix.diagonal()) / off).abs().max()) < 5
    assert 0.8 < float((entries.standard_error / off).median()) < 1.25
    assert found.products == entries.products == 200
    again = trace(H, probes=200, generator=torch.Generator().manual_seed(1))
    assert not torch.equal(again.value, found.value)


@pytest.mark.parametrize("chosen", [["2"], ["0.weight"], "0", ["0.bias", "2.weight"], "tensor"])
def test_curvature_of_some_parameters(chosen: Any) -> None:
    model, (x, y) = net(), data()
    matrix = dense(mean_loss(model, x), model)
    names = [name for name, p in model.named_parameters() for _ in range(p.numel())]
    wanted = [model[0].weight] if chosen == "tensor" else chosen
    mine = {"tensor": ["0.weight"], "0": ["0.weight", "0.bias"]}.get(str(chosen), chosen)
    keep = [i for i, name in enumerate(names) if any(name == m or name.startswith(f"{m}.") for m in mine)]
    objective = Objective(model, "cross_entropy", x, y, parameters=wanted, chunk_size=5)
    assert_right(objective, matrix[keep][:, keep])


@pytest.mark.parametrize("chunk_size", [None, 5])
def test_weight_decay_is_part_of_the_curvature(chunk_size: int | None) -> None:
    model, (x, y) = net(), data()

    def loss() -> Tensor:
        return F.cross_entropy(model(x), y) + 0.5 * 0.3 * sum(p.square().sum() for p in model.parameters())

    objective = Objective(model, "cross_entropy", x, y, weight_decay=0.3, chunk_size=chunk_size)
    plain = Objective(model, "cross_entropy", x, y)
    theta = objective.theta
    assert_right(objective, dense(loss, model))
    torch.testing.assert_close(objective.value(theta), loss().detach())
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss(), list(model.parameters()))])
    torch.testing.assert_close(objective.gradient(theta), gradient)
    part = torch.tensor([1, 2])
    torch.testing.assert_close(objective.gradient(theta, part), plain.gradient(theta, part) + 0.3 * theta)
    I = eye(objective.size)  # noqa: E741
    H, outer, functional = joint_products(objective, theta, I)
    without = joint_products(plain, theta, I)
    torch.testing.assert_close(H, without[0] + 0.3 * I)
    torch.testing.assert_close(outer, without[1] + 0.3 * I)
    torch.testing.assert_close(functional, without[2])
    torch.testing.assert_close(GaussNewton(objective, theta) @ I, outer)
    torch.testing.assert_close(FunctionalHessian(objective, theta) @ I, functional)


# ---------------------------------------------------------------- 4, 7: what the solver can and cannot say
class Symmetric:
    """A matrix as an operator, with an error in each product."""

    exact = True
    device = torch.device("cpu")

    def __init__(self, values: list[float], dtype: torch.dtype, error: float = 0.0) -> None:
        generator = torch.Generator().manual_seed(5)
        n = len(values)
        Q, _ = torch.linalg.qr(torch.randn(n, n, dtype=torch.float64, generator=generator))
        self.Q, self.size, self.dtype = Q, n, dtype
        A = Q @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ Q.T
        noise = torch.randn(n, n, dtype=torch.float64, generator=generator) / n**0.5
        self.A = (A + error * noise).to(dtype)

    def matmat(self, V: Tensor) -> Tensor:
        return self.A @ V

    def overlap(self, vectors: Tensor, k: int) -> float:
        return float((self.Q[:, :k].T @ vectors.double()).square().sum()) / k


SPREAD = [10.0, 8.0, 6.0, 5.0] + [2.0 * 0.9**i for i in range(40)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("value", [2.0, -0.1, 1e-10])
def test_the_density_of_one_eigenvalue_is_one_peak(value: float, dtype: torch.dtype) -> None:
    """The nodes differ only by rounding errors, whose range is no width."""
    density = spectral_density(Symmetric([value] * 50, dtype), probes=4, steps=10).density
    assert float(density.integrate("eigenvalue")) == pytest.approx(1, abs=1e-4)
    assert float(density.eigenvalue[density.values.argmax()]) == pytest.approx(value, rel=2e-2)
    zero = spectral_density(Symmetric([0.0] * 9, dtype), probes=4, steps=10)
    assert float(zero.density.integrate("eigenvalue")) == pytest.approx(1, abs=1e-4)


def test_a_grid_finer_than_rounding_is_refused() -> None:
    with pytest.raises(InputError, match=r"closer than rounding errors of eigenvalues of 2: give a larger width"):
        spectral_density(Symmetric([2.0] * 50, torch.float64), probes=4, steps=10, width=1e-16)
    density = spectral_density(Symmetric([2.0] * 50, torch.float64), probes=4, steps=10, width=1e-9).density
    assert float(density.integrate("eigenvalue")) == pytest.approx(1, abs=1e-4)


def test_a_little_asymmetry_does_not_end_the_search() -> None:
    operator = Symmetric(SPREAD, torch.float32, error=0.02)
    found = top_eigenspace(operator, 4)
    assert operator.overlap(found.eigenvectors, 4) > 0.999
    assert not found.converged
    assert "not symmetric" in str(found.reason)
    assert found.products < 60


@pytest.mark.parametrize("dtype", [torch.bfloat16])
@pytest.mark.parametrize("values", [SPREAD, [100.0, 3.0, 1.0, 0.5] + [0.1] * 40])
def test_half_precision_never_converges(values: list[float], dtype: torch.dtype) -> None:
    for k in (1, 4):
        found = top_eigenspace(Symmetric(values, dtype), k)
        assert not found.converged
        assert "not symmetric" in str(found.reason) or "convert the model to float32" in str(found.reason)


def test_rounding_does_not_pass_for_convergence_in_float32() -> None:
    """λ_k = 1e-5 ‖A‖: its residual may be no more than rounding, and still most of λ_k."""
    found = top_eigenspace(Symmetric([1e4, 0.15, 0.12, 0.1] + [0.09] * 40, torch.float32), 4)
    if found.converged:
        assert float(found.residuals.max()) <= 1e-2 * float(found.eigenvalues[-1])
    else:
        assert "use float64" in str(found.reason) or "residual" in str(found.reason)
    low = top_eigenspace(Symmetric([3.0, 2.0] + [0.0] * 40, torch.float32), 4)
    assert low.converged, "of rank 2: λ_4 is 0 to rounding"


def test_max_norm_is_noticed_in_products_too() -> None:
    objective = Objective(Wrapped(first=renorm), "cross_entropy", *data())
    with pytest.raises(InputError, match="changed the parameters in place"):
        Hessian(objective, objective.theta) @ objective.theta
