"""Small problems whose curvature can be written down densely, in float64."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, hessian, jacrev

from sharpflat.curvature.objective import Objective
from sharpflat.losses import per_example_loss


class CheckedLayerNorm(nn.LayerNorm):
    """`nn.LayerNorm`, or with `plain` the same function from elementary operations, for dense references.

    torch 2.11 gives wrong second derivatives for the built-in layer norm under `torch.func.hessian` and under
    `vmap` of a forward-over-reverse product; double backward passes are right.
    """

    plain = False

    def forward(self, input: Tensor) -> Tensor:
        if not self.plain:
            return super().forward(input)
        centred = input - input.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + self.eps).sqrt() * self.weight + self.bias


class TinyTransformer(nn.Module):
    """One block over token ids, with plain attention and the embedding tied to the output."""

    def __init__(self, vocabulary: int = 5, width: int = 4, length: int = 3) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(0.5 * torch.randn(length, width))
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.norm = CheckedLayerNorm(width)
        self.readout = nn.Linear(width, vocabulary, bias=False)
        self.readout.weight = self.embed.weight  # tied
        self.register_buffer("scale", torch.tensor(1 / math.sqrt(width)))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens) + self.positions
        q, k, v = self.qkv(self.norm(x)).chunk(3, dim=-1)
        weights = torch.softmax(q @ k.transpose(-1, -2) * self.scale, dim=-1)
        return self.readout((x + weights @ v).mean(dim=1))


def smooth_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """A callable loss that is neither quadratic nor convex, so that nothing is right by accident."""
    return torch.cos(outputs).sum(1) + 0.3 * (outputs - targets).pow(4).sum(1)


def linear_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Linear in the outputs: no Gauss–Newton part at all."""
    return (outputs * targets).sum(1)


@dataclass
class Problem:
    """A model with data; `dense()` gives its Hessian and both parts by plain autodiff."""

    model: nn.Module
    loss: str | Callable[[Tensor, Tensor], Tensor]
    inputs: Tensor
    targets: Tensor

    def objective(self, chunk_size: int | None = None) -> Objective:
        return Objective(self.model, self.loss, self.inputs, self.targets, chunk_size=chunk_size)

    def functions(self, plain: bool = False) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor], Tensor]:
        """(outputs of θ, loss of outputs, θ), written independently of `Objective`."""
        # A copy: `functional_call` does not put the parameters of a module that occurs twice back.
        model = copy.deepcopy(self.model)
        for module in model.modules():
            if isinstance(module, CheckedLayerNorm):
                module.plain = plain
        named = {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}
        theta = torch.cat([p.flatten() for p in named.values()])

        def outputs(vector: Tensor) -> Tensor:
            pieces = vector.split([p.numel() for p in named.values()])
            swapped = {n: v.view_as(p) for (n, p), v in zip(named.items(), pieces, strict=True)}
            return functional_call(model, swapped, (self.inputs,))

        per_example = per_example_loss(self.loss) if isinstance(self.loss, str) else self.loss

        def mean_loss(z: Tensor) -> Tensor:
            return per_example(z, self.targets).mean()

        return outputs, mean_loss, theta

    @functools.cached_property
    def dense(self) -> dict[str, Tensor]:
        """{"H", "H_o", "H_f"}: dense [P, P] float64 matrices."""
        outputs, mean_loss, theta = self.functions(plain=True)
        z = outputs(theta)
        jacobian = jacrev(outputs)(theta).flatten(0, -2)
        bend = hessian(mean_loss)(z).reshape(z.numel(), z.numel())
        slope = jacrev(mean_loss)(z)
        return {
            "H": hessian(lambda t: mean_loss(outputs(t)))(theta),
            "H_o": jacobian.T @ bend @ jacobian,
            "H_f": hessian(lambda t: (slope.detach() * outputs(t)).sum())(theta),
        }


def mlp() -> Problem:
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    return Problem(model, "mse", torch.randn(7, 4), torch.randint(3, (7,)))


def cnn() -> Problem:
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(12, 3),
    )  # fmt: skip
    return Problem(model, "cross_entropy", torch.randn(7, 1, 8, 8), torch.randint(3, (7,)))


def transformer() -> Problem:
    return Problem(TinyTransformer(), "cross_entropy", torch.randint(5, (7, 3)), torch.randint(5, (7,)))


def custom() -> Problem:
    """Frozen first bias, shared middle layer, buffers in an evaluated batch norm, a loss of its own."""
    shared = nn.Linear(4, 4)
    norm = nn.BatchNorm1d(4).eval()
    norm.running_mean = torch.randn(4)
    norm.running_var = torch.rand(4) + 0.5
    model = nn.Sequential(nn.Linear(3, 4), shared, nn.Softplus(), norm, shared, nn.Tanh(), nn.Linear(4, 2))
    model[0].bias.requires_grad_(False)
    return Problem(model, smooth_loss, torch.randn(7, 3), torch.randn(7, 2))


PROBLEMS = {"mlp": mlp, "cnn": cnn, "transformer": transformer, "custom": custom}


@functools.cache
def make(name: str) -> Problem:
    """The problem of that name, in float64, the same one every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            return PROBLEMS[name]()
        finally:
            torch.set_default_dtype(before)


@pytest.fixture(params=list(PROBLEMS))
def problem(request: pytest.FixtureRequest) -> Problem:
    """Each of the problems."""
    return make(request.param)


@pytest.fixture(autouse=True)
def _isolated() -> Iterator[None]:
    """One thread (small matrices gain nothing from two), and the global random state as before."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
    torch.set_num_threads(threads)
