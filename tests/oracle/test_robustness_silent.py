"""What used to be silently wrong: right, or refused with a reason. The oracle is the dense Hessian in float64."""

from __future__ import annotations

import copy
import random
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sharpflat import (
    CurvatureWarning,
    FunctionalHessian,
    GaussNewton,
    Hessian,
    InputError,
    LossHessian,
    Objective,
    diagonal,
    joint_products,
    spectral_density,
    top_eigenspace,
    trace,
)

DTYPES = [torch.float64, torch.float32]


def data(count: int = 12, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(count, 6, generator=generator, dtype=torch.float64).to(dtype)
    return inputs, torch.randint(3, (count,), generator=generator)


def net(*layers: nn.Module, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), *layers, nn.Linear(8, 3)).to(dtype)


def dense(loss: Callable[[], Tensor], model: nn.Module) -> Tensor:
    """The Hessian at the model's own parameters, row by row, by double backward passes."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(loss(), parameters, create_graph=True)
    flat = torch.cat([g.reshape(-1) for g in gradients])
    rows = [torch.autograd.grad(g, parameters, retain_graph=True, materialize_grads=True) for g in flat]
    return torch.stack([torch.cat([p.reshape(-1) for p in row]) for row in rows])


def assert_right(objective: Objective, expected: Tensor) -> None:
    H = Hessian(objective, objective.theta) @ torch.eye(objective.size, dtype=objective.dtype)
    torch.testing.assert_close(H, expected, rtol=1e-9, atol=1e-11)


class Wrapped(nn.Module):
    """The net with a function applied to its hidden layer, or its input."""

    def __init__(self, hidden: Any = None, first: Any = None, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.inner = net(dtype=dtype)
        self.hidden, self.first = hidden, first

    def forward(self, x: Tensor) -> Tensor:
        if self.first is not None:
            x = self.first(self, x)
        h = self.inner[1](self.inner[0](x))
        return self.inner[2](h if self.hidden is None else self.hidden(self, h))


# ---------------------------------------------------------------- 1: autograd is off
def test_inference_mode_is_refused_and_no_grad_is_welcome() -> None:
    objective = Objective(net(), "cross_entropy", *data())
    theta = objective.theta
    expected, gradient = Hessian(objective, theta) @ theta, objective.gradient(theta)
    with torch.no_grad():
        assert torch.equal(Hessian(objective, theta) @ theta, expected)
        assert torch.equal(objective.gradient(theta), gradient)
    value = objective.value(theta)
    with torch.inference_mode():
        fresh = Objective(net(), "cross_entropy", *data())
        assert torch.equal(objective.value(theta), value)
        for use in (
            lambda: objective.gradient(theta),
            lambda: Hessian(objective, theta) @ theta,
            lambda: GaussNewton(fresh, fresh.theta).matvec(theta),
            lambda: top_eigenspace(Hessian(objective, theta), 2),
            lambda: joint_products(objective, theta, theta[:, None]),
            lambda: LossHessian(lambda: theta.sum(), [theta]),
        ):
            with torch.enable_grad(), pytest.raises(InputError, match=r"with torch.inference_mode\(False\)"):
                use()
        made = theta.clone(), objective.theta
    for t in made:  # tensors made inside of the mode are welcome outside of it
        assert torch.equal(Hessian(objective, t) @ t, expected)
    with torch.inference_mode():
        inside = tuple(t.clone() for t in data())
    model, (x, y) = net(), data()
    assert_right(Objective(model, "cross_entropy", *inside), dense(lambda: F.cross_entropy(model(x), y), model))


@pytest.mark.parametrize("where", ["forward", "output", "loss"])
def test_a_loss_that_autograd_cannot_see_is_refused(where: str) -> None:
    class Cut(nn.Sequential):
        def forward(self, input: Tensor) -> Tensor:
            with torch.no_grad():
                return super().forward(input)

    model: nn.Module = Cut(*net()) if where == "forward" else net()
    loss: Any = (lambda o, y: F.cross_entropy(o, y, reduction="none").detach()) if where == "loss" else "cross_entropy"
    objective = Objective(model, loss, *data(), output=(lambda o: o.detach()) if where == "output" else None)
    uses: list[Any] = [objective.gradient, lambda t: Hessian(objective, t) @ t, lambda t: GaussNewton(objective, t) @ t]
    for use in uses:
        with pytest.raises(InputError, match="depends on none of the parameters as far as autograd can see"):
            use(objective.theta)


# ---------------------------------------------------------------- 2: parameters reached in other ways
def penalised(model: nn.Module, parameters: Any) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda o, t: F.cross_entropy(o, t, reduction="none") + 0.25 * sum((p**2).sum() for p in parameters(model))


@pytest.mark.parametrize(
    "parameters",
    [
        lambda m: m.parameters(),
        lambda m: [p for _, p in m.named_parameters()],
        lambda m: [m[0].weight],
        lambda m: [nn.utils.parameters_to_vector(m.parameters())],
    ],
    ids=["parameters", "named", "attribute", "vector"],
)
@pytest.mark.parametrize("check", [True, False])
def test_a_penalty_looked_up_in_the_loss_is_part_of_it(parameters: Any, check: bool) -> None:
    model, (x, y) = net(), data()
    loss = penalised(model, parameters)
    objective = Objective(model, loss, x, y, chunk_size=5, check=check)
    assert_right(objective, dense(lambda: loss(model(x), y).mean(), model))
    parts = torch.autograd.grad(loss(model(x), y).mean(), list(model.parameters()))
    expected = torch.cat([g.reshape(-1) for g in parts])
    torch.testing.assert_close(objective.gradient(objective.theta), expected)


def test_parameters_taken_before_are_refused() -> None:
    model = net()
    taken = list(model.parameters())
    loss = penalised(model, lambda m: taken)
    for use in (Objective.value, Objective.gradient):
        objective = Objective(model, loss, *data())
        with pytest.raises(
            InputError, match=r"reaches parameters .* \(0.bias, 0.weight, 2.bias, 2.weight\).*check=False"
        ):
            use(objective, objective.theta)

    class Alias(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = net()
            self.tied = [self.inner[0].weight]

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x) + (x @ self.tied[0].T).sum(1, keepdim=True)

    objective = Objective(Alias(), "cross_entropy", *data())
    with pytest.raises(InputError, match=r"other than through its modules \(inner.0.weight\)"):
        Hessian(objective, objective.theta) @ objective.theta


def test_parts_of_a_penalised_loss_are_refused() -> None:
    model = net()
    objective = Objective(model, penalised(model, lambda m: m.parameters()), *data())
    for kind in (GaussNewton, FunctionalHessian):
        with pytest.raises(InputError, match="other than through the model's outputs"):
            kind(objective, objective.theta) @ objective.theta


# ---------------------------------------------------------------- 3: checkpointed activations
@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("nested", [False, True])
def test_checkpointing_equals_no_checkpointing(nested: bool, check: bool) -> None:
    def block(self: Wrapped, h: Tensor) -> Tensor:
        return torch.tanh(self.inner[0](torch.cat([h[:, :6]], 1)))

    def saved(self: Wrapped, h: Tensor) -> Tensor:
        if nested:
            return checkpoint(lambda t: checkpoint(block, self, t, use_reentrant=False), h, use_reentrant=False)
        return checkpoint(block, self, h, use_reentrant=False)

    plain, model = Wrapped(block), Wrapped(saved)
    ours, theirs = (Objective(m, "cross_entropy", *data(), chunk_size=5, check=check) for m in (model, plain))
    theta = theirs.theta + 0.1 * torch.randn(theirs.size, dtype=torch.float64)
    torch.testing.assert_close(ours.gradient(theta), theirs.gradient(theta), rtol=1e-12, atol=1e-14)
    eye = torch.eye(theirs.size, dtype=torch.float64)[:, :7]
    for kind in (Hessian, GaussNewton, FunctionalHessian):
        expected = kind(theirs, theta) @ eye
        torch.testing.assert_close(kind(ours, theta) @ eye, expected, rtol=1e-10, atol=1e-12)


def test_reentrant_checkpoints_are_refused() -> None:
    model = Wrapped(lambda self, h: checkpoint(torch.tanh, h, use_reentrant=True))
    objective = Objective(model, "cross_entropy", *data())
    for use in (objective.gradient, lambda t: Hessian(objective, t) @ t):
        with pytest.raises(InputError, match="use_reentrant=False"):
            use(objective.theta)


# ---------------------------------------------------------------- 5, 10: chance and side effects
def noise(self: Any, h: Tensor) -> Tensor:
    return h + 0.1 * torch.randn(h.shape, dtype=h.dtype)


def numpy_noise(self: Any, h: Tensor) -> Tensor:
    return h * (1 + 0.1 * np.random.rand())  # noqa: NPY002


def python_noise(self: Any, h: Tensor) -> Tensor:
    return h * (1 + 0.1 * random.random())


def functional_dropout(self: Any, h: Tensor) -> Tensor:
    return F.dropout(h, 0.5, training=self.training)


def bernoulli(self: Any, h: Tensor) -> Tensor:
    return h if torch.rand(()) < 0.7 else 0 * h


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("chance", [noise, numpy_noise, python_noise, functional_dropout, bernoulli])
def test_chance_is_refused_and_leaves_the_generators_alone(chance: Any, dtype: torch.dtype) -> None:
    model, (x, y) = Wrapped(chance, dtype=dtype), data(dtype=dtype)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    for use in (Objective.value, Objective.gradient, lambda o, t: Hessian(o, t) @ t):
        objective = Objective(model, "cross_entropy", x, y)
        with pytest.raises(InputError, match="draws random numbers"):
            use(objective, objective.theta)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert (np.random.get_state()[1] == states[2]).all()  # noqa: NPY002


def test_dropout_by_function_is_welcome_in_eval_mode_and_noticed_when_switched_on() -> None:
    model, (x, y) = Wrapped(functional_dropout).eval(), data()
    objective = Objective(model, "cross_entropy", x, y)
    assert_right(objective, dense(lambda: F.cross_entropy(model(x), y), model))
    model.train()
    with pytest.raises(InputError, match="draws random numbers"):
        Hessian(objective, objective.theta) @ objective.theta


def test_a_generator_of_its_own_and_memory_are_noticed() -> None:
    generator = torch.Generator().manual_seed(0)
    own = Wrapped(lambda self, h: h + 0.1 * torch.randn(h.shape, dtype=h.dtype, generator=generator))

    def remember(self: Any, h: Tensor) -> Tensor:
        self.calls = getattr(self, "calls", 0) + 1
        return h * self.calls

    for model in (own, Wrapped(remember)):
        objective = Objective(model, "cross_entropy", *data())
        with pytest.raises(InputError, match="two forward passes over the same examples gave different losses"):
            objective.gradient(objective.theta)


class Tokens(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 4, **options)
        self.out = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.embed(x).mean(1))


def renorm(self: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        self.inner[0].weight.clamp_(-0.01, 0.01)
    return x


def mangle(self: Any, x: Tensor) -> Tensor:
    return x.mul_(0.5)


def test_max_norm_and_sparse_embeddings_are_refused_by_name() -> None:
    tokens, y = torch.randint(7, (9, 2)), torch.randint(3, (9,))
    with pytest.raises(InputError, match=r"'embed' \(Embedding\): max_norm rewrites its weights"):
        Objective(Tokens(max_norm=1.0), "cross_entropy", tokens, y)
    with pytest.raises(InputError, match="sparse gradients"):
        Objective(Tokens(sparse=True), "cross_entropy", tokens, y)
    with pytest.raises(InputError, match="scale_grad_by_freq changes gradients by the batch"):
        Objective(Tokens(scale_grad_by_freq=True), "cross_entropy", tokens, y)
    model = Tokens(sparse=True)
    with pytest.raises(InputError, match="sparse gradients"):
        LossHessian(lambda: F.cross_entropy(model(tokens), y), model.parameters())


def test_theta_and_data_changed_in_place_are_noticed_and_put_back() -> None:
    for first, what in ((renorm, "the parameters"), (mangle, "its inputs")):
        x, y = data()
        objective = Objective(Wrapped(first=first), "cross_entropy", x, y)
        theta, copies = objective.theta, (objective.theta, x.clone())
        for use in (objective.value, objective.gradient, lambda t, o=objective: Hessian(o, t) @ t):
            with pytest.raises(InputError, match=f"changed {what}.* in place"):
                use(theta)
            assert torch.equal(theta, copies[0])
            assert torch.equal(x, copies[1])

    def functional(self: Any, x: Tensor) -> Tensor:
        return F.embedding(x.long().abs() % 8, self.inner[0].weight, max_norm=0.1).mean(1)

    objective = Objective(Wrapped(first=functional), "cross_entropy", *data())
    with pytest.raises(InputError, match="changed the parameters in place"):
        objective.gradient(objective.theta)
    unchecked = Objective(Wrapped(first=renorm), "cross_entropy", *data(), check=False)
    with pytest.raises(InputError, match="changed the parameters in place"):
        unchecked.gradient(unchecked.theta)


def test_targets_changed_by_the_loss_are_noticed() -> None:
    x, y = data()
    copy = y.clone()
    objective = Objective(net(), lambda o, t: F.cross_entropy(o, t.mul_(0), reduction="none"), x, y)
    with pytest.raises(InputError, match="changed its inputs or targets in place"):
        objective.value(objective.theta)
    assert torch.equal(y, copy)


class Running(nn.Module):
    def __init__(self, replace: bool) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(8, dtype=torch.float64))
        self.replace = replace

    def forward(self, h: Tensor) -> Tensor:
        if self.training:
            new = 0.9 * self.mean + 0.1 * h.detach().mean(0)
            if self.replace:
                self.mean = new
            else:
                self.mean.copy_(new)
        return h - self.mean


@pytest.mark.parametrize("layer", ["in place", "replaced", "spectral norm", "parametrised spectral norm"])
def test_buffers_that_move_are_noticed_and_put_back(layer: str) -> None:
    made: dict[str, Callable[[], nn.Module]] = {
        "in place": lambda: Running(False),
        "replaced": lambda: Running(True),
        "spectral norm": lambda: nn.utils.spectral_norm(nn.Linear(8, 8)),
        "parametrised spectral norm": lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(8, 8)),
    }
    model = net(made[layer]())
    before = {name: b.clone() for name, b in model.named_buffers()}
    objective = Objective(model, "cross_entropy", *data())
    with pytest.raises(InputError, match=r"changed its buffer '2\..*call model.eval\(\)"):
        objective.gradient(objective.theta)
    for name, b in model.named_buffers():
        assert torch.equal(b, before[name])
    model.eval()
    assert objective.gradient(objective.theta).isfinite().all()


class Graph(nn.Module):
    """Neighbours as a sparse buffer, in several layouts."""

    def __init__(self, layout: torch.layout, change: Callable[[Any, Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.inner, self.change = net(), change
        self.register_buffer("a", (2 * torch.eye(6).double()).to_sparse(layout=layout))

    def forward(self, x: Tensor) -> Tensor:
        x = (self.a @ x.T).T
        return self.inner(x if self.change is None else self.change(self, x))


def doubled(self: Any, x: Tensor) -> Tensor:
    self.a = 2 * self.a
    return x


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support:UserWarning")
@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr])
def test_a_sparse_buffer_does_not_switch_off_the_check(layout: torch.layout) -> None:
    model, (x, y) = Graph(layout), data()
    assert_right(Objective(model, "cross_entropy", x, y), dense(lambda: F.cross_entropy(model(x), y), model))
    state = torch.get_rng_state()
    for change, message in ((functional_dropout, "draws random numbers"), (doubled, "changed its buffer 'a'")):
        objective = Objective(Graph(layout, change), "cross_entropy", x, y)
        with pytest.raises(InputError, match=message):
            objective.value(objective.theta)
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.equal(objective.model.a.to_dense(), 2 * torch.eye(6).double())


def test_a_check_that_cannot_be_made_is_no_pass() -> None:
    class Odd(Tensor):
        """A buffer that cannot be compared."""

        def __eq__(self, other: Any) -> Any:
            raise RuntimeError("no comparison")

        __hash__ = Tensor.__hash__

    model = net()
    model.register_buffer("odd", torch.zeros(2).as_subclass(Odd))
    objective = Objective(model, "cross_entropy", *data())
    with pytest.raises(
        InputError, match=r"the self-check failed \(RuntimeError: no comparison\); check=False skips it"
    ):
        objective.value(objective.theta)
    unchecked = Objective(model, "cross_entropy", *data(), check=False)
    assert unchecked.value(unchecked.theta).isfinite()


def test_a_model_that_fails_on_few_examples_is_evaluated_unchecked() -> None:
    def many(self: Any, h: Tensor) -> Tensor:
        if len(h) < 12:
            raise ValueError("too few examples")
        return h

    model, (x, y) = Wrapped(many), data()
    objective = Objective(model, "cross_entropy", x, y, chunk_size=12)
    torch.testing.assert_close(objective.value(objective.theta), F.cross_entropy(model(x), y).detach())
    few = Objective(model, "cross_entropy", x[:5], y[:5], chunk_size=12)
    with pytest.raises(ValueError, match="too few examples"):
        few.value(few.theta)


# ---------------------------------------------------------------- 6: blocks of vectors
class G(nn.GroupNorm):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input)


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        return F.group_norm(x, 1, self.scale)


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("norm", [G, Functional, nn.GroupNorm])
@pytest.mark.slow
def test_group_norm_in_any_form_equals_the_dense_matrix(norm: Any, count: int) -> None:
    torch.manual_seed(1)
    layer = norm() if norm is Functional else norm(1, 4)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 1), layer, nn.Flatten(), nn.Linear(16, 3), nn.Tanh(), nn.Linear(3, 3)
    ).double()
    x, y = torch.randn(count, 1, 2, 2, dtype=torch.float64), torch.randint(3, (count,))
    for chunk_size in {1, count}:
        objective = Objective(model, "cross_entropy", x, y, chunk_size=chunk_size)
        assert_right(objective, dense(lambda: F.cross_entropy(model(x), y), model))
        H, outer, functional = joint_products(objective, objective.theta, torch.eye(objective.size).double())
        whole = Hessian(objective, objective.theta) @ torch.eye(objective.size).double()
        torch.testing.assert_close(outer + functional, whole)
        assert torch.equal(H, outer + functional)


# ---------------------------------------------------------------- 8: second derivatives that are wrong
class Detached(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.exp(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:  # type: ignore[override]
        return g * torch.exp(ctx.saved_tensors[0].detach())


class Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return (4 * x).round() / 4

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:  # type: ignore[override]
        return g


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.exp(x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> Tensor:  # type: ignore[override]
        return g * torch.exp(ctx.saved_tensors[0])


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("dtype", DTYPES)
def test_weight_norm_is_refused_with_the_reason(dtype: torch.dtype) -> None:
    def layer() -> nn.Module:
        return nn.utils.weight_norm(nn.Linear(8, 8))

    objective = Objective(net(layer(), dtype=dtype), "cross_entropy", *data(dtype=dtype))
    with pytest.raises(InputError, match=r"not symmetric: .* differ by .*%.*weight_norm"):
        top_eigenspace(Hessian(objective, objective.theta), 2)
    unchecked = Objective(net(layer(), dtype=dtype), "cross_entropy", *data(dtype=dtype), check=False)
    found = top_eigenspace(Hessian(unchecked, unchecked.theta), 2)
    assert not found.converged
    assert "not symmetric" in str(found.reason)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("function", "message"),
    [
        (Detached, "differs from the difference of two gradients"),
        (Rounded, "differs from the difference of two gradients|not symmetric"),
        (Once, "second derivative|cannot be differentiated"),
    ],
)
def test_second_derivatives_that_lack_a_part_are_refused(function: Any, message: str, dtype: torch.dtype) -> None:
    model = Wrapped(lambda self, h: function.apply(h), dtype=dtype)
    objective = Objective(model, "cross_entropy", *data(dtype=dtype))
    with pytest.raises(InputError, match=message):
        Hessian(objective, objective.theta) @ objective.theta


def test_a_detached_part_is_refused() -> None:
    model = Wrapped(lambda self, h: h * h.detach())
    objective = Objective(model, "cross_entropy", *data())
    with pytest.raises(InputError, match="second derivative"):
        Hessian(objective, objective.theta) @ objective.theta


# ---------------------------------------------------------------- 24: dependence on the batch
def normalised(self: Any, h: Tensor) -> Tensor:
    return (h - h.mean(0)) / (h.std(0, correction=0) + 1)


def centred(self: Any, h: Tensor) -> Tensor:
    return h - 0.1 * h.mean(0, keepdim=True)


def attending(self: Any, h: Tensor) -> Tensor:
    return torch.softmax(h @ h.T, 1) @ h


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mixing", [normalised, centred, attending])
def test_examples_that_depend_on_each_other_are_refused(mixing: Any, dtype: torch.dtype) -> None:
    objective = Objective(Wrapped(mixing, dtype=dtype), "cross_entropy", *data(dtype=dtype))
    for use in (objective.value, objective.gradient, lambda t: Hessian(objective, t) @ t):
        with pytest.raises(InputError, match="depends on the other examples in its chunk"):
            use(objective.theta)


def test_a_loss_across_examples_is_refused() -> None:
    def contrast(o: Tensor, t: Tensor) -> Tensor:
        return -torch.log_softmax(o @ o.T, 1).diagonal()

    objective = Objective(net(), contrast, *data())
    with pytest.raises(InputError, match="depends on the other examples"):
        objective.gradient(objective.theta)


# ---------------------------------------------------------------- 26: parameters replaced
@pytest.mark.parametrize("change", ["parameter", "module", "added", "unfrozen", "frozen"])
def test_a_model_that_changed_needs_a_new_objective(change: str) -> None:
    model = net()
    if change == "unfrozen":
        model[0].bias.requires_grad_(False)
    objective = Objective(model, "cross_entropy", *data())
    objective.gradient(objective.theta)
    if change == "parameter":
        model[0].weight = nn.Parameter(model[0].weight.detach().clone())
    elif change == "module":
        model[2] = nn.Linear(8, 3).double()
    elif change == "added":
        model.append(nn.Linear(3, 3).double())
    else:
        model[0].bias.requires_grad_(change == "unfrozen")
    for use in (objective.gradient, lambda t: Hessian(objective, t) @ t):
        with pytest.raises(InputError, match="make a new Objective"):
            use(objective.theta)


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize(
    "layer",
    [nn.ReLU(), nn.Dropout(0.5), nn.BatchNorm1d(8, affine=False, dtype=torch.float64), nn.Sequential(nn.Tanh())],
)
def test_a_replaced_module_without_parameters_is_refused(layer: nn.Module, check: bool) -> None:
    model = net()
    objective = Objective(model, "cross_entropy", *data(), check=check)
    theta = objective.theta
    H, tanh = Hessian(objective, theta), model[1]
    expected, value = H @ theta, objective.value(theta)
    model[1] = layer
    mean = layer.running_mean.clone() if isinstance(layer, nn.BatchNorm1d) else None
    uses: list[Any] = [objective.value, objective.gradient, objective.outputs, H.matvec]
    for use in uses:
        with pytest.raises(InputError, match=r"modules were replaced, .* make a new Objective"):
            use(theta)
    if isinstance(layer, nn.BatchNorm1d):
        assert mean is not None
        assert torch.equal(layer.running_mean, mean)
    model[1] = tanh
    assert torch.equal(H @ theta, expected)
    assert torch.equal(objective.value(theta), value)


def test_a_replaced_parameter_is_noticed_without_the_self_check_too() -> None:
    model = net()
    objective = Objective(model, "cross_entropy", *data(), check=False)
    model[0].weight = nn.Parameter(model[0].weight.detach().clone())
    with pytest.raises(InputError, match="was replaced since the Objective was made"):
        objective.gradient(objective.theta)


# ---------------------------------------------------------------- threads
@pytest.mark.parametrize("check", [True, False])
def test_threads_take_turns(check: bool) -> None:
    """With one Objective, with two of one model, and with one operator; also if a loss evaluates another Objective."""
    inside = [0, 0]  # now, at most

    def slow(self: Any, h: Tensor) -> Tensor:
        inside[0] += 1
        inside[1] = max(inside)
        time.sleep(1e-4)
        inside[0] -= 1
        return h

    model, (x, y) = Wrapped(slow), data()
    own = list(model.parameters())
    other = Objective(net(), "cross_entropy", x, y)

    def nested(o: Tensor, t: Tensor) -> Tensor:
        return F.cross_entropy(o, t, reduction="none") + other.value(other.theta)

    made = [Objective(model, loss, x, y, check=check, chunk_size=5) for loss in ("cross_entropy", nested)]
    H = Hessian(made[0], made[0].theta)

    def work(i: int) -> list[Tensor]:
        theta = (1 + i) * other.theta
        L = LossHessian(lambda: F.cross_entropy(model(x), y), model.parameters())
        return [*(o.gradient(theta) for o in made), made[0].value(theta), H @ theta, L @ theta]

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(work, range(2)))
    assert inside == [0, 1]
    assert all(p is q for p, q in zip(model.parameters(), own, strict=True))
    for i, results in enumerate(found):
        for a, b in zip(results, work(i), strict=True):
            assert torch.equal(a, b)
    assert torch.equal(copy.deepcopy(made[0]).gradient(other.theta), found[0][0])


# ---------------------------------------------------------------- what must stay welcome
class ZeroBias(nn.Module):
    """Rectifiers whose inputs are exactly 0 at θ, and ties in the pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv2d(1, 3, 3, padding=1), nn.Linear(12, 3)
        nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x.view(-1, 1, 2, 3), (1, 0, 2, 0))
        return self.out(F.max_pool2d(torch.relu(self.conv(x)), 2).flatten(1))


