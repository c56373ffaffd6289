"""SubspaceSGD if something is wrong: it warns once, ranks are compared, and checkpoints of other dtypes continue."""

from __future__ import annotations

import copy
import functools
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sharpflat import CurvatureWarning, InputError, LossHessian, Objective, SubspaceSGD, top_eigenspace
from sharpflat.optim import subspace_filter
from sharpflat.optim.distributed import check_ranks_agree
from sharpflat.optim.refresh import Refresh

ROOT = Path(__file__).parents[2]


def problem(dtype: torch.dtype = torch.float32) -> tuple[nn.Sequential, Tensor, Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 20), nn.Tanh(), nn.Linear(20, 3)).to(dtype)
    return model, torch.randn(60, 6).to(dtype), torch.randint(3, (60,))


def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return cross_entropy(model(x), y)


def steps(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, count: int) -> Tensor:
    for _ in range(count):
        optimizer.zero_grad()
        loss(model, x, y).backward()
        optimizer.step()
    return nn.utils.parameters_to_vector(model.parameters()).detach()


def dom_sgd(model: nn.Module, curvature: Any, **others: Any) -> SubspaceSGD:
    options = {"lr": 0.1, "alpha_dom": 0.0, "beta_bulk": 1.0, "k": 3, "refresh_every": 2} | others
    return SubspaceSGD(model.parameters(), curvature=curvature, **options)


# ---------------------------------------------------------------- warnings
def test_reduced_precision_warns_once_and_finds_the_subspace() -> None:
    model, x, y = problem()

    def autocast() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return loss(model, x, y)

    exact = top_eigenspace(LossHessian(lambda: loss(model, x, y), model.parameters()), 3, tolerance=1e-4)
    optimizer = dom_sgd(model, autocast)
    with pytest.warns(CurvatureWarning, match=r"step 0: .* did not converge .*not symmetric.*autocast"):
        steps(model, optimizer, x, y, 1)
    found = optimizer.state[next(model.parameters())]["subspace"]["dominant"]
    with warnings.catch_warnings():
        warnings.simplefilter("error", CurvatureWarning)  # said once
        steps(model, optimizer, x, y, 5)
    assert float((exact.eigenvectors.T @ found).square().sum()) / 3 > 0.9
    assert optimizer.unconverged_refreshes == optimizer.refreshes == 3
    assert "not symmetric" in str(optimizer.last_refresh and optimizer.last_refresh.reason)


def test_a_missed_budget_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x, y = problem()
    short = functools.partial(top_eigenspace, max_products=3)
    monkeypatch.setattr(subspace_filter, "top_eigenspace", short)
    with pytest.warns(CurvatureWarning, match=r"step 0: .*after 3 products: allow more"):
        steps(model, dom_sgd(model, functools.partial(loss, model, x, y)), x, y, 1)


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_wrong_second_derivatives_and_half_precision_warn() -> None:
    model, x, y = problem()
    nn.utils.weight_norm(model[0])
    with pytest.warns(CurvatureWarning, match="not symmetric"):
        steps(model, dom_sgd(model, functools.partial(loss, model, x, y)), x, y, 1)
    model, x, y = problem(torch.bfloat16)
    with pytest.warns(CurvatureWarning, match="not symmetric|convert the model to float32"):
        steps(model, dom_sgd(model, Objective(model, "cross_entropy", x, y)), x, y, 1)


@pytest.mark.parametrize("weights", [(0.0, 1.0), (1.0, 0.0), (1.0, 1.0)])
def test_a_nan_spreads_by_the_projection(weights: tuple[float, float]) -> None:
    """As documented: to all parameters, where SGD keeps it to one entry."""
    model, x, y = problem()
    optimizer = dom_sgd(model, lambda: loss(model, x, y), alpha_dom=weights[0], beta_bulk=weights[1])
    loss(model, x, y).backward()
    model[0].weight.grad[0, 0] = torch.nan
    optimizer.step()
    entries = nn.utils.parameters_to_vector(model.parameters())
    assert int(entries.isnan().sum()) == (1 if weights[0] == weights[1] else len(entries))


def test_nothing_is_said_where_all_is_well() -> None:
    model, x, y = problem()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer = dom_sgd(model, Objective(model, "cross_entropy", x, y))
        steps(model, optimizer, x, y, 4)
    assert (optimizer.refreshes, optimizer.unconverged_refreshes) == (2, 0)


