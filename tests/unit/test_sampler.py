"""Minibatches are a function of seed and step, and an epoch holds every example once."""

from __future__ import annotations

import torch

from analysis.training.sampler import Sampler


def test_an_epoch_holds_every_example_once_with_a_short_last_batch():
    sampler = Sampler(examples=23, batch_size=5, seed=1)
    batches = [sampler.indices(step) for step in range(5)]
    assert [len(b) for b in batches] == [5, 5, 5, 5, 3]
    assert torch.cat(batches).sort().values.tolist() == list(range(23))


def test_a_step_alone_gives_the_batch_it_has_in_order():
    ordered = Sampler(examples=23, batch_size=5, seed=1)
    in_order = [ordered.indices(step) for step in range(12)]
    for step in (11, 3, 7, 0):
        assert torch.equal(Sampler(examples=23, batch_size=5, seed=1).indices(step), in_order[step])


def test_epochs_and_seeds_differ():
    sampler = Sampler(examples=100, batch_size=100, seed=1)
    assert not torch.equal(sampler.indices(0), sampler.indices(1))
    assert not torch.equal(sampler.indices(0), Sampler(100, 100, 2).indices(0))


def test_full_batch_is_none():
    assert Sampler(examples=23, batch_size=None, seed=1).indices(5) is None


def test_batches_are_pinned():
    """A change of the generator would silently change every published number."""
    assert Sampler(examples=10, batch_size=4, seed=0).indices(0).tolist() == PINNED


PINNED = [0, 7, 8, 6]


def test_with_replacement_each_example_is_drawn_with_equal_chance_and_independently():
    sampler = Sampler(examples=2, batch_size=1, seed=3, replacement=True)
    drawn = torch.cat([sampler.indices(step) for step in range(8000)])
    assert set(drawn.tolist()) == {0, 1}
    assert abs(drawn.double().mean() - 0.5) < 4 * 0.5 / 8000**0.5
    repeats = (drawn[1:] == drawn[:-1]).double().mean()  # without replacement, every second draw would differ
    assert abs(repeats - 0.5) < 4 * 0.5 / 8000**0.5
    assert not torch.equal(drawn[:1000], drawn[1000:2000]), "epochs differ"


def test_with_replacement_a_step_alone_gives_the_batch_it_has_in_order():
    ordered = Sampler(examples=23, batch_size=5, seed=1, replacement=True)
    in_order = [ordered.indices(step) for step in range(1200)]
    assert {len(batch) for batch in in_order} == {5}
    for step in (1199, 3, 1000, 999):
        assert torch.equal(Sampler(23, 5, 1, replacement=True).indices(step), in_order[step])