@pytest.mark.parametrize("dtype", [*DTYPES, torch.bfloat16])
@pytest.mark.parametrize(
    "model",
    [
        ZeroBias,
        lambda: nn.Sequential(nn.Linear(6, 500), nn.ReLU(), nn.Linear(500, 500), nn.ReLU(), nn.Linear(500, 3)),
        lambda: nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.GELU(), nn.Dropout(0.0), nn.Linear(8, 3)),
        lambda: nn.Linear(6, 3),
    ],
)
@pytest.mark.parametrize("shift", [0.0, 100.0])
def test_kinks_and_flat_losses_pass_the_check(model: Any, dtype: torch.dtype, shift: float) -> None:
    """A shift of the outputs makes the softmax certain: products are then rounding errors, and no fault."""
    torch.manual_seed(0)
    made, (x, y) = model().to(dtype), data(dtype=dtype)
    output = lambda o: o + shift * F.one_hot(torch.zeros(len(o), dtype=torch.long), 3)  # noqa: E731
    objective = Objective(made, "cross_entropy", x, 0 * y if shift else y, output=output)
    theta = objective.theta
    for kind in (Hessian, GaussNewton, FunctionalHessian):
        assert (kind(objective, theta) @ torch.ones(objective.size, 2, dtype=dtype)).isfinite().all()


