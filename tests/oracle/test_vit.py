"""The vision transformer against torch's own encoder and dense derivatives, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from analysis.models import build
from analysis.models.mlp_norm import Numbers as NormalisedNumbers
from analysis.models.vit import Numbers
from sharpflat.curvature.objective import Objective
from sharpflat.curvature.operators import Hessian

SMALL = Numbers(patch=2, width=4, heads=2, layers=2, feed_forward=3)
X = torch.randn(5, 2, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(5))  # a row is cut off


def vit(numbers=SMALL) -> nn.Module:
    return build(numbers, (2, 5, 4), 3, torch.Generator().manual_seed(1), torch.float64)


def test_it_is_torchs_pre_norm_encoder_on_patches():
    model = vit()
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(
            4, 2, 3, dropout=0.0, activation="gelu", batch_first=True, norm_first=True, dtype=torch.float64
        ),
        2,
        enable_nested_tensor=False,
    )
    theirs = ("norm1.", "norm2.", "self_attn.", "linear1.", "linear2.")
    ours = ("norm_attention.", "norm_feed_forward.", "attention.", "expand.", "contract.")
    state = model.layers.state_dict()
    for a, b in zip(ours, theirs, strict=True):
        state = {k.replace(a, b): v for k, v in state.items()}
    encoder.layers.load_state_dict(state)
    corners = [X[:, :, i : i + 2, j : j + 2].flatten(1) for i in (0, 2) for j in (0, 2)]
    patches = torch.stack(corners, 1) @ model.embed.weight.flatten(1).T + model.embed.bias
    x = torch.cat([model.class_token.weight.expand(5, 1, -1), patches], 1) + model.positions.weight
    expected = model.readout(nn.functional.layer_norm(encoder(x)[:, 0], (4,)))
    torch.testing.assert_close(model(X), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("numbers", "inputs"), [(SMALL, (2, 5, 4)), (NormalisedNumbers(width=5), (2, 5, 4))])
def test_the_parameters_are_as_many_as_said(numbers, inputs):
    model = vit(numbers)
    assert sum(p.numel() for p in model.parameters()) == numbers.parameter_count(inputs, 3)


def test_the_normalised_mlp_is_the_composition_it_says():
    model = vit(NormalisedNumbers(width=5))
    _, first, norm, _, second, norm_second, _, last = model
    hidden = torch.tanh(nn.functional.layer_norm(X.flatten(1) @ first.weight.T + first.bias, (5,)))
    hidden = torch.tanh(nn.functional.layer_norm(hidden @ second.weight.T + second.bias, (5,)))
    torch.testing.assert_close(model(X), hidden @ last.weight.T + last.bias, rtol=1e-12, atol=1e-12)
    assert norm.weight.shape == norm_second.weight.shape == (5,)


def test_products_with_its_hessian_are_dense_ones():
    model = vit(Numbers(patch=2, width=2, heads=1, layers=1, feed_forward=2))
    objective = Objective(model, "mse", X, torch.arange(5) % 3, chunk_size=2)
    theta = objective.theta + 0.3 * torch.randn(
        objective.size, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )

    def loss(theta):
        named, at = {}, 0
        for name, p in model.named_parameters():
            named[name] = theta[at : at + p.numel()].view(p.shape)
            at += p.numel()
        error = torch.func.functional_call(model, named, (X,)) - nn.functional.one_hot(torch.arange(5) % 3, 3)
        return 0.5 * error.square().sum() / 5

    dense = torch.autograd.functional.hessian(loss, theta)
    V = torch.eye(len(theta), dtype=torch.float64)[:, ::7]
    torch.testing.assert_close(Hessian(objective, theta).matmat(V), dense[:, ::7], rtol=1e-9, atol=1e-10)


def test_numbers_that_fit_no_model_are_refused():
    with pytest.raises(ValueError, match="the width 5 must be a multiple of the number of heads, 2"):
        Numbers(patch=2, width=5, heads=2, feed_forward=3).parameter_count((1, 4, 4), 2)
    with pytest.raises(ValueError, match="patches of 5 × 5 pixels do not fit images of 4 × 4"):
        Numbers(patch=5, width=4, heads=2, feed_forward=3).parameter_count((1, 4, 4), 2)