# ---------------------------------------------------------------- 14: checkpoints of other dtypes
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (torch.float32, torch.float64),
        (torch.float64, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.bfloat16, torch.float64),
    ],
)
@pytest.mark.filterwarnings("ignore::sharpflat.errors.CurvatureWarning")
def test_a_checkpoint_of_another_dtype_goes_on(before: torch.dtype, after: torch.dtype) -> None:
    model, x, y = problem(before)
    optimizer = dom_sgd(model, functools.partial(loss, model, x, y), refresh_every=100)
    steps(model, optimizer, x, y, 2)
    other, x, y = problem(after)
    resumed = dom_sgd(other, functools.partial(loss, other, x, y), refresh_every=100)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    basis = resumed.state[next(other.parameters())]["subspace"]["dominant"]
    old = optimizer.state[next(model.parameters())]["subspace"]["dominant"]
    assert basis.dtype == after
    gram = basis.T @ basis
    assert float((gram - torch.eye(3, dtype=after)).abs().max()) < 20 * torch.finfo(after).eps
    assert float((basis.double() - old.double()).abs().max()) < 3 * max(torch.finfo(before).eps, torch.finfo(after).eps)
    steps(other, resumed, x, y, 1)
    assert (resumed.refreshes, resumed.steps) == (1, 3)
    broken = copy.deepcopy(optimizer.state_dict())
    broken["state"][0]["subspace"]["dominant"][:, 0] *= 1.3
    with pytest.raises(InputError, match="not orthonormal"):
        resumed.load_state_dict(broken)


# ---------------------------------------------------------------- 25: pickle
def test_what_cannot_be_pickled_is_said() -> None:
    model, x, y = problem()
    good = dom_sgd(model, functools.partial(loss, model, x, y))
    assert pickle.loads(pickle.dumps(good)).k == 3

    def inner() -> Tensor:
        return loss(model, x, y)

    for curvature, options in (
        (lambda: loss(model, x, y), {}),
        (inner, {}),
        (functools.partial(lambda m: loss(m, x, y), model), {}),
        (functools.partial(loss, model, x, y), {"alpha_dom": lambda step: 0.5}),
    ):
        optimizer = dom_sgd(model, curvature, **options)
        with pytest.raises(InputError, match=r"cannot be pickled.*save state_dict"):
            pickle.dumps(optimizer)
        steps(model, optimizer, x, y, 1)
        for made in (copy.deepcopy(optimizer), copy.copy(optimizer)):
            assert (made.steps, made.k, made.check_ranks) == (1, 3, True)


# ---------------------------------------------------------------- 9: ranks
SCRIPT = """
import sys, torch, warnings
import torch.distributed as dist
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from sharpflat import InputError, Objective, SubspaceSGD

rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
torch.set_num_threads(1)
for holdout, objective in ((slice(40, 80), True), (slice(40 + rank, 80, 2), False)):  # one for both, and one each
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    inputs, labels = torch.randn(80, 4), torch.randint(3, (80,))
    ddp = DistributedDataParallel(model)
    mine = slice(rank, 40, 2)
    if objective:
        curvature = Objective(ddp, "cross_entropy", inputs[holdout], labels[holdout])
    else:
        curvature = lambda: cross_entropy(model(inputs[holdout]), labels[holdout])
    optimizer = SubspaceSGD(model.parameters(), 0.1, alpha_dom=0.0, k=2, refresh_every=2, curvature=curvature)
    try:
        for _ in range(6):
            optimizer.zero_grad()
            cross_entropy(ddp(inputs[mine]), labels[mine]).backward()
            optimizer.step()
        theta = nn.utils.parameters_to_vector(model.parameters()).detach()
        both = [torch.empty_like(theta) for _ in range(2)]
        dist.all_gather(both, theta)
        print("equal" if torch.equal(*both) else "apart", optimizer.refreshes)
    except InputError as error:
        print(error)
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes(tmp_path: Path) -> None:
    """One holdout for all ranks keeps them bit-identical. Different holdouts are refused on both."""
    command = [sys.executable, "-c", SCRIPT]
    started = [
        subprocess.Popen([*command, str(rank), str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    for process in started:
        output, _ = process.communicate(timeout=240)
        one, each = output.splitlines()
        assert one == "equal 3"
        assert "step 0: the ranks found different curvature" in each
        assert process.returncode == 0


def test_one_process_compares_nothing() -> None:
    check_ranks_agree(Refresh(0, torch.ones(2), 0.0, 1.0, 3, True), 4)


@pytest.mark.parametrize(("following", "agree"), [(4, True), (7, False)])
def test_ranks_that_would_refresh_at_different_steps_are_refused(
    monkeypatch: pytest.MonkeyPatch, following: int, agree: bool
) -> None:
    """Their gradients differ: a rank that refreshed alone would wait for the other for ever."""
    refresh = Refresh(3, torch.tensor([2.0, 1.0]), 0.0, 1.0, 3, True)

    def with_the_other(mine: torch.Tensor, op: object) -> None:
        other = torch.tensor([3.0, -3.0, 2.0, following, -following], dtype=mine.dtype)
        mine.copy_(torch.maximum(mine, other))

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", with_the_other)
    if agree:
        check_ranks_agree(refresh, 4)
    else:
        with pytest.raises(InputError, match=r"next refreshes would be 4 to 7 steps away.*Average the gradients"):
            check_ranks_agree(refresh, 4)