@pytest.mark.parametrize("seed", [3, 7])
@pytest.mark.parametrize("cast", [False, True])
def test_wide_rectifiers_pass_in_float64_and_where_the_model_takes_none(seed: int, cast: bool) -> None:
    class Cast(nn.Sequential):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input.float() if cast else input)

    torch.manual_seed(seed)
    model = Cast(nn.Linear(6, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, 3))
    for p in model.parameters():
        nn.init.normal_(p, std=0.1)
    objective = Objective(model, "cross_entropy", *data(dtype=torch.float32))
    assert (Hessian(objective, objective.theta) @ objective.theta).isfinite().all()


class RMSNorm(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        h = x.float()
        return (h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + 1e-6)).to(x.dtype)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "hidden",
    [
        lambda self, h: RMSNorm()(h),
        lambda self, h: torch.softmax(h, -1, dtype=torch.float32).to(h.dtype),
        lambda self, h: h.float().to(h.dtype),
    ],
    ids=["norm", "softmax", "cast"],
)
def test_models_that_compute_a_part_in_float32_are_right(hidden: Any, dtype: torch.dtype, seed: int) -> None:
    """As language models do. Differences of gradients of such a model are rounding errors."""
    model = Wrapped(hidden, dtype=dtype)
    generator = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.data += torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p) / 10
    x, y = data(dtype=dtype)
    objective = Objective(model, "cross_entropy", x, y)
    H = Hessian(objective, objective.theta) @ torch.eye(objective.size, dtype=dtype)
    expected = dense(lambda: F.cross_entropy(model(x), y), model)
    torch.testing.assert_close(H, expected, rtol=1e-4, atol=1e-5)
    joint_products(objective, objective.theta, torch.eye(objective.size, 2, dtype=dtype))


