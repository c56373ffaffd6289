"""The linearised family against dense derivatives of the plain model, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.func import functional_call, jacrev

from analysis.models import build
from analysis.models.linearised import Numbers
from analysis.models.mlp import Numbers as MLPNumbers
from analysis.models.mlp_norm import Numbers as NormalisedNumbers
from sharpflat.curvature import operators
from sharpflat.curvature.objective import Objective
from sharpflat.curvature.operators import joint_products

GENERATOR = torch.Generator().manual_seed(5)
X = torch.randn(7, 1, 2, 3, dtype=torch.float64, generator=GENERATOR)
Y = torch.arange(7) % 3
MODELS = [MLPNumbers(width=4), NormalisedNumbers(width=4)]


def plain(of) -> tuple[nn.Module, torch.Tensor]:
    model = build(of, (1, 2, 3), 3, torch.Generator().manual_seed(2), torch.float64)
    theta = torch.cat([p.detach().flatten() for p in model.parameters()])
    return model, theta + 0.3 * torch.randn(theta.shape, dtype=theta.dtype, generator=torch.Generator().manual_seed(1))


def outputs_of(model: nn.Module, theta: torch.Tensor) -> torch.Tensor:
    named = dict(model.named_parameters())
    pieces = theta.split([p.numel() for p in named.values()])
    return functional_call(
        model, {n: piece.view(p.shape) for (n, p), piece in zip(named.items(), pieces, strict=True)}, X
    )


def objective(of, start: torch.Tensor, scale: float, chunk_size: int | None) -> Objective:
    wrapped = build(Numbers(of=of.model_dump()), (1, 2, 3), 3, torch.Generator().manual_seed(2), torch.float64)
    made = Objective(wrapped, "mse", X, Y, chunk_size=chunk_size, check=False)
    wrapped.about(made.vector.pieces(start), scale)
    return made


def loss_of_c(of, start: torch.Tensor, scale: float):
    """The loss of f_c, with f_lin from a dense Jacobian."""
    model, _ = plain(of)
    value, jacobian = outputs_of(model, start).detach(), jacrev(lambda t: outputs_of(model, t))(start).detach()
    targets = nn.functional.one_hot(Y, 3).double()

    def loss(theta):
        linear = value + jacobian @ (theta - start)
        outputs = linear + scale * (outputs_of(model, theta) - linear)
        return 0.5 * (outputs - targets).square().sum() / len(X)

    return loss, jacobian


@pytest.mark.parametrize("of", MODELS, ids=["mlp", "normalised"])
@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 2.0])
def test_at_the_switch_it_has_the_gradient_and_h_o_of_the_model_and_c_times_its_h_f(of, scale):
    _, start = plain(of)
    made, whole = objective(of, start, scale, None), objective(of, start, 1.0, None)
    assert torch.equal(whole.outputs(start), outputs_of(plain(of)[0], start))
    close = lambda a, b: torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)  # noqa: E731
    close(made.outputs(start), whole.outputs(start))
    close(made.gradient(start), whole.gradient(start))
    V = torch.eye(len(start), dtype=torch.float64)[:, ::5]
    (_, outer, functional), (_, outer_whole, functional_whole) = (joint_products(o, start, V) for o in (made, whole))
    assert float(functional_whole.norm()) > 0.1 * float(outer_whole.norm())
    close(outer, outer_whole)
    close(functional, scale * functional_whole)


@pytest.mark.parametrize("together", [True, False], ids=["blocks", "one by one"])
@pytest.mark.parametrize("of", MODELS, ids=["mlp", "normalised"])
@pytest.mark.parametrize("scale", [0.0, 0.5, 2.0])
def test_away_from_the_switch_its_derivatives_are_those_of_its_definition(of, scale, together, monkeypatch):
    monkeypatch.setattr(operators, "_BLOCK_BYTES", 1 << 40 if together else 0)
    _, start = plain(of)
    theta = start + 0.3 * torch.randn(start.shape, dtype=start.dtype, generator=torch.Generator().manual_seed(9))
    loss, jacobian = loss_of_c(of, start, scale)
    made = objective(of, start, scale, 3)  # a ragged last chunk
    torch.testing.assert_close(made.gradient(theta), torch.func.grad(loss)(theta), rtol=1e-10, atol=1e-12)
    H = torch.autograd.functional.hessian(loss, theta)  # torch.func.hessian is wrong for layer norm in torch 2.11
    full, outer, _ = joint_products(made, theta, torch.eye(len(theta), dtype=torch.float64))
    torch.testing.assert_close(full, H, rtol=1e-9, atol=1e-11)
    if scale == 0.0:
        flat = jacobian.flatten(0, 1)
        torch.testing.assert_close(outer, flat.T @ flat / len(X), rtol=1e-9, atol=1e-11)
