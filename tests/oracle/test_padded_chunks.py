"""Chunks of padded examples, in order of length and cut to their longest, against one uncut chunk in float64."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from analysis.models import build
from analysis.models.transformer import Numbers
from sharpflat.curvature.objective import Objective
from sharpflat.curvature.operators import Hessian, joint_products
from sharpflat.errors import InputError

T, N = 12, 23


@pytest.fixture(scope="module")
def model() -> Any:
    numbers = Numbers(width=4, heads=2, feed_forward=4)
    return build(numbers, (9, T), 2, torch.Generator().manual_seed(0), torch.float64)


@pytest.fixture(scope="module")
def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(1, 9, (N, T), generator=generator)
    lengths = torch.randint(1, T - 1, (N,), generator=generator)
    tokens[torch.arange(T) >= lengths[:, None]] = 0
    return tokens, torch.randint(2, (N,), generator=generator)


@pytest.mark.parametrize("chunk_size", [None, 1, 4])
def test_order_and_cuts_change_nothing_beyond_rounding(model: Any, data: Any, chunk_size: int | None) -> None:
    tokens, labels = data
    whole = Objective(model, "mse", tokens, labels, chunk_size=N, check=False)
    cut = Objective(model, "mse", tokens, labels, chunk_size=chunk_size, lengths=model.lengths(tokens))
    theta = whole.theta
    close = {"rtol": 1e-11, "atol": 1e-13}
    for ours, oracle in zip(cut.value_and_gradient(theta), whole.value_and_gradient(theta), strict=True):
        torch.testing.assert_close(ours, oracle, **close)
    torch.testing.assert_close(cut.outputs(theta), whole.outputs(theta), **close)  # in the examples' own order
    V = torch.randn(cut.size, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    products = (Hessian(cut, theta).matmat(V), *joint_products(cut, theta, V))
    oracles = (Hessian(whole, theta).matmat(V), *joint_products(whole, theta, V))
    for ours, oracle in zip(products, oracles, strict=True):
        torch.testing.assert_close(ours, oracle, rtol=1e-10, atol=1e-12)


def test_a_minibatch_has_the_examples_of_its_indices(model: Any, data: Any) -> None:
    tokens, labels = data
    whole = Objective(model, "mse", tokens, labels, check=False)
    cut = Objective(model, "mse", tokens, labels, lengths=model.lengths(tokens), check=False)
    for indices in (torch.tensor([3]), torch.tensor([22, 0, 7]), torch.arange(N)):
        ours, oracle = (o.gradient(whole.theta, indices) for o in (cut, whole))
        torch.testing.assert_close(ours, oracle, rtol=1e-11, atol=1e-13)


def test_chunks_hold_examples_of_like_length_and_as_much_room(data: Any, model: Any) -> None:
    tokens, labels = data
    lengths = model.lengths(tokens)
    cut = Objective(model, "mse", tokens, labels, lengths=lengths, chunk_size=4, check=False)
    shapes = [tuple(x.shape) for x, _ in cut.in_chunks()]
    assert sum(count for count, _ in shapes) == N
    assert shapes[0] == (4, int(lengths.max()))
    assert [longest for _, longest in shapes] == sorted((longest for _, longest in shapes), reverse=True)
    assert shapes[-1][1] < int(lengths.max()) < T
    assert all(count * longest <= 4 * int(lengths.max()) for count, longest in shapes)
    for x, y in cut.in_chunks():
        for row, label in zip(x, y, strict=True):
            same = (tokens[:, : len(row)] == row).all(1) & (tokens[:, len(row) :] == 0).all(1) & (labels == label)
            assert bool(same.any())


def test_a_model_that_looks_at_padding_is_found_out(data: Any, model: Any) -> None:
    """The oracle can fail: a mean over all positions is another function once they are cut."""

    class Average(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = torch.nn.Embedding(9, 2, dtype=torch.float64)

        def forward(self, x: Tensor) -> Tensor:
            return self.words(x).mean(1)

    tokens, labels = data
    average = Average()
    whole = Objective(average, "mse", tokens, labels, check=False)
    cut = Objective(average, "mse", tokens, labels, lengths=model.lengths(tokens), check=False)
    assert float((whole.value(whole.theta) - cut.value(whole.theta)).abs()) > 1e-3


def test_lengths_count_up_to_the_last_word(model: Any) -> None:
    tokens = torch.tensor([[3, 0, 5, 0], [0, 0, 0, 0], [1, 1, 1, 1]])
    assert model.lengths(tokens).tolist() == [3, 0, 4]
    cut = Objective(model, "mse", tokens, torch.tensor([0, 1, 0]), lengths=model.lengths(tokens), chunk_size=1)
    whole = Objective(model, "mse", tokens, torch.tensor([0, 1, 0]), check=False)
    torch.testing.assert_close(cut.gradient(whole.theta), whole.gradient(whole.theta), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        (torch.ones(N - 1, dtype=torch.int64), f"lengths must be a tensor of {N} integers, one for each example"),
        (torch.ones(N), f"lengths must be a tensor of {N} integers, one for each example"),
        (torch.full((N,), T + 1), f"lengths must be 0 to {T}, the inputs' second dimension"),
        (torch.full((N,), -1), f"lengths must be 0 to {T}, the inputs' second dimension"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(model: Any, data: Any, lengths: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        Objective(model, "mse", *data, lengths=lengths)


def test_inputs_without_a_common_length_are_refused(model: Any, data: Any) -> None:
    tokens, labels = data
    for inputs in (tokens[:, 0], [tokens, tokens[:, :3]]):
        with pytest.raises(InputError, match=r"with lengths, all inputs must have the same shape \[N, T, \.\.\.\]"):
            Objective(model, "mse", inputs, labels, lengths=model.lengths(tokens))
    with pytest.raises(InputError, match="lengths need data in memory"):
        Objective(model, "mse", [(tokens, labels)], lengths=model.lengths(tokens))