@pytest.mark.parametrize("seed", [0, 2])
def test_a_steep_loss_of_outputs_in_float32_is_no_fault(seed: int) -> None:
    """Its differences of gradients are off by more than the check allows in float64."""

    class Cast(nn.Sequential):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input).float().double()

    torch.manual_seed(seed)
    model = Cast(nn.Linear(6, 20), nn.Tanh(), nn.Linear(20, 20), nn.Tanh(), nn.Linear(20, 3)).double()
    x, y = torch.randn(12, 6, dtype=torch.float64), torch.randn(12, 3, dtype=torch.float64)
    objective = Objective(model, lambda o, y: 1e4 * (o - y).square().sum(-1), x, y)
    product = Hessian(objective, objective.theta) @ objective.theta
    loss = 1e4 * (model(x) - y).square().sum(-1).mean()
    slopes = torch.autograd.grad(loss, list(model.parameters()), create_graph=True)
    along = sum((slope * p.detach()).sum() for slope, p in zip(slopes, model.parameters(), strict=True))
    expected = torch.cat([part.reshape(-1) for part in torch.autograd.grad(along, list(model.parameters()))])
    torch.testing.assert_close(product, expected, rtol=1e-4, atol=1e-5 * float(product.norm()))


@pytest.mark.parametrize("first", [0, 6])  # among the examples of the self-check, or only after them
def test_padding_is_a_constant_wherever_it_lies(first: int) -> None:
    torch.manual_seed(0)
    tokens, y = torch.randint(1, 7, (9, 2)), torch.randint(3, (9,))
    tokens[first:, 1] = 0
    model = Tokens(padding_idx=0).double()
    expected = dense(lambda: F.cross_entropy(model(tokens), y), model)
    assert_right(Objective(model, "cross_entropy", tokens, y), expected)


# ---------------------------------------------------------------- caches, and derivatives in the forward pass
class Caching(nn.Module):
    """Keeps a tensor that it computes from a parameter, as LeViT does in its eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.shift = net(), nn.Parameter(torch.ones(3, dtype=torch.float64))
        self.cache: dict[str, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        if "shift" not in self.cache:
            self.cache["shift"] = 2 * self.shift
        return self.inner(x) + self.cache["shift"]


@pytest.mark.parametrize("count", [1, 12])
def test_a_cache_of_what_depends_on_theta_is_refused(count: int) -> None:
    x, y = data(count)
    objective = Objective(Caching(), "cross_entropy", x, y)
    with pytest.raises(InputError, match="computed from its parameters in an earlier pass"):
        objective.value(objective.theta)
    model = net()
    nn.utils.parametrizations.orthogonal(model[0])
    objective = Objective(model, "cross_entropy", x, y)
    assert objective.value(objective.theta).isfinite()
    with nn.utils.parametrize.cached(), pytest.raises(InputError, match="switch the cache off"):
        Objective(model, "cross_entropy", x, y).value(objective.theta)


def test_models_that_differentiate_in_their_forward_pass_have_values_and_outputs() -> None:
    def slope(self: Any, x: Tensor) -> Tensor:
        x = x.clone().requires_grad_()
        return torch.autograd.grad(self.inner[0](x).square().sum(), x, create_graph=True)[0]

    x, y = data()
    model = Wrapped(first=slope)
    objective = Objective(model, "cross_entropy", x, y, chunk_size=5)
    with torch.no_grad():
        value, outputs = objective.value(objective.theta), objective.outputs(objective.theta)
    assert not value.requires_grad
    assert not outputs.requires_grad
    torch.testing.assert_close(outputs, model(x).detach())
    torch.testing.assert_close(value, F.cross_entropy(outputs, y))
    with torch.inference_mode(), pytest.raises(InputError, match="nothing can be differentiated"):
        objective.value(objective.theta)


# ---------------------------------------------------------------- asymmetric products where nothing converges
@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("use", [trace, diagonal, spectral_density], ids=lambda use: use.__name__)
def test_estimates_from_asymmetric_products_are_refused_or_warned_of(use: Any, dtype: torch.dtype) -> None:
    class Matrix:
        size, device = 300, torch.device("cpu")

        def __init__(self, skew: float, **claims: bool) -> None:
            torch.manual_seed(0)
            A = torch.randn(300, 300, dtype=torch.float64)
            self.A, self.dtype = (A + A.T + skew * (A - A.T)).to(dtype), dtype
            self.__dict__ |= claims

        def matmat(self, V: Tensor) -> Tensor:
            return self.A @ V

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        use(Matrix(skew=0.0))
        use(Matrix(skew=1e-7 if dtype == torch.float32 else 1e-12))
    with pytest.raises(InputError, match="the operator is not symmetric"):
        use(Matrix(skew=0.1))
    with pytest.warns(CurvatureWarning, match="not symmetric"):
        use(Matrix(skew=0.1, exact=True))
    x, y = data(dtype=dtype)
    model = net(nn.utils.weight_norm(nn.Linear(8, 8)), dtype=dtype)
    with pytest.warns(CurvatureWarning, match="weight_norm"):
        use(LossHessian(lambda: F.cross_entropy(model(x), y), model.parameters()))


def test_the_self_check_is_made_once_and_can_be_switched_off() -> None:
    calls = [0]

    def counted(self: Any, h: Tensor) -> Tensor:
        calls[0] += 1
        return h

    firsts = []
    for check in (True, False):
        objective = Objective(Wrapped(counted), "cross_entropy", *data(), chunk_size=12, check=check)
        theta, seen = objective.theta, []
        for _ in range(3):
            calls[0] = 0
            _ = Hessian(objective, theta) @ theta
            seen.append(calls[0])
        firsts.append(seen[0])
        assert seen[1:] == [1, 1]
    assert firsts[0] > firsts[1]
    mixing = Objective(Wrapped(normalised), "cross_entropy", *data(), check=False)
    assert mixing.value(mixing.theta).isfinite()
